"""Kinds of fault that users of such tools reported, numbered as in docs/reliability.md."""

from __future__ import annotations

import errno
import io
import itertools
import shutil
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import make_video, numbered
from rich.console import Console

from syncdiff_data.loader import stream
from syncdiff_data.media import AudioTrack, Video, encode, probe, write_video
from syncdiff_data.media.video import MAX_GAP_S, _check_gaps
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError, UserError
from syncdiff_data.sources.folder import read_manifest
from syncdiff_data.stage import is_transient
from syncdiff_data.stage.faults import failure_of
from syncdiff_data.tables import plain_cell, read_csv
from syncdiff_model.dub_pairs import check_outputs, read_pairs


def moving_noise(frames: int = 30) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (96, 128, 3), dtype=np.uint8) for _ in range(frames)]


def written(folder: Path, frames: list[np.ndarray]) -> bytes:
    write_video(folder / "a.mp4", frames, np.zeros(640 * len(frames), np.int16))
    return (folder / "a.mp4").read_bytes()


def test_kinds_13_and_37_equal_frames_give_equal_bytes_whatever_code_x264_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = moving_noise()
    plain = written(tmp_path, frames)
    assert all(written(tmp_path, frames) == plain for _ in range(5))

    def pictures() -> list[bytes]:
        with av.open(str(tmp_path / "a.mp4")) as container:
            return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]

    decoded = pictures()
    for switch in ("asm=0", "asm=sse2", "asm=avx2"):
        monkeypatch.setattr(encode, "X264_PARAMS", f"cpu-independent=1:{switch}")
        written(tmp_path, frames)
        assert pictures() == decoded, switch


def test_kind_14_tags_that_are_not_utf8_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Latin-1: XXXX"
        video = encode.add_video_stream(container, (96, 64), "yuv420p", Fraction(25), 20)
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    path.write_bytes(path.read_bytes().replace(b"XXXX", b"\xe9\xe8\xfc\xff"))
    assert Video(path).num_frames == 5


def test_kind_14_the_reported_file(shared: Path) -> None:
    """Its video codec is damaged too, so that it is a reject, with a reason that says so."""
    with pytest.raises(MediaError, match="no decoder"):
        Video(shared / "faults/metadata/title_not_utf8.mp4")


def test_kind_1_the_reported_files(shared: Path) -> None:
    for name in ("epoch.mkv", "jump_600s.mp4"):
        with pytest.raises(MediaError) as caught:
            Video(shared / "faults/timestamps" / name)
        assert caught.value.reason is Reason.BROKEN_TIMESTAMPS
    assert Video(shared / "faults/timestamps/good.mp4").num_frames > 10


@given(st.lists(st.integers(-(2**62), 2**62), min_size=2, max_size=20).map(sorted), st.integers(1, 90_000))
def test_kind_1_frames_are_bounded_by_coded_frames(pts: list[int], rate: int) -> None:
    time_base = Fraction(1, rate)
    broken = any((b - a) * time_base > MAX_GAP_S for a, b in itertools.pairwise(pts))
    if broken:
        with pytest.raises(MediaError, match="the clock jumps"):
            _check_gaps(pts, time_base)
    else:
        _check_gaps(pts, time_base)
        assert (pts[-1] - pts[0]) * time_base <= MAX_GAP_S * len(pts)


@pytest.mark.parametrize("channels", [9, 17, 32])
def test_kind_12_many_channels_become_their_mean(tmp_path: Path, channels: int) -> None:
    tone = (8000 * np.sin(np.arange(16_000) / 8)).astype(np.int16)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.repeat(tone[:, None], channels, axis=1).tobytes())
    heard = AudioTrack(tmp_path / "a.wav").slice(0.0, 25)
    assert np.abs(heard.astype(int) - tone).max() <= 2


def test_kind_12_the_reported_file(shared: Path) -> None:
    assert AudioTrack(shared / "faults/audio/poly09ch.wav").end_s > 0.5


@pytest.mark.parametrize("name", ["face.mp4", "face.jpg"])
def test_kind_12_a_still_picture_is_called_one(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / "x.jpg"), numbered(1))
    (tmp_path / "x.jpg").rename(tmp_path / name)
    with pytest.raises(MediaError, match="a still picture"):
        Video(tmp_path / name)


def test_kind_12_a_picture_of_a_phone_is_called_one(tmp_path: Path) -> None:
    """HEIC and AVIF begin as an MP4 does, and have no moov box."""
    (tmp_path / "face.mp4").write_bytes(b"\0\0\0\x10ftypheic\0\0\0\0\0\0\0\x0cmeta\0\0\0\0")
    with pytest.raises(MediaError, match="a still picture"):
        Video(tmp_path / "face.mp4")


@pytest.mark.parametrize(
    "text",
    ["ffconcat version 1.0\nfile good.mp4\n", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\ngood.mp4\n"],
)
def test_kind_19_a_list_of_files_opens_none_of_them(tmp_path: Path, text: str) -> None:
    write_video(tmp_path / "good.mp4", moving_noise(5), None)
    (tmp_path / "a.mp4").write_text(text)
    with pytest.raises(MediaError) as caught:
        Video(tmp_path / "a.mp4")
    assert caught.value.reason is Reason.UNREADABLE


def test_kind_9_a_colon_in_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", moving_noise(5), None)
    shutil.copy(tmp_path / "a.mp4", tmp_path / "12:30:45.mp4")
    monkeypatch.chdir(tmp_path)
    assert Video("12:30:45.mp4").num_frames == 5


def test_kind_3_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".mp4")
    write_video(path, moving_noise(5), None)
    assert Video(path).num_frames == 5


