"""Dubbing: what is pasted, what is left alone, whose face speaks, and what a list of pairs leaves behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import make_audio
from runs import pipeline
from tiny_models import tiny_generator

from syncdiff_data.demo import talker_clip
from syncdiff_data.faces import Track
from syncdiff_data.media import Video, audio, read_audio, soundtrack, write_video
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError, UserError
from syncdiff_model.compositing import covered, paste_face
from syncdiff_model.dub_pairs import content_hash, read_pairs, stale_dubs
from syncdiff_model.dubbing import Dubber, DubConfig, DubFailure, DubPair, choose_faces
from syncdiff_model.mask import MaskConfig, soft_mask

T = TypeVar("T")
SHOWN = soft_mask(MaskConfig(top=0.5, feather=0.1), 64).numpy()


@settings(max_examples=30, deadline=None)
@given(
    scale=st.floats(0.3, 2.0),
    degrees=st.floats(-40, 40),
    x=st.floats(-40, 80),
    y=st.floats(-40, 80),
)
def test_pixels_outside_the_mask_are_untouched(scale: float, degrees: float, x: float, y: float) -> None:
    """Whatever the pose, also half outside the frame: a pixel whose place in the crop lies a pixel outside the mask
    keeps its value, and some pixel well inside the mask does not."""
    turn = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    affine = np.column_stack([linear, [x, y]]).astype(np.float32)
    frame = np.random.default_rng(0).integers(0, 200, (90, 120, 3), dtype=np.uint8)
    pasted = paste_face(frame, np.full((64, 64, 3), 255, np.uint8), SHOWN, affine)
    rows, columns = np.mgrid[:90, :120]
    u, v = np.einsum("ij,jhw->ihw", np.linalg.inv(linear), np.stack([columns - x, rows - y]))
    outside = (v < 31 - 1 / scale) | (v > 64 + 1 / scale) | (u < -1 - 1 / scale) | (u > 64 + 1 / scale)
    assert np.array_equal(pasted[outside], frame[outside])
    inside = (v > 42) & (v < 54) & (u > 10) & (u < 54)
    assert np.all(pasted[inside] == 255)


def test_a_mask_that_shows_nothing_changes_nothing() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    nothing, identity = np.zeros((64, 64), np.float32), np.eye(2, 3)
    assert covered(nothing, identity, 40, 40) == (0, 0, 0, 0)
    assert np.array_equal(paste_face(frame, np.zeros((64, 64, 3), np.uint8), nothing, identity), frame)
    away = np.array([[1, 0, 500], [0, 1, 500]], np.float32)
    assert np.array_equal(paste_face(frame, np.zeros((64, 64, 3), np.uint8), SHOWN, away), frame)


def face_of(first: int, num_frames: int, side: float, number: int = 0) -> Track:
    """A track from frame `first` on whose face fills a square of that side."""
    box = np.tile(np.array([0, 0, side, side], np.float32), (num_frames, 1))
    return Track(number, first, box, np.zeros((num_frames, 68, 2), np.float32))


def test_the_largest_face_speaks_and_gaps_are_filled_by_others() -> None:
    near, far, later = face_of(0, 50, 90), face_of(25, 100, 40), face_of(50, 25, 60)
    assert choose_faces([far, later, near], "largest") == [near, later]


def test_faces_are_chosen_by_number_or_all() -> None:
    first, second = face_of(25, 100, 40), face_of(0, 50, 90, number=1)
    assert choose_faces([first, second], "all") == [second, first]
    assert choose_faces([first, second], "1") == [second]
    with pytest.raises(MediaError, match="no face number 7; there are 0, 1"):
        choose_faces([first, second], "7")
    with pytest.raises(UserError, match="--face 'left': expected largest, speaking, all"):
        Dubber(tiny_generator(), DubConfig(face="left"))


def test_nobody_speaks_in_a_video_without_sound(media: Path, tmp_path: Path) -> None:
    frames, _, _ = talker_clip(1, num_frames=15)
    write_video(tmp_path / "mute.mp4", frames, None)
    speaking = Dubber(tiny_generator(), DubConfig(face="speaking"))
    failure = speaking.dub(DubPair(tmp_path / "mute.mp4", media / "long.mp4", tmp_path / "dub.mp4"))
    assert failure is not None
    assert failure.reason == "no_audio"
    assert "--face largest" in failure.detail
    assert speaking.dub(DubPair(media / "talker.mp4", media / "long.mp4", tmp_path / "dub.mp4")) is None


@pytest.fixture(scope="module")
def dubber() -> Dubber:
    return Dubber(tiny_generator(), DubConfig())


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A talker of 15 frames, the sound of 8 and of 30 frames, and a video of no one."""
    folder = tmp_path_factory.mktemp("media")
    frames, spoken, _ = talker_clip(1, num_frames=15)
    write_video(folder / "talker.mp4", frames, spoken)
    _, sound, _ = talker_clip(2, num_frames=30)
    write_video(folder / "long.mp4", [np.zeros((32, 32, 3), np.uint8)] * 30, sound)
    write_video(folder / "short.mp4", [np.zeros((32, 32, 3), np.uint8)] * 8, sound[: 8 * 640])
    return folder


