"""The 68 facial landmarks of iBUG 300-W (Sagonas et al. 2013): which index is which, and what they measure."""

from __future__ import annotations

import numpy as np

# In order: jaw, brows, nose bridge, nostrils, eyes, outer lips, inner lips.
MIRROR = np.array(
    [
        *(*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65),
    ]
)
"""Point i of a mirrored face is point MIRROR[i] of the original."""
EYES = (slice(36, 42), slice(42, 48))
INNER_LIPS = (62, 66)
"""The middle of the upper and the lower one."""


def eye_distance(landmarks: np.ndarray) -> np.ndarray:
    """Distance of the eyes' centres in every frame: points [T, 68, 2] to float64 [T], in their unit."""
    left, right = (landmarks[:, eye].astype(np.float64).mean(axis=1) for eye in EYES)
    return np.linalg.norm(left - right, axis=-1)


def lip_gap(landmarks: np.ndarray) -> np.ndarray:
    """Distance of the inner lips in every frame: points [T, 68, 2] to float64 [T], in their unit."""
    upper, lower = (landmarks[:, point].astype(np.float64) for point in INNER_LIPS)
    return np.linalg.norm(upper - lower, axis=-1)


def opening(landmarks: np.ndarray) -> np.ndarray:
    """How far the mouth of a clip opens: the lip gap over the clip's median eye distance, float64 [T]."""
    return lip_gap(landmarks) / np.median(eye_distance(landmarks))
