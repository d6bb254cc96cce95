"""Which face of this frame is which face of the last: linking by overlap, and never by guess.

Where one box could as well be another track's (two faces cross, one hides the other), both tracks end there
and new ones begin: a clip may be cut in two, but it never shows two people.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from syncdiff_data.faces.config import FaceConfig
from syncdiff_data.records import FPS

MATCH_IOU = 0.3
"""Boxes that overlap less are different faces."""
RIVAL = 0.5
"""A second candidate with at least this share of the best one's overlap makes a link ambiguous."""


@dataclass
class Follower:
    """One face as it is followed; the lists run over the frames in which it was seen."""

    frames: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    rolls: list[float] = field(default_factory=list)
    landmarks: list[np.ndarray] = field(default_factory=list)

    def see(self, t: int, found: np.ndarray, landmarks: np.ndarray) -> None:
        """Adds frame t: one detection [6] and its landmarks [68, 2]."""
        self.frames.append(t)
        self.boxes.append(found[:4])
        self.scores.append(float(found[4]))
        self.rolls.append(float(found[5]))
        self.landmarks.append(landmarks)


class Linker:
    """Follows the faces of a video, frame by frame."""

    def __init__(self, config: FaceConfig):
        self._max_step = round(config.max_gap_s * FPS) + 1
        self._alive: list[Follower] = []
        self._ended: list[Follower] = []

    def add(self, t: int, cut: bool, found: np.ndarray, landmarks: np.ndarray) -> None:
        """Frame t with its detections [N, 6] and landmarks [N, 68, 2]; `cut` ends every track before it."""
        self._end([f for f in self._alive if cut or t - f.frames[-1] > self._max_step])
        links, ambiguous = link(np.array([f.boxes[-1] for f in self._alive]).reshape(-1, 4), found[:, :4])
        doomed = [self._alive[i] for i in ambiguous]
        for n in range(len(found)):
            follower = self._alive[links[n]] if n in links else Follower()
            if n not in links:
                self._alive.append(follower)
            follower.see(t, found[n], landmarks[n])
        self._end(doomed)

    def finish(self) -> list[Follower]:
        """All faces, in the order of their first frame, then from left to right."""
        self._end(self._alive)
        return sorted(self._ended, key=lambda f: (f.frames[0], f.boxes[0][0], f.boxes[0][1]))

    def _end(self, followers: list[Follower]) -> None:
        self._ended += followers
        self._alive = [f for f in self._alive if f not in followers]


def link(known: np.ndarray, found: np.ndarray) -> tuple[dict[int, int], set[int]]:
    """Links boxes [N, 4] to the last boxes [M, 4] of the tracks: ({n: m}, the tracks that end here because
    a box could be theirs or another's)."""
    overlap = iou(known, found)
    links, ambiguous = {}, set()
    i, j = match_boxes(known, found)
    linked = set(i.tolist())
    for m, n in zip(i.tolist(), j.tolist()):
        rivals = [k for k in range(len(known)) if k not in linked and overlap[k, n] >= RIVAL * overlap[m, n]]
        if rivals:
            ambiguous |= {m, *rivals}
        else:
            links[n] = m
    return links, ambiguous


def match_boxes(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (into a, into b) of the one-to-one matching of boxes [M, 4] and [N, 4] with the largest total
    overlap, pairs below MATCH_IOU left out."""
    overlap = iou(a, b)
    i, j = linear_sum_assignment(overlap, maximize=True)
    good = overlap[i, j] >= MATCH_IOU
    return i[good], j[good]


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair of boxes [M, 4] and [N, 4]: [M, N]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    area_a, area_b = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (a, b))
    return shared / (area_a[:, None] + area_b[None, :] - shared)