def test_kind_36_workers_do_not_inherit_the_threads_of_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked worker would wait for OpenCV's pool, whose threads a fork does not copy."""
    seen: list[object] = []

    def spy(*_: object, multiprocessing_context: object = None, **__: object) -> Iterator[object]:
        seen.append(multiprocessing_context)
        return iter(())

    class Dataset:
        start = 0

    monkeypatch.setattr(stream, "DataLoader", spy)
    assert list(stream.Loader(Dataset(), workers=2)) == []  # type: ignore[arg-type]
    assert seen == ["forkserver"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfvideo,audio,output\r\na.mp4,b.wav,c.mp4\r\n",
        b"video, audio, output\na.mp4, b.wav, c.mp4\n\n\n",
        b"\nvideo,audio,output\n a.mp4 ,b.wav,c.mp4\n,,\n",
    ],
)
def test_kind_8_csv_files_as_spreadsheets_write_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pairs.csv").write_bytes(content)
    (pair,) = read_pairs(tmp_path / "pairs.csv", tmp_path / "out")
    assert (pair.video.name, pair.audio.name, pair.output.name) == ("a.mp4", "b.wav", "c.mp4")
    assert read_csv(tmp_path / "pairs.csv", ["video"])[0]["audio"] == "b.wav"


def test_kind_8_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """The last one was taken, without a word."""
    (tmp_path / "pairs.csv").write_text("video,audio,video,,\na.mp4,b.wav,c.mp4,,\n")
    with pytest.raises(UserError, match=r"pairs\.csv has more than one column video: keep one"):
        read_csv(tmp_path / "pairs.csv", ["video"])


@pytest.mark.parametrize(
    "names",
    [
        ["dubs.csv"], ["Dubs.JSON"], ["a.avi"], ["a"], ["a.mp4", "A.mp4"], ["e\u0301.mp4", "\u00e9.mp4"],
        ["a.mp4", "a.mp4/b.mp4"], ["a.mp4", "./a.mp4"], ["../a.mp4"], ["/tmp/a.mp4"], ["x" * 252 + ".mp4"],
    ],
)  # fmt: skip
def test_kinds_8_3_and_12_outputs_that_clash_are_found_before_the_work(
    names: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError):
        check_outputs(tmp_path / "pairs.csv", names, tmp_path)
    check_outputs(tmp_path / "pairs.csv", ["a.mp4", "b/a.mp4", "b/c.MP4"], tmp_path)


def test_kind_46_manifests_do_not_lead_out_of_their_folder(tmp_path: Path) -> None:
    (tmp_path / "list").mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (tmp_path / "list" / "list.csv").write_text("path\n../secret.mp4\n")
    with pytest.raises(UserError, match="lead out of the folder"):
        read_manifest(tmp_path / "list" / "list.csv")


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1", "@a", "\tb", "\rc"])
def test_kind_19_no_cell_is_a_formula(text: str) -> None:
    assert plain_cell(text) == "'" + text
    assert plain_cell("wav2lip") == "wav2lip"


def test_kind_18_names_are_printed_as_they_are(tmp_path: Path) -> None:
    from syncdiff_data.recipe import Recipe
    from syncdiff_data.shards.inspect import summarise
    from syncdiff_data.shards.lifecycle import start_dataset
    from syncdiff_data.shards.store import Store

    folder = tmp_path / "Talk [dQw4w9WgXcQ] [" / "b]"
    start_dataset(Store(folder), Recipe.of("clips", "[red]x", 1, {}, {}), "0", 1)
    out = io.StringIO()
    summarise(folder, Console(file=out, width=500))
    assert "Talk [dQw4w9WgXcQ] [" in out.getvalue()
    assert "[red]x" in out.getvalue()


@pytest.mark.parametrize("readable", [True, False])
def test_kind_17_eio_is_the_files_fault_where_its_bytes_can_be_read(
    tmp_path: Path, readable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg reports EIO for damaged data too, which no other try would read."""
    path = tmp_path / "a.mp4"
    write_video(path, moving_noise(5), None)
    monkeypatch.setattr(probe, "_can_be_read", lambda _: readable)
    with pytest.raises(MediaError) as caught, probe.open_media(path):
        raise MediaError(Reason.UNREADABLE, "video does not decode") from OSError(errno.EIO, "EIO")
    assert is_transient(caught.value), "it is tried again all the same"
    assert failure_of(caught.value).reason == (Reason.UNREADABLE if readable else Reason.READ_ERROR)


def test_kind_17_a_download_that_began_with_its_full_size_is_unreadable(tmp_path: Path) -> None:
    """Of the zeros behind its packets FFmpeg says EAGAIN: ten such files in a row ended the run."""
    path = tmp_path / "a.ts"
    make_video(path, range(25), codec="mpeg2video")
    half = path.stat().st_size // 188 // 2 * 188
    with path.open("r+b") as file:
        file.truncate(half)
        file.truncate(half + (1 << 20))
    with pytest.raises(MediaError, match="the file breaks off after") as caught:
        Video(path)
    assert isinstance(caught.value.__cause__, BlockingIOError)
    assert failure_of(caught.value).reason == Reason.UNREADABLE
