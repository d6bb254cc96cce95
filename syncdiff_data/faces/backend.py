"""What finds faces: one small interface, and the loader that gives the backend named in the options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from syncdiff_data.faces.config import FaceConfig
from syncdiff_data.registry import import_own, is_own, lookup, make_own


class FaceBackend(Protocol):
    """Detection and 68 landmarks. Frames are RGB uint8 [H, W, 3]; pixel centres lie at integers."""

    name: str

    def detect(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Per frame float32 [N, 5] or [N, 6]: x0, y0, x1, y1, score (0 to 1) and, where the detector
        can tell, roll in degrees (0 upright, 180 upside down; positive turns clockwise in the image).
        Boxes are squares around brows, chin and cheeks, as `landmarks` wants them."""
        ...

    def landmarks(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> np.ndarray:
        """68 iBUG points float32 [B, 68, 2] (x, y) of the face in boxes[i] (float32 [B, 4]) of frames[i]."""
        ...


@dataclass(frozen=True)
class BackendEntry:
    """What the registry says of a backend.

    load: from the options, weight files by name, and the device. weights: names in the registry of
    `syncdiff_data.weights` of files that do not come with pip.
    """

    load: Callable[[FaceConfig, Mapping[str, Path], str], FaceBackend]
    weights: tuple[str, ...] = ()


def _embedded(config: FaceConfig, weights: Mapping[str, Path], device: str) -> FaceBackend:
    from syncdiff_data.faces.embedded import EmbeddedBackend

    return EmbeddedBackend(config.detect_px)


def _face_alignment(config: FaceConfig, weights: Mapping[str, Path], device: str) -> FaceBackend:
    from syncdiff_data.faces.face_alignment_backend import FaceAlignmentBackend

    return FaceAlignmentBackend(weights, device, config.detect_px)


BACKENDS: dict[str, BackendEntry] = {
    "embedded": BackendEntry(_embedded),
    "face-alignment": BackendEntry(_face_alignment, weights=("s3fd", "fan2d")),
}


def load_backend(config: FaceConfig, weights: Mapping[str, Path], device: str = "cpu") -> FaceBackend:
    """The backend `config.backend` on `device` (the embedded one always runs on the CPU).

    A name "module:Class" is a backend of the user's own, made as Class(config, device).
    weights: files by registry name, for backends whose weights do not come with pip. Raises UserError for
    an unknown name and for missing weights; never touches the network.
    """
    if is_own(config.backend):
        make = import_own(config.backend, "face backend")
        backend: FaceBackend = make_own(config.backend, "face backend", make, config, device)
        return backend
    return lookup(config.backend, BACKENDS, "face backend").load(config, weights, device)
