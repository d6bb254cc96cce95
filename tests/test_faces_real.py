"""The embedded backend on real clips: faces found, faces refused, and landmarks as dlib's own detector gives."""

from collections.abc import Iterator
from pathlib import Path

import dlib
import numpy as np
import pytest

from syncdiff_data.faces import FaceBackend, FaceConfig, find_tracks, load_backend
from syncdiff_data.faces.boxes import iou
from syncdiff_data.media import Video
from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError


@pytest.fixture(scope="module")
def backend() -> FaceBackend:
    return load_backend(FaceConfig(), {})


def as_box(rectangle: dlib.rectangle) -> np.ndarray:
    r = rectangle
    return np.array([[r.left(), r.top(), r.right(), r.bottom()]], np.float32)


def test_points_in_hog_boxes_are_exactly_dlibs(shared: Path, backend: FaceBackend) -> None:
    golden = np.load(shared / "golden" / "landmarks_dlib.npz")
    hog = dlib.get_frontal_face_detector()
    compared = 0
    for frame, valid, expected in zip(golden["frames_rgb"], golden["valid"], golden["landmarks_i32"]):
        rectangles = hog(frame, 1)
        if valid and rectangles:  # The published procedure keeps the last rectangle.
            points = backend.landmarks([frame], as_box(rectangles[-1]))
            np.testing.assert_array_equal(points[0], expected)
            compared += 1
    assert compared >= 2


def test_mouth_points_agree_with_hog_boxes_on_grid(shared: Path, backend: FaceBackend) -> None:
    hog = dlib.get_frontal_face_detector()
    differences = []
    for path in sorted((shared / "grid_s1").glob("*.mpg"))[:40:20]:
        frames = list(Video(path).frames())
        [track], _ = find_tracks(iter(frames), backend, FaceConfig())
        assert len(track.box) == len(frames)
        for t in range(5, len(frames), 15):
            for rectangle in hog(frames[t], 1):
                theirs = backend.landmarks([frames[t]], as_box(rectangle))[0]
                eyes = np.linalg.norm(theirs[36:42].mean(axis=0) - theirs[42:48].mean(axis=0))
                off = np.linalg.norm(track.landmarks[t] - theirs, axis=1)[48:68].mean()
                differences.append(off / eyes)
    assert len(differences) >= 6
    assert np.mean(differences) < 0.03


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("d_upside_down.mp4", Reason.FACE_NOT_UPRIGHT),
        ("makeittalk_drawn_62_5fps.mp4", Reason.NO_FACE),
        ("muavic_lip_roi_96.mp4", Reason.NO_FACE),
        ("noface_var_fps.mp4", Reason.NO_FACE),
    ],
)
def test_what_is_no_upright_face_is_refused(
    shared: Path, backend: FaceBackend, name: str, expected: Reason
) -> None:
    tracks, [reject] = find_tracks(some(Video(shared / "clips" / name), 50), backend, FaceConfig())
    assert not tracks
    assert reject.reason is expected


def some(video: Video, most: int) -> Iterator[np.ndarray]:
    return video.frames(0, min(most, video.num_frames))


@pytest.mark.parametrize(
    "name", ["d_tiny96.mp4", "lrs2_00024_profile.mp4", "vox_00015.mp4", "lrs2_00016_long.mp4"]
)
def test_one_face_is_one_track(shared: Path, backend: FaceBackend, name: str) -> None:
    [track], rejects = find_tracks(some(Video(shared / "clips" / name), 75), backend, FaceConfig())
    assert not rejects
    assert len(track.box) == 75
    assert (np.diag(iou(track.box[1:], track.box[:-1])) > 0.6).all()


def test_a_face_gone_for_two_seconds_gives_two_tracks(shared: Path, backend: FaceBackend) -> None:
    tracks, _ = find_tracks(Video(shared / "clips" / "d_face_gone_2to4s.mp4").frames(), backend, FaceConfig())
    assert [t.track for t in tracks] == [0, 1]
    assert [(t.first_frame, t.first_frame + len(t.box)) for t in tracks] == [(0, 50), (101, 200)]


@pytest.mark.slow
def test_two_speakers_are_two_tracks_throughout(shared: Path, backend: FaceBackend) -> None:
    video = Video(shared / "clips" / "two_speakers_interview.mp4")
    tracks, _ = find_tracks(video.frames(), backend, FaceConfig())
    assert [(t.first_frame, len(t.box)) for t in tracks] == [(0, video.num_frames)] * 2
    left, right = sorted(tracks, key=lambda t: t.box[0, 0])
    assert (left.box[:, 2] < right.box[:, 0] + 100).all()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UserError, match="embedded"):
        load_backend(FaceConfig(backend="haar"), {})
