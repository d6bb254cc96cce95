"""A face backend for tests: the colour of the picture says what it finds, or how it goes wrong.

It runs in Ray's workers as `FaceConfig(backend="stub_faces:ColourBackend")`, the way a user's own backend does.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from syncdiff_data.clips import ClipConfig
from syncdiff_data.faces import FaceConfig, mean_face
from syncdiff_data.media import write_video

SIDE = 64
COLOURS = {
    "face": (128, 128, 128),
    "no_face": (0, 0, 0),
    "crash": (255, 0, 0),
    "bug": (0, 255, 0),
    "hang": (0, 0, 255),
}
CONFIG = ClipConfig(
    faces=FaceConfig(backend="stub_faces:ColourBackend", min_face_px=0, crop_size=32), mouth=False
)


class ColourBackend:
    """One face in the middle of a gray picture, none in a black one; other colours are faults."""

    name = "colours"

    def __init__(self, config: FaceConfig, device: str):
        pass

    def detect(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self._detect_one(frame.mean(axis=(0, 1))) for frame in frames]

    def landmarks(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> np.ndarray:
        return np.repeat(mean_face()[None] * SIDE / 256, len(boxes), axis=0).astype(np.float32)

    def _detect_one(self, colour: np.ndarray) -> np.ndarray:
        red, green, blue = colour
        if red > 150 > green:
            os.kill(os.getpid(), signal.SIGKILL)
        if green > 150 > red:
            raise ZeroDivisionError("a bug in this backend")
        if blue > 150 > red:
            time.sleep(3600)
        found = [] if colour.max() < 50 else [[8, 8, SIDE - 8, SIDE - 8, 0.9]]
        return np.array(found, np.float32).reshape(-1, 5)


def write_colour(path: Path, what: str, num_frames: int = 12, sound: bool = True) -> Path:
    """A video of one key of COLOURS, with a tone whose pitch depends on its length."""
    frames = np.full((num_frames, SIDE, SIDE, 3), COLOURS[what], np.uint8)
    tone = 8000 * np.sin(np.arange(num_frames * 640) * num_frames / 100)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames, tone.astype(np.int16) if sound else None)
    return path
