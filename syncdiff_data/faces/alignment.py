"""The aligned face crop: where a face sits in it, and the affine that takes it back to the source.

The crop is a square of side S. A similarity transform, estimated per frame from points that speech does not
move, puts the face so that
    the middle of the eyes lies at (0.50, 0.38) S and the eye centres are 0.25 S apart,
    the mouth (mean face) lies about (0.50, 0.68) S, the closed chin about 0.87 S, the open one above 0.97 S.
Masks and metrics may rely on this template; `stable_template` gives it in units of S.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from syncdiff_data.faces.mean_face import mean_face

STABLE_POINTS = (27, 28, 29, 30, 33, 36, 39, 42, 45)
"""Nose bridge, nose base and the corners of the eyes (iBUG indices)."""
EYE_LINE = 0.38
EYE_DISTANCE = 0.25


@cache
def stable_template() -> np.ndarray:
    """Where STABLE_POINTS lie in the crop: float64 [9, 2], in units of the crop's side, measured from the
    centre of its first pixel."""
    face = mean_face()
    left, right = face[36:42].mean(axis=0), face[42:48].mean(axis=0)
    scale = EYE_DISTANCE / np.linalg.norm(right - left)
    return (face[list(STABLE_POINTS)] - (left + right) / 2) * scale + (0.5, EYE_LINE)


def face_transforms(landmarks: np.ndarray, crop_size: int, smooth_frames: int = 7) -> np.ndarray:
    """Affines from crop pixels to source pixels, float32 [T, 2, 3], for 68 points [T, 68, 2].

    The stable points are smoothed in time (`smooth`), then fitted to the template by least squares over
    similarity transforms (Umeyama 1991, without reflection).
    """
    points = smooth(landmarks[:, list(STABLE_POINTS)].astype(np.float64), smooth_frames)
    return fit_similarity(stable_template() * (crop_size - 1), points).astype(np.float32)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred triangular average over `window` frames (odd) along axis 0; near the ends the weights that
    fall outside are left out, so a constant stays constant. window 1 changes nothing."""
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the smoothing window must be an odd number of frames, got {window}")
    half = window // 2
    weights = half + 1 - np.abs(np.arange(-half, half + 1, dtype=np.float64))
    length = len(values)
    total = np.zeros_like(values, dtype=np.float64)
    norm = np.zeros(length)
    for shift, weight in zip(range(-half, half + 1), weights):
        lo, hi = max(0, -shift), min(length, length - shift)
        if lo < hi:
            total[lo:hi] += weight * values[lo + shift : hi + shift]
            norm[lo:hi] += weight
    return total / norm.reshape(-1, *[1] * (values.ndim - 1))


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity (rotation, uniform scale, shift) from points [N, 2] to each of [T, N, 2]:
    float64 [T, 2, 3]. The closed form for the plane: points as complex numbers, target = a * source + b."""
    s = source[:, 0] + 1j * source[:, 1]
    t = target[..., 0] + 1j * target[..., 1]
    s_mean, t_mean = s.mean(), t.mean(axis=-1)
    centred = s - s_mean
    a = ((t - t_mean[..., None]) * centred.conj()).sum(axis=-1) / (np.abs(centred) ** 2).sum()
    b = t_mean - a * s_mean
    return np.stack([np.stack([a.real, -a.imag, b.real], -1), np.stack([a.imag, a.real, b.imag], -1)], -2)


def crop_face(frame: np.ndarray, face_to_source: np.ndarray, crop_size: int) -> np.ndarray:
    """The aligned crop, uint8 [S, S, 3], of an RGB frame [H, W, 3] under its affine [2, 3] (crop -> source).

    Bilinear; where a face is shrunk to less than half, the source is first averaged down so that fine detail
    does not alias. Outside the frame the border is repeated.
    """
    matrix = face_to_source.astype(np.float64)
    shrink = int(np.hypot(matrix[0, 0], matrix[1, 0]))
    if shrink > 1:
        frame, matrix = _average_down(frame, matrix, crop_size, shrink)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(frame, matrix, (crop_size, crop_size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _average_down(
    frame: np.ndarray, matrix: np.ndarray, crop_size: int, factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the frame that the crop shows, averaged down by a whole factor, and the matrix into it."""
    corners = np.array([[0, 0, 1], [crop_size, 0, 1], [0, crop_size, 1], [crop_size, crop_size, 1]])
    reach = corners @ matrix.T
    height, width = frame.shape[:2]
    x0, y0 = (max(0, int(v) // factor * factor) for v in reach.min(axis=0) - 2 * factor)
    x1 = min(width, int(reach[:, 0].max()) + 2 * factor)
    y1 = min(height, int(reach[:, 1].max()) + 2 * factor)
    size = (max(1, (x1 - x0) // factor), max(1, (y1 - y0) // factor))
    part = frame[y0 : y0 + size[1] * factor, x0 : x0 + size[0] * factor]
    moved = matrix.copy()
    # The centre of small pixel 0 is the mean of the source pixels 0..factor-1.
    moved[:, 2] = matrix[:, 2] - (x0, y0) - (factor - 1) / 2
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA), moved / factor
