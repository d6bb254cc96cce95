"""An encoder as a user would write it; Ray's workers import it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from syncdiff_data.features import EncoderOptions
from syncdiff_data.records import Clip


class Loudness:
    """Column `loudness`: mean magnitude of each frame's 640 samples."""

    def __init__(self, options: EncoderOptions):
        self.columns = {"loudness": 1}

    def encode(self, clips: Sequence[Clip]) -> list[dict[str, np.ndarray]]:
        return [{"loudness": _loudness(clip)} for clip in clips]


def _loudness(clip: Clip) -> np.ndarray:
    samples = clip.audio.reshape(clip.num_frames, -1).astype(np.float32) / 32768
    return np.abs(samples).mean(axis=1, keepdims=True)
