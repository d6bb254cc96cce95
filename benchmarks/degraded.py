"""Real video degraded by a known amount, frame by frame: what a metric must tell from the video as it was.

Images are RGB uint8 [H, W, 3] of one clip, boxes int [T, 4] (x0, y0, x1, y1) of its mouth.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from syncdiff_eval.videos import frames

Images = list[np.ndarray]


def read_images(path: Path) -> Images:
    """Every frame of a file."""
    return [image for _, image in frames(path)]


def blurred(images: Images, sigma: float) -> Images:
    """A Gaussian of sigma pixels."""
    return [cv2.GaussianBlur(image, (0, 0), sigma) for image in images]


def noisy(images: Images, sd: float, seed: int) -> Images:
    """Noise of that standard deviation, in gray levels, other noise in each frame."""
    rng = np.random.default_rng(seed)
    return [
        np.clip(np.rint(image + rng.normal(0, sd, image.shape)), 0, 255).astype(np.uint8) for image in images
    ]


def with_mouth(images: Images, boxes: np.ndarray, others: Images, other_boxes: np.ndarray) -> Images:
    """The mouth of frame i of another clip in place of one's own, its border softened. The last frame of the shorter
    clip stands for those after it."""
    result = []
    for i, image in enumerate(images):
        x0, y0, x1, y1 = boxes[min(i, len(boxes) - 1)]
        u0, v0, u1, v1 = other_boxes[min(i, len(others) - 1)]
        patch = cv2.resize(others[min(i, len(others) - 1)][v0:v1, u0:u1], (int(x1 - x0), int(y1 - y0)))
        edge = np.zeros((y1 - y0, x1 - x0, 1), np.float32)
        edge[3:-3, 3:-3] = 1
        mask = cv2.GaussianBlur(edge, (0, 0), 2)[..., None]
        shown = image.copy()
        shown[y0:y1, x0:x1] = np.rint(mask * patch + (1 - mask) * image[y0:y1, x0:x1])
        result.append(shown)
    return result


def with_late_mouth(images: Images, boxes: np.ndarray) -> Images:
    """The clip's own mouth of half a clip later, around its end."""
    half = len(images) // 2
    return with_mouth(images, boxes, images[half:] + images[:half], np.roll(boxes, -half, axis=0))
