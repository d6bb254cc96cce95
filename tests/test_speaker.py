"""Who speaks: turns in made curves, and two talkers side by side of which one has the sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from syncdiff_data.clips import ClipConfig, ClipExtractor
from syncdiff_data.demo import talker_clip
from syncdiff_data.faces import FaceConfig, Track, load_backend, mean_face
from syncdiff_data.media import write_video
from syncdiff_data.reasons import Reason
from syncdiff_data.records import SAMPLES_PER_FRAME, Clip, Reject, Source
from syncdiff_data.speaker import SHORTEST, overlapping, speaking_spans
from syncdiff_data.sync_expert.expert import SyncExpert

FRAMES = 150


def curve(frames: int, speaks: tuple[int, int], offset: int = 2) -> np.ndarray:
    """Similarities of a face that fits its sound from speaks[0] to speaks[1], at one shift."""
    made = np.random.default_rng(frames).normal(0, 0.05, (31, frames)).astype(np.float32)
    made[15 + offset, slice(*speaks)] += 0.5
    return made


def test_turns_are_found_within_half_a_second() -> None:
    first, second = speaking_spans([0, 0], [curve(300, (0, 140)), curve(300, (140, 300))])
    (a,), (b,) = first, second
    assert a[0] == 0
    assert b[1] == 300
    assert a[1] == b[0]
    assert abs(a[1] - 140) <= 12


def test_a_face_alone_speaks_and_tracks_may_begin_late() -> None:
    first, second = speaking_spans([0, 100], [curve(300, (0, 300)), curve(100, (0, 0))])
    assert first == [(0, 300)]
    assert second == []


def test_short_turns_go_to_the_speaker_before() -> None:
    spans = speaking_spans([0, 0], [curve(300, (0, 300)), curve(300, (150, 150 + SHORTEST // 3))])
    assert spans == [[(0, 300)], []]


def test_only_tracks_that_share_frames_are_compared() -> None:
    def track(number: int, first: int) -> Track:
        return Track(number, first, np.zeros((10, 4), np.float32), np.zeros((10, 68, 2), np.float32))

    tracks = [track(0, 0), track(1, 5), track(2, 15)]
    assert overlapping(tracks) == tracks[:2]


@pytest.fixture(scope="module")
def two_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two talkers side by side; the left one's sound is heard first, then the right one's."""
    folder = tmp_path_factory.mktemp("two")
    (left, left_sound, _), (right, right_sound, _) = (talker_clip(seed, num_frames=FRAMES) for seed in (3, 4))
    half = FRAMES // 2 * SAMPLES_PER_FRAME
    sound = np.concatenate([left_sound[:half], right_sound[half:]])
    write_video(folder / "two.mp4", [np.hstack(pair) for pair in zip(left, right)], sound)
    return folder


def test_a_clip_shows_who_speaks(two_faces: Path) -> None:
    config = ClipConfig(faces=FaceConfig(crop_size=64, detect_px=0), speaker="sync")
    extractor = ClipExtractor(
        two_faces,
        "two",
        config,
        load_backend(config.faces, {}),
        mean_face(),
        SyncExpert.from_pretrained("evaluation"),
    )
    items = list(extractor.extract_clips(Source("two.mp4", (two_faces / "two.mp4").stat().st_size)))
    clips = [item for item in items if isinstance(item, Clip)]
    left, right = sorted(clips, key=lambda clip: clip.start_s)
    assert left.box[:, 0].mean() < right.box[:, 0].mean()
    turn_s = FRAMES / 2 / 25
    assert abs(left.start_s + left.num_frames / 25 - turn_s) < 0.8
    assert abs(right.start_s - turn_s) < 0.8
    assert len({clip.clip_id for clip in clips}) == 2


def test_a_face_that_never_speaks_is_a_reject(two_faces: Path, tmp_path: Path) -> None:
    (left, sound, _), (right, _, _) = (talker_clip(seed, num_frames=FRAMES // 2) for seed in (3, 4))
    write_video(tmp_path / "one.mp4", [np.hstack(pair) for pair in zip(left, right)], sound)
    config = ClipConfig(faces=FaceConfig(crop_size=64, detect_px=0), speaker="sync")
    extractor = ClipExtractor(
        tmp_path,
        "one",
        config,
        load_backend(config.faces, {}),
        mean_face(),
        SyncExpert.from_pretrained("evaluation"),
    )
    items = list(extractor.extract_clips(Source("one.mp4", (tmp_path / "one.mp4").stat().st_size)))
    (clip,) = [item for item in items if isinstance(item, Clip)]
    (reject,) = [item for item in items if isinstance(item, Reject)]
    assert clip.num_frames == FRAMES // 2
    assert reject.reason == Reason.NOT_SPEAKING
    assert reject.kind == "filtered"
