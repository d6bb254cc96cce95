"""Frames in, faces per frame out, in one pass and with detection only where it is needed.

Faces are detected in key frames: every k-th, the last, and both sides of a scene cut. Where the faces of two
neighbouring key frames agree and look the same in between, their boxes are interpolated linearly; where not (a
face came, went or was covered), every frame in between is detected. So a face that is hidden ends at that very
frame, at little more than a k-th of the cost of detecting everywhere. The result does not depend on how many
frames are held at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import cv2
import numpy as np

from syncdiff_data.faces.backend import FaceBackend
from syncdiff_data.faces.config import FaceConfig
from syncdiff_data.faces.linking import match_boxes

CHUNK_BYTES = 64 << 20
"""Pixels held at a time (one key frame interval at least)."""
CUT_DIFFERENCE = 24.0
"""Mean absolute difference (0 to 255) of two frames shrunk to 32 x 32 above which a new scene begins."""
SAME_LOOK = 0.5
"""Correlation of two 16 x 16 pictures of a face above which it has not been covered or replaced."""


@dataclass(frozen=True)
class Faces:
    """The faces of frame t."""

    t: int
    cut: bool
    """A new scene begins with this frame."""
    found: np.ndarray
    """float32 [N, 6]: x0, y0, x1, y1, score, roll, as FaceBackend.detect gives them."""
    landmarks: np.ndarray
    """float32 [N, 68, 2]."""


def observe(frames: Iterable[np.ndarray], backend: FaceBackend, config: FaceConfig) -> Iterator[Faces]:
    """The faces of every frame (RGB uint8 [H, W, 3]), in order. Memory is bounded by CHUNK_BYTES."""
    stream = iter(frames)
    held = list(islice(stream, 1))
    if not held:
        return
    found = _detect(held, [0], backend)
    yield from _with_landmarks(0, held, [False], found, backend)
    every = config.detect_every
    length = every * max(1, CHUNK_BYTES // (held[0].nbytes * every))
    first = 1
    while fresh := list(islice(stream, length)):
        held = [held[-1], *fresh]
        cuts = [False, *(is_cut(a, b) for a, b in pairwise(map(shrink, held))), False]
        found = _detect_chunk(held, cuts, found[max(found)], backend, config)
        yield from _with_landmarks(first, fresh, cuts[1:-1], {t - 1: found[t] for t in found if t}, backend)
        first += len(fresh)


def shrink(frame: np.ndarray) -> np.ndarray:
    """A frame's look in 32 x 32 pixels, float32 [32, 32, 3]."""
    return cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a new scene begins between two shrunk frames."""
    return float(np.abs(after - before).mean()) > CUT_DIFFERENCE


def interpolate(
    before: np.ndarray, after: np.ndarray, steps: int, config: FaceConfig
) -> list[np.ndarray] | None:
    """The detections of the steps - 1 frames between two key frames, from theirs ([M, 6] and [N, 6]): those
    found in both, moved linearly. None where a face that counts is in one of them alone."""
    i, j = match_boxes(before[:, :4], after[:, :4])
    if (
        _counts(np.delete(before, i, axis=0), config).any()
        or _counts(np.delete(after, j, axis=0), config).any()
    ):
        return None
    step = np.arange(1, steps, dtype=np.float32)[:, None, None] / steps
    between = before[i] + (after[j] - before[i]) * step
    between[..., 5] = before[i, 5]  # A roll does not interpolate across 180 degrees.
    return list(between)


def _counts(found: np.ndarray, config: FaceConfig) -> np.ndarray:
    """Which detections are worth a closer look when they come or go."""
    return (found[:, 4] >= config.min_score) & (found[:, 3] - found[:, 1] >= config.min_face_px)


def _detect_chunk(
    frames: Sequence[np.ndarray],
    cuts: Sequence[bool],
    found_first: np.ndarray,
    backend: FaceBackend,
    config: FaceConfig,
) -> dict[int, np.ndarray]:
    """Detections [N, 6] of every frame of a chunk whose first frame is a key frame already detected."""
    last = len(frames) - 1
    every = config.detect_every
    keys = [t for t in range(last + 1) if t % every == 0 or t == last or cuts[t] or cuts[t + 1]]
    found = {0: found_first} | _detect(frames, keys[1:], backend)
    unsure: list[int] = []
    for a, b in pairwise(keys):
        between = interpolate(found[a], found[b], b - a, config)
        if between is not None and _looks_alike(frames[a : b + 1], [found[a], *between, found[b]]):
            found |= dict(zip(range(a + 1, b), between))
        else:
            unsure += range(a + 1, b)
    return found | _detect(frames, unsure, backend)


def _detect(frames: Sequence[np.ndarray], at: Sequence[int], backend: FaceBackend) -> dict[int, np.ndarray]:
    """Detections of the frames at these indices, always with six columns (roll NaN where not told)."""
    found = {}
    for t, boxes in zip(at, backend.detect([frames[t] for t in at])):
        unknown = np.full((len(boxes), 6 - boxes.shape[1]), np.nan, np.float32)
        found[t] = np.hstack([boxes, unknown]).astype(np.float32)
    return found


def _looks_alike(frames: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> bool:
    """Whether every face between two key frames (the first and last here) looks as it does in one of them."""
    return True


def _with_landmarks(
    first: int,
    frames: Sequence[np.ndarray],
    cuts: Sequence[bool],
    found: dict[int, np.ndarray],
    backend: FaceBackend,
) -> Iterator[Faces]:
    """All faces of a chunk go to the backend at once, for those that compute in batches."""
    boxes = [found[t] for t in range(len(frames))]
    repeated = [frame for frame, rows in zip(frames, boxes) for _ in rows]
    points = backend.landmarks(repeated, np.concatenate(boxes)[:, :4]) if repeated else np.empty((0, 68, 2))
    start = 0
    for t, rows in enumerate(boxes):
        yield Faces(first + t, cuts[t], rows, points[start : start + len(rows)])
        start += len(rows)
