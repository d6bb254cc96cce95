"""Augmentations that keep a sample consistent: one draw for all its frames, identity, pose and landmarks."""

from __future__ import annotations

import cv2
import numpy as np

from syncdiff_data.landmarks import MIRROR

IMAGES = ("frames", "identity", "pose", "masked")

LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601."""


def augment(
    sample: dict[str, np.ndarray], side: int, flip: bool, colour_jitter: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Mirror half of the samples (flip); change brightness, contrast and saturation by up to ± colour_jitter.

    side: of the crops, in pixels.
    """
    if flip and rng.random() < 0.5:
        sample = mirror(sample, side)
    if colour_jitter:
        matrix = colour_matrix(*rng.uniform(1 - colour_jitter, 1 + colour_jitter, 3))
        sample = sample | {name: recolour(sample[name], matrix) for name in IMAGES if name in sample}
    return sample


def mirror(sample: dict[str, np.ndarray], side: int) -> dict[str, np.ndarray]:
    """The sample in a mirror: images [..., S, S, 3] by column, landmarks [T, 68, 2] by place and by name."""
    mirrored = {name: sample[name][..., ::-1, :] for name in IMAGES if name in sample}
    if "landmarks" in sample:
        mirrored["landmarks"] = landmarks = sample["landmarks"][:, MIRROR]
        landmarks[..., 0] = side - 1 - landmarks[..., 0]
    return sample | mirrored


def colour_matrix(brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """3x4 affine of RGB values 0-255: saturation about the luma, contrast about mid-gray, then brightness."""
    turn = saturation * np.eye(3) + (1 - saturation) * LUMA[None]
    return brightness * np.column_stack([contrast * turn, np.full(3, (1 - contrast) * 127.5)])


def recolour(images: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a colour matrix to uint8 [..., S, S, 3], saturating."""
    rows = np.ascontiguousarray(images).reshape(-1, images.shape[-2], 3)
    return cv2.transform(rows, matrix).reshape(images.shape)
