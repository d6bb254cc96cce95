"""Frames in, faces per frame out, in one pass and with detection only where it is needed.

Faces are detected in key frames: every k-th, the last, and both sides of a scene cut. Where the faces of two
neighbouring key frames agree and stay similar in between, their boxes are interpolated linearly; where not
(one came, went or was covered), every frame in between is detected. So a track ends at the very frame that
hides its face, at little more than a k-th of the cost of detecting everywhere. The result does not depend
on how many frames are held at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

from syncdiff_data.faces.appearance import (
    SAME_FACE,
    correlation,
    face_appearance,
    frame_appearance,
    is_scene_cut,
)
from syncdiff_data.faces.backend import FaceBackend
from syncdiff_data.faces.boxes import iou, match_boxes
from syncdiff_data.faces.config import FaceConfig

CHUNK_BYTES = 64 << 20
"""Pixels held at a time (one key frame interval at least)."""


@dataclass(frozen=True)
class Faces:
    """The faces of frame t."""

    t: int
    scene_cut: bool
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
    found = _detect(held, backend)
    yield from _with_landmarks(0, held, [False], found, backend)
    length = config.detect_every * max(1, CHUNK_BYTES // (held[0].nbytes * config.detect_every))
    first = 1
    while fresh := list(islice(stream, length)):
        held = [held[-1], *fresh]
        cuts = [False, *(is_scene_cut(a, b) for a, b in pairwise(map(frame_appearance, held)))]
        found = _detect_chunk(held, cuts, found[-1], backend, config)
        yield from _with_landmarks(first, fresh, cuts[1:], found[1:], backend)
        first += len(fresh)


def interpolate(before: np.ndarray, after: np.ndarray, steps: int, config: FaceConfig) -> np.ndarray | None:
    """Detections from one key frame to the next, both included: float32 [steps + 1, K, 6] of the K faces found
    in both ([M, 6] and [N, 6]), moved linearly. None where a face is in one of them alone, and
    where faces overlap so that they may have swapped."""
    i, j = match_boxes(before[:, :4], after[:, :4])
    overlap = iou(before[i, :4], after[j, :4])
    if np.count_nonzero(overlap) > len(i):
        return None
    unmatched = np.concatenate([np.delete(before, i, axis=0), np.delete(after, j, axis=0)])
    if _could_become_clip(unmatched, config).any():
        return None
    step = np.linspace(0, 1, steps + 1, dtype=np.float32)[:, None, None]
    faces = before[i] + (after[j] - before[i]) * step
    faces[..., 5] = before[i, 5]  # A roll does not interpolate across 180 degrees.
    return faces


def _could_become_clip(found: np.ndarray, config: FaceConfig) -> np.ndarray:
    """Which detections are faces that could become a clip."""
    return (found[:, 4] >= config.min_score) & (found[:, 3] - found[:, 1] >= config.min_face_px)


def _detect_chunk(
    frames: Sequence[np.ndarray],
    cuts: Sequence[bool],
    found_first: np.ndarray,
    backend: FaceBackend,
    config: FaceConfig,
) -> list[np.ndarray]:
    """Detections [N, 6] of every frame of a chunk whose first frame is a key frame already detected."""
    keys = key_frames(cuts, config.detect_every)
    found = {0: found_first} | dict(zip(keys[1:], _detect([frames[t] for t in keys[1:]], backend)))
    undetected: list[int] = []
    for a, b in pairwise(keys):
        faces = interpolate(found[a], found[b], b - a, config)
        if faces is not None and _steady(frames[a : b + 1], faces[:, _could_become_clip(faces[0], config)]):
            found |= {t: faces[t - a] for t in range(a + 1, b)}
        else:
            undetected += range(a + 1, b)
    found |= dict(zip(undetected, _detect([frames[t] for t in undetected], backend)))
    return [found[t] for t in range(len(frames))]


def key_frames(cuts: Sequence[bool], every: int) -> list[int]:
    """Every k-th frame, the last one, and both sides of each cut (cuts[t]: a scene begins with frame t)."""
    last = len(cuts) - 1
    return [t for t in range(last + 1) if t % every == 0 or t == last or cuts[t] or cuts[t + 1]]


def _detect(frames: Sequence[np.ndarray], backend: FaceBackend) -> list[np.ndarray]:
    """Detections [N, 6], the roll NaN where the backend gives none."""
    return [
        np.hstack([boxes, np.full((len(boxes), 6 - boxes.shape[1]), np.nan)]).astype(np.float32)
        for boxes in backend.detect(frames)
    ]


def _steady(frames: Sequence[np.ndarray], faces: np.ndarray) -> bool:
    """Whether the same faces [T, K, 6] in consecutive frames are similar from each frame to the next."""
    thumbnails = np.stack([face_appearance(frame, rows[:, :4]) for frame, rows in zip(frames, faces)])
    return bool((correlation(thumbnails[1:], thumbnails[:-1]) >= SAME_FACE).all())


def _with_landmarks(
    first: int,
    frames: Sequence[np.ndarray],
    cuts: Sequence[bool],
    found: Sequence[np.ndarray],
    backend: FaceBackend,
) -> Iterator[Faces]:
    """All faces of a chunk go to the backend at once, for those that compute in batches."""
    repeated = [frame for frame, rows in zip(frames, found) for _ in rows]
    boxes = np.concatenate(found)[:, :4]
    points = backend.landmarks(repeated, boxes) if repeated else np.empty((0, 68, 2), np.float32)
    start = 0
    for t, rows in enumerate(found):
        yield Faces(first + t, cuts[t], rows, points[start : start + len(rows)])
        start += len(rows)
