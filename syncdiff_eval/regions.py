"""Face and mouth regions of a reference: measured once, on its own track, for every method alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from syncdiff_eval.metrics.base import Regions
from syncdiff_eval.metrics.image import SMALLEST_SIDE
from syncdiff_eval.protocols import ProtocolDefinition

_OUTER_EYES = (36, 45)
_MOUTH = slice(48, 68)
MOUTH_ASPECT = 0.8


def build_regions(
    first_frame: int,
    landmarks: np.ndarray,
    boxes: np.ndarray,
    num_frames: int,
    size: tuple[int, int],
    protocol: ProtocolDefinition,
) -> Regions | None:
    """Regions of a clip of num_frames frames from one track that starts at first_frame.

    landmarks: float32 [t, 68, 2]; boxes: float32 [t, 4]; size: width and height of the frames. The regions
    have one size for the whole clip and follow the face; they are cut at the frame's edges, and a frame whose
    face or mouth is left with less than SSIM's window of 11 pixels counts as without a face. None if that is
    every frame.
    """
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    side = float(np.median((high - low).max(axis=1))) * protocol.face_growth
    eyes = landmarks[:, _OUTER_EYES[1]] - landmarks[:, _OUTER_EYES[0]]
    eye_distance = float(np.median(np.linalg.norm(eyes, axis=1)))
    mouth_size = np.array([1.0, MOUTH_ASPECT]) * eye_distance * protocol.mouth_width
    face = _boxes((low + high) / 2, np.array([side, side]), size)
    mouth = _boxes(landmarks[:, _MOUTH].mean(axis=1), mouth_size, size)
    usable = _large_enough(face) & _large_enough(mouth)
    if not usable.any() or eye_distance == 0:
        return None
    at = slice(first_frame, first_frame + len(landmarks))
    return Regions(
        present=_spread(usable, at, num_frames),
        landmarks=_spread(landmarks.astype(np.float32), at, num_frames),
        box=_spread(boxes.astype(np.float32), at, num_frames),
        face=_spread(face, at, num_frames),
        mouth=_spread(mouth, at, num_frames),
        eye_distance=eye_distance,
    )


def speaker_of(tracks: Sequence[Any]) -> Any | None:
    """The track that is scored: the one seen longest, the larger face among equals, the first among those."""
    return max(tracks, key=lambda track: (len(track.box), _area(track.box)), default=None)


def generated_landmarks(backend: Any, frames: Sequence[np.ndarray], regions: Regions) -> np.ndarray:
    """Landmarks of generated frames inside the reference's boxes: float32 [B, 68, 2], NaN where there is no
    face."""
    landmarks = np.full((len(frames), 68, 2), np.nan, np.float32)
    present = np.flatnonzero(regions.present).tolist()
    if present:
        landmarks[present] = backend.landmarks([frames[i] for i in present], regions.box[present])
    return landmarks


def _boxes(centre: np.ndarray, wanted: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """int32 [t, 4] of one size around each centre [t, 2], cut at the frame's edges."""
    whole = np.maximum(1, np.round(wanted)).astype(np.int32)
    start = np.round(centre - whole / 2).astype(np.int32)
    limit = np.array(size, np.int32)
    return np.hstack([np.clip(start, 0, limit), np.clip(start + whole, 0, limit)])


def _large_enough(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST_SIDE).all(axis=1))


def _spread(values: np.ndarray, at: slice, num_frames: int) -> np.ndarray:
    """Values of the track's frames in an array for the whole clip, zero elsewhere."""
    full = np.zeros((num_frames, *values.shape[1:]), values.dtype)
    full[at] = values
    return full


def _area(box: np.ndarray) -> float:
    return float(np.median((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])))