def test_dub_keeps_length_size_and_upper_face(dubber: Dubber, media: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "dub.mp4"
    assert dubber.dub(DubPair(media / "talker.mp4", media / "long.mp4", out)) is None
    source, dub = Video(media / "talker.mp4"), Video(out)
    assert (dub.num_frames, dub.width, dub.height) == (15, source.width, source.height)
    sound, wanted = (read_audio(path, 0, 15) for path in (out, media / "long.mp4"))
    assert np.corrcoef(sound, wanted)[0, 1] > 0.95
    pairs = list(zip(source.frames(), dub.frames()))
    change = np.mean([np.abs(old.astype(int) - new) for old, new in pairs], axis=(0, 3))
    assert change[:80].mean() < 3
    assert change.max() > 20


def test_sound_file_without_sound_is_a_failure(dubber: Dubber, media: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "mute.mp4", [np.zeros((32, 32, 3), np.uint8)] * 5, None)
    failure = dubber.dub(DubPair(media / "talker.mp4", tmp_path / "mute.mp4", tmp_path / "dub.mp4"))
    assert isinstance(failure, DubFailure)
    assert failure.reason is Reason.NO_AUDIO
    assert not (tmp_path / "dub.mp4").exists()


def test_kind_3_an_output_that_cannot_be_written_is_a_failure(
    dubber: Dubber, media: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    failure = dubber.dub(DubPair(media / "talker.mp4", media / "long.mp4", tmp_path / "file" / "dub.mp4"))
    assert isinstance(failure, DubFailure)
    assert failure.reason is Reason.WRITE_ERROR


@pytest.mark.parametrize("output", ["talker.mp4", "x/../long.mp4", "link.mp4"])
def test_no_dub_takes_the_place_of_what_it_is_made_from(media: Path, tmp_path: Path, output: str) -> None:
    (tmp_path / "link.mp4").symlink_to(media / "talker.mp4")
    out = tmp_path / output if output == "link.mp4" else media / output
    made_from = {"video": media / "talker.mp4", "audio": media / "long.mp4"}
    before = [path.read_bytes() for path in made_from.values()]
    module = pipeline("synthesize")
    with pytest.raises(UserError, match="is read, and a dub would take its place"):
        module.main(module.Options(model="wav2lip", out=out, overwrite=True, **made_from))
    assert [path.read_bytes() for path in made_from.values()] == before


def test_a_folder_for_faces_that_can_be_none_and_a_video_beside_a_list_are_refused_at_once(
    tmp_path: Path,
) -> None:
    main, options = pipeline("synthesize").main, pipeline("synthesize").Options
    (tmp_path / "file").touch()
    paths = {"out": tmp_path / "a.mp4", "video": tmp_path / "b.mp4", "audio": tmp_path / "c.wav"}
    with pytest.raises(UserError, match=r"--face-cache .* cannot be written \(Not a directory\)"):
        main(options("wav2lip", **paths, config=DubConfig(face_cache=tmp_path / "file")))
    with pytest.raises(UserError, match="Give either --video and --audio, or --pairs"):
        main(options("wav2lip", tmp_path, video=tmp_path / "a.mp4", pairs=tmp_path / "a.csv"))


def test_a_named_pipe_in_a_list_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", tmp_path, tmp_path / "none.mp4", Path("zero\0byte.mp4")):
        assert content_hash(path) is None


def test_folders_in_the_place_of_dubs_stay(tmp_path: Path) -> None:
    (tmp_path / "old.mp4").mkdir()
    (tmp_path / "older.mp4").touch()
    (tmp_path / "dubs.json").write_text('{"pairs": [["a", "b", "old.mp4"], ["a", "b", "older.mp4"]]}')
    assert stale_dubs(tmp_path, {}, overwrite=True) == [tmp_path / "older.mp4", tmp_path / "dubs.csv"]
    (tmp_path / "dubs.csv").mkdir()
    with pytest.raises(UserError, match=r"dubs\.csv is a folder"):
        stale_dubs(tmp_path, {}, overwrite=True)


def test_sound_that_is_cut_off_is_not_read(
    dubber: Dubber, tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute takes as many reads as two seconds."""
    packets, blocks = soundtrack._packets, audio.decoded_sound
    reads: list[int] = []
    monkeypatch.setattr(soundtrack, "_packets", lambda *given: noted(packets(*given)))
    monkeypatch.setattr(audio, "decoded_sound", lambda path: noted(blocks(path)))

    def noted(things: Iterator[T]) -> Iterator[T]:
        for thing in things:
            reads[-1] += 1
            yield thing

    for seconds in (2, 60):
        sound = np.tile(np.arange(-800, 800, 10, np.int16), 100 * seconds)
        path = make_audio(tmp_path / "sound.m4a", sound[None], 16_000, "aac")
        reads.append(0)
        assert dubber.dub(DubPair(media / "talker.mp4", path, tmp_path / "dub.mp4")) is None
    assert reads[0] == reads[1] > 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "video,audio\na,b\n",
        "video,audio,output\na,b,\n",
        "video,audio,output\na,b,c.mp4\nd,e,c.mp4\n",
        "video,audio,output\na,b,../c.mp4\n",
    ],
)
def test_wrong_table_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(UserError, match=r"needs a header line|expected a value|named twice|lies outside"):
        read_pairs(tmp_path / "pairs.csv", tmp_path / "out")


def test_missing_table_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_pairs(tmp_path / "pairs.csv", tmp_path)
