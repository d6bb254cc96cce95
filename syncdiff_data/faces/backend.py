"""What finds faces: one small interface, and the loader that gives the backend named in the options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from syncdiff_data.faces.config import FaceConfig
from syncdiff_data.records import UserError


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


def load_backend(config: FaceConfig, weights: Mapping[str, Path], device: str = "cpu") -> FaceBackend:
    """The backend `config.backend` on `device` (the embedded one always runs on the CPU).

    weights: files by registry name, for backends whose weights do not come with pip. Raises UserError for
    an unknown name and for missing weights; never touches the network.
    """
    if config.backend == "embedded":
        from syncdiff_data.faces.embedded import EmbeddedBackend

        return EmbeddedBackend(config.detect_px)
    if config.backend == "face-alignment":
        from syncdiff_data.faces.face_alignment_backend import FaceAlignmentBackend

        return FaceAlignmentBackend(weights, device, config.detect_px)
    raise UserError(f'no face backend "{config.backend}": use "embedded" or "face-alignment"')
