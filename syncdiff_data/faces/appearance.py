"""Small descriptors of frames and faces: cheap tests for scene cuts and for covered faces.

The limits were read off 51 real clips: docs/faces.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SCENE_CUT_DIFFERENCE = 12.0
"""A cut changes the frame, shrunk to 32 x 32, by more than this on average (0 to 255). So does a shaking camera."""
SCENE_CUT_CORRELATION = 0.9
"""A cut has a correlation of the colour histograms below this. So does a fade of a still scene."""
SCENE_CUT_STRUCTURE = 0.5
"""So does a correlation of the gray 32 x 32 below this: films without colour, and people before one background."""
SAME_FACE = 0.5
"""Correlation of a face's thumbnails in two neighbouring frames below which it may have been covered."""


@dataclass(frozen=True)
class FrameAppearance:
    """A descriptor of one frame."""

    small: np.ndarray
    """float32 [32, 32, 3]."""
    colours: np.ndarray
    """float32 [256]: histogram over 16 hues x 16 saturations, independent of brightness (a flash is no cut)."""


def frame_appearance(frame: np.ndarray) -> FrameAppearance:
    """The descriptor of an RGB frame, uint8 [H, W, 3]."""
    small = cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
    colours = cv2.calcHist([hsv], [0, 1], None, [16, 16], [0, 180, 0, 256]).ravel()
    return FrameAppearance(small.astype(np.float32), colours)


def is_scene_cut(before: FrameAppearance, after: FrameAppearance) -> bool:
    """Whether another scene begins between two frames."""
    if np.abs(after.small - before.small).mean() <= SCENE_CUT_DIFFERENCE:
        return False
    if correlation(unit(before.colours), unit(after.colours)) < SCENE_CUT_CORRELATION:
        return True
    gray = (unit(appearance.small.mean(axis=2).ravel()) for appearance in (before, after))
    return bool(correlation(*gray) < SCENE_CUT_STRUCTURE)


def face_appearance(frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """float32 [N, 256]: the gray 16 x 16 thumbnail of the face in each box [N, 4], without mean and scale."""
    height, width = frame.shape[:2]
    thumbnails = np.empty((len(boxes), 256), np.float32)
    for i, box in enumerate(boxes):
        x0, y0 = (max(0, min(int(v), side - 1)) for v, side in zip(box[:2], (width, height)))
        x1, y1 = (min(side, max(int(v), low) + 1) for v, side, low in zip(box[2:], (width, height), (x0, y0)))
        small = cv2.resize(frame[y0:y1, x0:x1], (16, 16), interpolation=cv2.INTER_AREA)
        thumbnails[i] = unit(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).ravel().astype(np.float32))
    return thumbnails


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation, [...], of what `unit` gave, [..., K]."""
    return (a * b).sum(axis=-1)


def unit(values: np.ndarray) -> np.ndarray:
    """Values [K] less their mean, scaled to length 1; zeros where they are all the same."""
    centred = values - values.mean()
    length = np.linalg.norm(centred)
    return centred / length if length > 0 else centred
