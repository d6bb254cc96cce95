"""What finds faces: one small interface, and the loader that gives the backend named in the options."""

from __future__ import annotations

import importlib
import inspect
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

    A name "module:Class" is a backend of the user's own, made as Class(config, device).
    weights: files by registry name, for backends whose weights do not come with pip. Raises UserError for
    an unknown name and for missing weights; never touches the network.
    """
    if config.backend == "embedded":
        from syncdiff_data.faces.embedded import EmbeddedBackend

        return EmbeddedBackend(config.detect_px)
    if config.backend == "face-alignment":
        from syncdiff_data.faces.face_alignment_backend import FaceAlignmentBackend

        return FaceAlignmentBackend(weights, device, config.detect_px)
    return plugin(config.backend)(config, device)


def plugin(name: str) -> type:
    """The class that "module:Class" names. Raises UserError where there is none."""
    module_name, colon, class_name = name.partition(":")
    if not colon:
        raise UserError(f'no face backend "{name}": use "embedded", "face-alignment" or "module:Class"')
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f'the face backend "{name}" cannot be loaded ({error}): its module must be importable on every '
            "node, in the working directory or on PYTHONPATH."
        ) from error
    assert isinstance(found, type)
    return found


def plugin_file(name: str) -> Path:
    """The source file of a backend "module:Class": it decides the results as weights do."""
    file = inspect.getsourcefile(plugin(name))
    assert file is not None
    return Path(file)
