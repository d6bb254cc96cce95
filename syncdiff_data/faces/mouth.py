"""AV-HuBERT's mouth crop: 96 x 96 pixels around the mouth, made exactly as its published preparation does.

The published procedure (Shi et al. 2022, preparation/align_mouth.py) warps the whole frame to 256 x 256 with
scikit-image and cuts 96 x 96 out of it. Only those 96 x 96 are computed here, with the same double precision
arithmetic in the same order, so the pixels are the same (tests/test_faces_crops.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from skimage.transform import SimilarityTransform

CROP = 96
SPACE = 256
"""Side of the normalised frame in which the mean face lies and that the crop is a part of."""
WINDOW = 12
"""Landmarks are averaged over a frame and the 11 that follow it."""
STABLE_POINTS = (33, 36, 39, 42, 45)
"""Nose base and eye corners."""
MOUTH_POINTS = slice(48, 68)
UNIT = np.arange(256) * (1 / 255)
"""skimage's img_as_float of a byte: a product, not a quotient, which matters in the last bit."""


def mouth_crops(
    frames: Iterable[np.ndarray], landmarks: np.ndarray, mean_face: np.ndarray
) -> Iterator[np.ndarray]:
    """Gray uint8 [96, 96] per frame, streamed; `landmarks` [T, 68, 2] are those of the whole clip."""
    cropper = MouthCropper(landmarks, mean_face)
    for t, frame in enumerate(frames):
        yield cropper.crop(frame, t)


class MouthCropper:
    """The crops of one clip, whose landmarks (no gaps) must all be known before its first frame is cropped."""

    def __init__(self, landmarks: np.ndarray, mean_face: np.ndarray):
        """landmarks: [T, 68, 2], source pixels; mean_face: [68, 2] in the 256 x 256 space."""
        self._inverse, self._corner = plan_crops(landmarks.astype(np.float64), mean_face)

    def crop(self, frame: np.ndarray, t: int) -> np.ndarray:
        """Gray uint8 [96, 96] of frame number t of the clip, RGB uint8 [H, W, 3]."""
        return cv2.cvtColor(self.crop_colour(frame, t), cv2.COLOR_RGB2GRAY)

    def crop_colour(self, frame: np.ndarray, t: int) -> np.ndarray:
        """The same before it turns gray, uint8 [96, 96, 3], channels in the order of the frame's."""
        return warp_region(frame, self._inverse[t], self._corner[t])


def plan_crops(landmarks: np.ndarray, mean_face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per frame the matrix from the 256 x 256 space to the source (float64 [T, 3, 3]) and the x, y of the
    crop's first pixel in that space (int64 [T, 2]), for float64 landmarks [T, 68, 2].

    The last WINDOW - 1 frames reuse the last transform. The crop follows the mouth of the current frame,
    unsmoothed.
    """
    window = min(WINDOW, len(landmarks))
    stable = list(STABLE_POINTS)
    inverses, corners = [], []
    for t, points in enumerate(landmarks):
        if t + window <= len(landmarks):
            smoothed = np.mean(landmarks[t : t + window], axis=0)
            transform = SimilarityTransform.from_estimate(smoothed[stable], mean_face[stable])
            inverse = transform.inverse.params
        corners.append(cut_corner(np.mean(transform(points)[MOUTH_POINTS], axis=0)))
        inverses.append(inverse)
    return np.array(inverses), np.array(corners)


def cut_corner(centre: np.ndarray) -> np.ndarray:
    """First pixel (x, y), int64 [2], of the crop around a centre [2], pushed back inside the 256 x 256 space.
    Halves round to even, as Python does."""
    centre = np.clip(centre, CROP // 2, SPACE - CROP // 2)
    return np.round(centre).astype(np.int64) - CROP // 2


def warp_region(image: np.ndarray, inverse: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """uint8 [96, 96, C]: skimage.transform.warp(image, ...) * 255, truncated to bytes, from `corner` (x, y)
    on. Bilinear, outside 0. inverse: float64 [3, 3], output (x, y, 1) to image of uint8 [H, W, C]."""
    x = np.arange(corner[0], corner[0] + CROP, dtype=np.float64)[None, :]
    y = np.arange(corner[1], corner[1] + CROP, dtype=np.float64)[:, None]
    col = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]
    row = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]
    padded, row0, col0 = _surroundings(image, row, col)
    low_row, low_col = np.floor(row), np.floor(col)
    dr, dc = row - low_row, col - low_col
    up, left = 1 - dr, 1 - dc
    # indices of the four neighbours [96, 96] in a plane of one channel
    first = ((low_row - row0) * padded.shape[1] + (low_col - col0)).astype(np.intp)
    right, below = (col > low_col).astype(np.intp), (row > low_row) * np.intp(padded.shape[1])
    corners = (first, first + right, first + below, first + right + below)
    region = np.empty((CROP, CROP, image.shape[2]), np.uint8)
    for channel in range(image.shape[2]):
        values = UNIT[padded[..., channel].ravel()]
        top_left, top_right, bottom_left, bottom_right = (values.take(corner) for corner in corners)
        top = left * top_left + dc * top_right
        bottom = left * bottom_left + dc * bottom_right
        region[..., channel] = (up * top + dr * bottom) * 255
    return region


def _surroundings(image: np.ndarray, row: np.ndarray, col: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The part of the image that the samples touch, with zeros where it leaves the image, and its first
    row and column."""
    row0, row1 = int(np.floor(row.min())), int(np.ceil(row.max())) + 1
    col0, col1 = int(np.floor(col.min())), int(np.ceil(col.max())) + 1
    height, width = image.shape[:2]
    top, left, bottom, right = max(0, row0), max(0, col0), min(height, row1), min(width, col1)
    padded = np.zeros((row1 - row0, col1 - col0, image.shape[2]), np.uint8)
    if top < bottom and left < right:
        padded[top - row0 : bottom - row0, left - col0 : right - col0] = image[top:bottom, left:right]
    return padded, row0, col0
