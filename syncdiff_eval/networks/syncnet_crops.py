"""The picture SyncNet looks at: a box grown around a face and shown at 224 x 224, or the whole frame."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import medfilt

from syncdiff_eval.networks.syncnet_windows import SIDE

SMOOTH = 13
"""Frames of the median over time."""
GROWTH = 0.40
"""`crop_scale` of run_pipeline.py: it makes a face box look like an LRS frame."""
GREY = 110
"""What lies beyond the frame."""
Ends = Literal["zero", "held"]


def crop_path(boxes: np.ndarray, ends: Ends) -> np.ndarray:
    """Centre x, y and half side of the face through time: boxes [T, 4] in pixels to float64 [T, 3].

    Median over 13 frames. ends "zero" sees zeros beyond both ends, as run_pipeline.py does, which draws the
    crops of the first and last six frames towards the smallest values near them; "held" repeats the end boxes.
    """
    low, high = np.asarray(boxes, np.float64)[:, :2], np.asarray(boxes, np.float64)[:, 2:]
    path = np.column_stack([(low + high) / 2, (high - low).max(axis=1) / 2])
    if ends == "zero":
        return np.column_stack([medfilt(column, SMOOTH) for column in path.T])
    smooth: np.ndarray = median_filter(path, size=(SMOOTH, 1), mode="nearest")
    return smooth


def crop(frame: np.ndarray, x: float, y: float, half: float) -> np.ndarray:
    """uint8 [H, W, 3] to uint8 [224, 224, 3] in the frame's order of colours.

    From x - 1.4 half to x + 1.4 half, and from y - half to y + 1.8 half: run_pipeline.py's square.
    """
    # The original pads the whole frame by this much first, which decides how its borders round.
    pad = int(half * (1 + 2 * GROWTH))
    top, bottom = int(y + pad - half) - pad, int(y + pad + half * (1 + 2 * GROWTH)) - pad
    left, right = int(x + pad - half * (1 + GROWTH)) - pad, int(x + pad + half * (1 + GROWTH)) - pad
    height, width = frame.shape[:2]
    inside = frame[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    outside = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    if any(outside):
        inside = cv2.copyMakeBorder(inside, *outside, cv2.BORDER_CONSTANT, value=(GREY, GREY, GREY))
    return cv2.resize(inside, (SIDE, SIDE))


def whole_frame(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] to uint8 [224, 224, 3], whatever its shape: calculate_scores_LRS.py's picture."""
    return cv2.resize(frame, (SIDE, SIDE))


def to_bgr(image: np.ndarray) -> np.ndarray:
    """RGB to BGR, or back."""
    return np.ascontiguousarray(image[..., ::-1])
