"""A mean face from many sets of 68 landmarks, placed where AV-HuBERT's published mean face lies.

Its own file, 20words_mean_face.npy, may be used for research only, so the project ships one of its own
(mean_face.json), made by benchmarks/derive_mean_face.py. Its shape is ours; place and size are three rounded numbers
of the published one, so that mouths come out at the scale that its checkpoints expect.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from syncdiff_data.landmarks import MIRROR
from syncdiff_data.records import UserError

EYE_CENTRE = (129.2, 93.9)
EYE_DISTANCE = 54.3
"""Middle of the eyes and distance of the eye centres in the 256 x 256 space of the mouth crop."""


@cache
def mean_face() -> np.ndarray:
    """The mean face that ships with the project: float64 [68, 2], read only."""
    points = json.loads((files("syncdiff_data.faces") / "mean_face.json").read_text())["points"]
    face = np.array(points, np.float64)
    face.setflags(write=False)
    return face


def load_mean_face(path: Path) -> np.ndarray:
    """Another mean face, such as AV-HuBERT's own 20words_mean_face.npy: float64 [68, 2].

    UserError when the file holds something else.
    """
    try:
        face = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy raises half a dozen kinds for damaged headers
        raise UserError(f"{path} cannot be read as a .npy file of a mean face: {error}") from error
    if not isinstance(face, np.ndarray) or face.dtype.kind not in "fiu":
        raise UserError(f"{path} holds no array of numbers; a mean face has 68 finite points, [68, 2]")
    if face.shape != (68, 2) or not np.isfinite(face).all():
        raise UserError(
            f"{path} holds an array of shape {face.shape}; a mean face has 68 finite points, [68, 2]"
        )
    return face.astype(np.float64)


def derive_mean_face(faces: np.ndarray, iterations: int = 10) -> np.ndarray:
    """Mean shape of faces [N, 68, 2] by generalised Procrustes analysis (Gower 1975), mirrored copies
    included so that it is symmetric: float64 [68, 2], upright, placed by EYE_CENTRE and EYE_DISTANCE."""
    mirrored = faces[:, MIRROR] * (-1, 1)
    shapes = np.concatenate([faces, mirrored]).astype(np.float64) @ (1, 1j)
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    mean = shapes[0]
    for _ in range(iterations):
        # Least squares rotation and scale of every shape onto the mean, as one complex factor each.
        factor = (shapes.conj() @ mean) / (np.abs(shapes) ** 2).sum(axis=1)
        mean = (shapes * factor[:, None]).mean(axis=0)
    left, right = mean[36:42].mean(), mean[42:48].mean()
    placed = (mean - (left + right) / 2) * (EYE_DISTANCE / (right - left)) + complex(*EYE_CENTRE)
    return np.stack([placed.real, placed.imag], axis=1)
