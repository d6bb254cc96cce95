"""Tracks: what is followed, what ends a track, what is refused and why; on scripted faces."""

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

import syncdiff_data.faces.observe as observe
from syncdiff_data.faces import FaceConfig, Track, find_tracks
from syncdiff_data.faces.boxes import iou
from syncdiff_data.faces.linking import link
from syncdiff_data.reasons import Reason

Row = tuple[float, float, float, float, float, float]
SCENE = np.random.default_rng(0).integers(0, 256, (4, 96, 160, 3), np.uint8)


class Scripted:
    """A backend that knows where the faces of frame t are; t is written into the first pixel.

    The landmarks of a face are its corners and centre, so they move with its box."""

    name = "scripted"

    def __init__(self, script: Callable[[int], Sequence[Row]]):
        self.script = script
        self.detected: list[int] = []

    def detect(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        times = [time_of(frame) for frame in frames]
        self.detected += times
        return [np.array(self.script(t), np.float32).reshape(-1, 6) for t in times]

    def landmarks(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> np.ndarray:
        share = np.linspace(0, 1, 68, dtype=np.float32)[:, None]
        return boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])


def video(length: int, scene: Callable[[int], int] = lambda t: 0) -> Iterator[np.ndarray]:
    for t in range(length):
        frame = SCENE[scene(t)].copy()
        frame[0, 0] = (t // 256, t % 256, 0)
        yield frame


def time_of(frame: np.ndarray) -> int:
    return int(frame[0, 0, 0]) * 256 + int(frame[0, 0, 1])


def face(x: float, y: float = 20.0, side: float = 50.0, score: float = 0.9, roll: float = 0.0) -> Row:
    return (x, y, x + side, y + side, score, roll)


def spans(tracks: Sequence[Track]) -> list[tuple[int, int, int]]:
    return [(t.track, t.first_frame, len(t.box)) for t in tracks]


def test_boxes_between_key_frames_are_interpolated_and_detection_is_rare() -> None:
    backend = Scripted(lambda t: [face(10 + 0.5 * t)])
    tracks, rejects = find_tracks(video(41), backend, FaceConfig(detect_every=8))
    assert spans(tracks) == [(0, 0, 41)]
    assert not rejects
    np.testing.assert_allclose(tracks[0].box[:, 0], 10 + 0.5 * np.arange(41), atol=1e-4)
    assert tracks[0].landmarks.shape == (41, 68, 2)
    assert tracks[0].landmarks.dtype == tracks[0].box.dtype == np.float32
    assert sorted(backend.detected) == [0, 8, 16, 24, 32, 40]


@pytest.mark.parametrize("every", [1, 3, 5, 8, 100])
def test_a_face_that_leaves_and_returns_ends_and_starts_at_those_frames(every: int) -> None:
    def script(t: int) -> list[Row]:
        return [] if 21 <= t < 50 else [face(10)]

    tracks, rejects = find_tracks(video(81), Scripted(script), FaceConfig(detect_every=every))
    assert not rejects
    if every < 100:
        assert spans(tracks) == [(0, 0, 21), (1, 50, 31)]
    else:  # Both key frames show the face and nothing covers its place: not seen, as documented.
        assert spans(tracks) == [(0, 0, 81)]


def test_a_covered_face_is_noticed_between_key_frames() -> None:
    def covered(t: int) -> bool:
        return 22 <= t < 37

    def frames() -> Iterator[np.ndarray]:
        for t, frame in enumerate(video(81)):
            if covered(t):
                frame[20:71, 10:61] = SCENE[1, 20:71, 10:61]
            yield frame

    backend = Scripted(lambda t: [] if covered(t) else [face(10)])
    tracks, _ = find_tracks(frames(), backend, FaceConfig(detect_every=20))
    assert spans(tracks) == [(0, 0, 22), (1, 37, 44)]


def test_a_short_gap_is_filled_by_linear_interpolation() -> None:
    backend = Scripted(lambda t: [] if 20 <= t < 26 else [face(10 + t)])
    tracks, _ = find_tracks(video(50), backend, FaceConfig(detect_every=1))
    assert spans(tracks) == [(0, 0, 50)]
    np.testing.assert_allclose(tracks[0].box[:, 0], 10 + np.arange(50), atol=1e-4)
    np.testing.assert_allclose(tracks[0].landmarks[:, 0, 0], 10 + np.arange(50), atol=1e-4)


def test_a_scene_cut_ends_a_track_even_where_a_face_stays_in_place() -> None:
    tracks, _ = find_tracks(video(60, lambda t: int(t >= 33)), Scripted(lambda t: [face(10)]), FaceConfig())
    assert spans(tracks) == [(0, 0, 33), (1, 33, 27)]


@pytest.mark.parametrize("colours", ["without colour", "of one background"])
def test_a_cut_that_changes_no_hue_ends_a_track(colours: str) -> None:
    """A film without colour had no cuts: one clip showed all its people who sat in the same place."""
    rng = np.random.default_rng(0)
    scenes = [np.full((120, 160, 3), (90, 90, 60), np.uint8) for _ in range(2)]
    for scene in scenes:
        drawn = scene if colours == "without colour" else scene[30:100, 40:120]
        blobs = np.repeat(np.repeat(rng.integers(20, 235, (7, 8, 1), np.uint8), 18, axis=0), 20, axis=1)
        drawn[:] = blobs[: len(drawn), : drawn.shape[1]] * np.array(
            [1, 1, 1 if colours == "without colour" else 0.66]
        )
    frames = (_stamp(scenes[int(t >= 33)].copy(), t) for t in range(60))
    tracks, _ = find_tracks(frames, Scripted(lambda t: [face(50)]), FaceConfig())
    assert spans(tracks) == [(0, 0, 33), (1, 33, 27)]


def test_a_flash_is_no_cut() -> None:
    def frames() -> Iterator[np.ndarray]:
        for t, frame in enumerate(video(40)):
            yield _stamp(frame // 3 if t == 20 else frame // 2, t)

    tracks, _ = find_tracks(frames(), Scripted(lambda t: [face(10)]), FaceConfig())
    assert spans(tracks) == [(0, 0, 40)]


def _stamp(frame: np.ndarray, t: int) -> np.ndarray:
    frame[0, 0] = (t // 256, t % 256, 0)
    return frame


@pytest.mark.parametrize("every", [1, 4, 8])
@pytest.mark.parametrize("hidden", [True, False])
def test_crossing_faces_never_swap(every: int, hidden: bool) -> None:
    """One goes right, one goes left; where they overlap the detector sees both, or only the one in front."""

    def script(t: int) -> list[Row]:
        front, back = face(5 + 1.5 * t, score=0.95), face(105 - 1.5 * t, 24)
        overlap = iou(np.array([front[:4]]), np.array([back[:4]]))[0, 0]
        return [front] if hidden and overlap > 0.3 else [front, back]

    tracks, _ = find_tracks(video(67), Scripted(script), FaceConfig(detect_every=every, min_frames=5))
    assert len(tracks) >= 2
    for track in tracks:
        step = np.diff(track.box[:, 0])
        assert (step > 0).all() or (step < 0).all()
        assert np.ptp(track.box[:, 1]) < 0.01  # The two go at different heights.


def test_a_box_that_could_be_either_track_ends_both() -> None:
    known = np.array([[0, 0, 50, 50], [20, 0, 70, 50]], np.float32)
    assert link(known, np.array([[10, 0, 60, 50]], np.float32)) == ({}, {0, 1})
    assert link(known, known[::-1]) == ({0: 1, 1: 0}, set())
    assert link(known[:0], known) == ({}, set())


def test_long_tracks_are_split_evenly_and_share_their_number() -> None:
    config = FaceConfig(max_clip_s=1.0, detect_every=5)
    tracks, _ = find_tracks(video(51), Scripted(lambda t: [face(10 + t)]), config)
    assert spans(tracks) == [(0, 0, 17), (0, 17, 17), (0, 34, 17)]
    np.testing.assert_allclose(np.concatenate([t.box[:, 0] for t in tracks]), 10 + np.arange(51), atol=1e-4)


@pytest.mark.parametrize(
    ("row", "reason", "word"),
    [
        (face(10, side=30), Reason.FACE_TOO_SMALL, "30 pixels"),
        (face(10, roll=170), Reason.FACE_NOT_UPRIGHT, "170 degrees"),
        (face(10, score=0.5), Reason.NO_FACE, "best score 0.50"),
    ],
)
def test_reasons(row: Row, reason: Reason, word: str) -> None:
    tracks, rejects = find_tracks(video(20), Scripted(lambda t: [row]), FaceConfig())
    assert not tracks
    [reject] = rejects
    assert reject.reason is reason
    assert word in reject.detail
    assert (reject.track is None) == (reason is Reason.NO_FACE)


def test_no_frames_and_short_tracks() -> None:
    _, [nothing] = find_tracks(iter(()), Scripted(lambda t: []), FaceConfig())
    assert nothing.reason is Reason.NO_FACE
    _, [short] = find_tracks(video(9), Scripted(lambda t: [face(10)]), FaceConfig())
    assert (short.reason, short.track) == (Reason.TRACK_TOO_SHORT, 0)
    [track], _ = find_tracks(video(10), Scripted(lambda t: [face(10)]), FaceConfig())
    assert len(track.box) == 10


def test_tracks_are_numbered_by_first_frame_then_left_to_right() -> None:
    def script(t: int) -> list[Row]:
        return [face(100), face(5, side=60)] if t else [face(100, score=0.99), face(5, side=60, score=0.7)]

    tracks, _ = find_tracks(video(20), Scripted(script), FaceConfig())
    assert [t.box[0, 0] for t in tracks] == [5, 100]
    tracks, _ = find_tracks(video(20), Scripted(script), FaceConfig(largest_face=True))
    assert [t.box[0, 0] for t in tracks] == [5]


def test_result_does_not_depend_on_the_frames_held_and_few_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(t: int) -> list[Row]:
        return [face(10 + t / 4)] + ([face(100)] if 37 <= t < 71 else [])

    whole, _ = find_tracks(video(200), Scripted(script), FaceConfig())
    monkeypatch.setattr(observe, "CHUNK_BYTES", 1)
    alive: list[weakref.ref] = []
    most = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal most
        for frame in video(200):
            alive.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in alive))
            yield frame

    pieces, _ = find_tracks(counted(), Scripted(script), FaceConfig())
    gc.collect()
    assert spans(pieces) == spans(whole) == [(0, 0, 200), (1, 37, 34)]
    for a, b in zip(whole, pieces):
        assert a.box.tobytes() == b.box.tobytes()
        assert a.landmarks.tobytes() == b.landmarks.tobytes()
    assert most <= 3 * FaceConfig().detect_every
