"""Overlap of boxes, and the best matching of two sets of them."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

MATCH_IOU = 0.3
"""Boxes that overlap less are different faces."""


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
