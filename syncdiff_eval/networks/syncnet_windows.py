"""The windows SyncNet sees, one by one; nothing here waits for torch to load."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from syncdiff_data.records import SAMPLES_PER_FRAME

WINDOW = 5
"""Frames that one embedding sees."""
SIDE = 224
EMBEDDING = 1024
BATCH = 16
"""Windows at a time."""


class WindowEmbedder(Protocol):
    """What a LipStream runs: SyncNet's lip network, or a stand-in."""

    def embed_windows(self, frames_bgr: np.ndarray) -> np.ndarray:
        """uint8 [B + 4, 224, 224, 3] to float32 [B, 1024]."""
        ...


class LipStream:
    """Lip embeddings of frames that arrive one by one; holds a batch of frames, whatever the clip's length."""

    def __init__(self, network: WindowEmbedder, batch: int = BATCH):
        self._network = network
        self._batch = batch
        self._frames: list[np.ndarray] = []
        self._parts: list[np.ndarray] = []

    def add(self, frame_bgr: np.ndarray) -> None:
        """The next frame, uint8 [224, 224, 3]."""
        self._frames.append(frame_bgr)
        if len(self._frames) == self._batch + WINDOW - 1:
            self._embed()

    def finish(self) -> np.ndarray:
        """float32 [T - 4, 1024], of all frames added; none for fewer than five."""
        if len(self._frames) >= WINDOW:
            self._embed()
        return np.concatenate(self._parts) if self._parts else np.empty((0, EMBEDDING), np.float32)

    def _embed(self) -> None:
        self._parts.append(self._network.embed_windows(np.stack(self._frames)))
        del self._frames[: -(WINDOW - 1)]


def num_windows(num_frames: int, num_samples: int) -> int:
    """Windows that SyncNet's evaluate compares. It drops the last valid one; that defines the published number."""
    return max(0, min(num_frames, num_samples // SAMPLES_PER_FRAME) - WINDOW)
