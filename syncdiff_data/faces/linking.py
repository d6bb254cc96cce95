"""Linking the detections of neighbouring frames to tracks, by overlap; an ambiguous link ends the tracks.

Where one box could as well be another track's (two faces cross, one hides the other), both tracks end there
and new ones begin: a clip may end early, but it never shows two people. Where the boxes of two faces overlap, one
hides part of the other: neither is tracked there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from syncdiff_data.faces.boxes import iou, match_boxes
from syncdiff_data.faces.config import FaceConfig
from syncdiff_data.faces.observe import Faces
from syncdiff_data.records import FPS

MERGED = 0.2
"""Share of the smaller box that two boxes have in common, from which on one face hides part of the other."""
AMBIGUOUS_OVERLAP = 0.5
"""A second candidate with at least this share of the best one's overlap makes a link ambiguous."""


@dataclass(eq=False)
class OpenTrack:
    """One face while it is tracked; the lists run over the frames in which it was detected."""

    frames: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    rolls: list[float] = field(default_factory=list)
    landmarks: list[np.ndarray] = field(default_factory=list)

    def add(self, t: int, found: np.ndarray, landmarks: np.ndarray) -> None:
        """Adds frame t: one detection [6] and its landmarks [68, 2]."""
        self.frames.append(t)
        self.boxes.append(found[:4])
        self.scores.append(float(found[4]))
        self.rolls.append(float(found[5]))
        self.landmarks.append(landmarks)


class Linker:
    """Tracks the faces of a video, frame by frame."""

    def __init__(self, config: FaceConfig):
        self._max_step = round(config.max_gap_s * FPS) + 1
        self._min_score = config.min_score
        self._open: list[OpenTrack] = []
        self._ended: list[OpenTrack] = []

    def add(self, faces: Faces) -> None:
        """The faces of the next frame; a scene cut ends every track before it."""
        self._end([f for f in self._open if faces.scene_cut or faces.t - f.frames[-1] > self._max_step])
        known = np.array([f.boxes[-1] for f in self._open], np.float32).reshape(-1, 4)
        links, ambiguous = link(known, faces.found[:, :4])
        open_tracks = list(self._open)
        merged = merged_faces(faces.found, self._min_score)
        self._end([open_tracks[m] for m in {*ambiguous, *(links[n] for n in merged & links.keys())}])
        for n, found in enumerate(faces.found):
            if n in merged:
                continue
            open_track = open_tracks[links[n]] if n in links else OpenTrack()
            open_track.add(faces.t, found, faces.landmarks[n])
            if n not in links:
                self._open.append(open_track)

    def finish(self) -> list[OpenTrack]:
        """All faces, in the order of their first frame, then from left to right."""
        self._end(self._open)
        return sorted(self._ended, key=lambda f: (f.frames[0], f.boxes[0][0], f.boxes[0][1]))

    def _end(self, tracks: list[OpenTrack]) -> None:
        self._ended += tracks
        self._open = [f for f in self._open if f not in tracks]  # Compared by identity.


def merged_faces(found: np.ndarray, min_score: float) -> set[int]:
    """Which of the detections [N, 6] overlap another one by MERGED or more; both must have `min_score`, since a
    detector also gives weak second boxes of one face."""
    sure = np.flatnonzero(found[:, 4] >= min_score)
    boxes = found[sure, :4]
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=-1)  # [S, S] pixels
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    share = common / np.maximum(np.minimum(area[:, None], area[None, :]), 1e-9)
    np.fill_diagonal(share, 0)
    return set(sure[(share >= MERGED).any(axis=1)].tolist())


def link(known: np.ndarray, found: np.ndarray) -> tuple[dict[int, int], set[int]]:
    """Links boxes [N, 4] to the last boxes [M, 4] of the tracks: ({n: m}, the tracks that end here because
    a box could be theirs or another's)."""
    overlap = iou(known, found)
    links, ambiguous = {}, set()
    i, j = match_boxes(known, found)
    for m, n in zip(i.tolist(), j.tolist()):
        candidates = set(np.flatnonzero(overlap[:, n] >= AMBIGUOUS_OVERLAP * overlap[m, n]).tolist()) - {m}
        if candidates:
            ambiguous |= {m, *candidates}
        else:
            links[n] = m
    return links, ambiguous
