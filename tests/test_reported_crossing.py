"""Reported kinds of faults: faces that cross."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from syncdiff_data.faces import FaceConfig, find_tracks, load_backend
from syncdiff_data.faces.linking import Linker, merged_faces
from syncdiff_data.media import Video


def face(x: float, score: float = 0.9, side: float = 100) -> list[float]:
    return [x, 50, x + side, 50 + side, score, 0]


def test_kind_11_faces_whose_boxes_overlap_are_not_followed() -> None:
    """Two faces cross: their tracks end before one hides the other, and new ones begin behind."""
    linker = Linker(FaceConfig())
    for t in range(40):
        found = np.array([face(10.0 * t), face(400 - 10.0 * t)], np.float32)
        linker.add(SimpleNamespace(t=t, scene_cut=False, found=found, landmarks=np.zeros((2, 68, 2))))  # type: ignore[arg-type]
    spans = [(f.frames[0], f.frames[-1]) for f in linker.finish()]
    assert spans == [(0, 15), (0, 15), (25, 39), (25, 39)]


def test_kind_11_a_weak_second_box_of_one_face_ends_nothing() -> None:
    assert merged_faces(np.array([face(0), face(20, score=0.4)], np.float32), 0.65) == set()
    assert merged_faces(np.array([face(0), face(20), face(300)], np.float32), 0.65) == {0, 1}
    assert merged_faces(np.zeros((0, 6), np.float32), 0.65) == set()


def test_kind_11_the_reported_crossing(shared: Path) -> None:
    config = FaceConfig()
    tracks, _ = find_tracks(
        Video(shared / "faults/cross/crossing.mp4").frames(), load_backend(config, {}), config
    )
    ends = [track.first_frame + len(track.box) for track in tracks if track.first_frame == 0]
    assert ends, "both speakers before they cross"
    assert max(ends) <= 19, "at frame 19 two fifths of the face behind are hidden"
