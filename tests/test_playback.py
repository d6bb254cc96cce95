"""Longer sounds than videos, and the faces of a video that are found once."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from stub_faces import CONFIG, ColourBackend, write_colour
from tiny_models import tiny_generator

from syncdiff_data.demo import talker_clip
from syncdiff_data.media import AudioTrack, Playback, Video, write_video
from syncdiff_data.prepared import find_faces
from syncdiff_data.records import UserError
from syncdiff_model.dubbing import Dubber, DubConfig, DubPair, typical_frame


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames of 0, 20, 40, ... gray."""
    path = tmp_path_factory.mktemp("media") / "numbered.mp4"
    write_video(path, [np.full((32, 32, 3), 20 * i, np.uint8) for i in range(10)], None)
    return path


def shown(playback: Playback) -> list[int]:
    return [round(frame.mean() / 20) for frame in playback.frames()]


def test_a_longer_sound_is_cut_held_or_looped(numbered: Path) -> None:
    video = Video(numbered, fps=None)
    assert shown(Playback(video, 2.0)) == list(range(10))
    assert shown(Playback(video, 0.1, "loop")) == list(range(10)), "a shorter sound changes nothing"
    hold = Playback(video, 0.6, "hold")
    assert shown(hold) == [*range(10), 9, 9, 9, 9, 9]
    loop = Playback(video, 1.0, "loop")
    there, back = list(range(10)), list(range(8, 0, -1))
    assert shown(loop) == [*there, *back, *there][:25]
    assert np.allclose(loop.times, np.arange(25) / 25)
    assert loop.duration_s == pytest.approx(1.0)


@pytest.mark.parametrize("mode", ["stop", "hold", "loop"])
def test_the_dub_lasts_as_long_as_its_sound(mode: str, tmp_path: Path) -> None:
    frames, audio, _ = talker_clip(1, num_frames=15)
    write_video(tmp_path / "talker.mp4", frames, audio)
    _, sound, _ = talker_clip(2, num_frames=40)
    write_video(tmp_path / "long.mp4", [np.zeros((32, 32, 3), np.uint8)] * 40, sound)
    dubber = Dubber(tiny_generator(), DubConfig(longer_audio=mode))  # type: ignore[arg-type]
    out = tmp_path / "dub.mp4"
    steps: list[tuple[int, int]] = []
    pair = DubPair(tmp_path / "talker.mp4", tmp_path / "long.mp4", out)
    assert dubber.dub(pair, progress=lambda done, total: steps.append((done, total))) is None
    dub = Video(out, fps=None)
    count = 15 if mode == "stop" else round(AudioTrack(tmp_path / "long.mp4").end_s * 25 + 0.49)
    assert abs(dub.num_frames - count) <= 1
    assert steps[-1] == (dub.num_frames, dub.num_frames)
    with av.open(str(out)) as container:
        assert container.metadata["comment"].startswith("synthetic: lips generated from sound by SyncDiff")


def test_faces_of_a_video_are_found_once(tmp_path: Path) -> None:
    path = write_colour(tmp_path / "a.mp4", "face", 20)

    class Counting(ColourBackend):
        detected = 0

        def detect(self, frames):  # type: ignore[no-untyped-def]
            Counting.detected += len(frames)
            return super().detect(frames)

    backend, cache = Counting(CONFIG.faces, "cpu"), tmp_path / "cache"
    (first,) = find_faces(Video(path, fps=None), backend, CONFIG.faces, cache)
    seen = Counting.detected
    (again,) = find_faces(Video(path, fps=None), backend, CONFIG.faces, cache)
    assert Counting.detected == seen
    assert np.array_equal(first.landmarks, again.landmarks)
    assert np.array_equal(first.box, again.box)
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    (mended,) = find_faces(Video(path, fps=None), backend, CONFIG.faces, cache)
    assert np.array_equal(first.box, mended.box)
    assert Counting.detected > seen


def test_the_identity_frame_is_turned_as_most_are_with_the_mouth_shut() -> None:
    rng = np.random.default_rng(0)
    face = rng.uniform(0, 100, (68, 2))
    landmarks = np.repeat(face[None], 5, axis=0)
    landmarks[:, 66] = landmarks[:, 62] + [0, 9]
    landmarks[0, 17:27] += 30
    landmarks[3, 66] = landmarks[3, 62]
    assert typical_frame(landmarks) == 3


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    path = write_colour(tmp_path / "a.mp4", "face", 12)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot keep the faces of videos .*--face-cache"):
        find_faces(
            Video(path, fps=None),
            ColourBackend(CONFIG.faces, "cpu"),
            CONFIG.faces,
            tmp_path / "file" / "cache",
        )
