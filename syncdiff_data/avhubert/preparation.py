"""From a clip's sound and mouth crops to the inputs of the encoder.

The procedure of the published AV-HuBERT data code (commit 258fb50): hubert_dataset.py and its transforms.
"""

from __future__ import annotations

import numpy as np

from syncdiff_data.avhubert.config import AUDIO_DIM, FRAME_SIZE

GRAY_MEAN, GRAY_STD = 0.421, 0.165
"""Mean and spread of gray mouth pixels in [0, 1], as the published models were trained with."""
NORM_EPS = 1e-5


def align_frames(features: np.ndarray, num_frames: int) -> np.ndarray:
    """[T', D] -> [num_frames, D] beside a video of num_frames: longer sound loses its tail, shorter gets
    zeros.
    """
    missing = max(0, num_frames - len(features))
    return np.pad(features[:num_frames], ((0, missing), (0, 0)))


def audio_input(logfbank: np.ndarray) -> np.ndarray:
    """float32 [104, T] from stacked log energies [T, 104]: each frame normalised to mean 0 and variance 1."""
    if logfbank.ndim != 2 or logfbank.shape[1] != AUDIO_DIM:
        raise ValueError(f"logfbank: expected [T, {AUDIO_DIM}], got {list(logfbank.shape)}")
    frames = logfbank.astype(np.float64)
    mean, variance = frames.mean(axis=1, keepdims=True), frames.var(axis=1, keepdims=True)
    return ((frames - mean) / np.sqrt(variance + NORM_EPS)).T.astype(np.float32)


def video_input(mouth: np.ndarray) -> np.ndarray:
    """float32 [1, T, 88, 88] from gray uint8 mouth crops [T, 96, 96]: the middle, on the scale of the
    training.
    """
    if mouth.dtype != np.uint8 or mouth.ndim != 3 or min(mouth.shape[1:]) < FRAME_SIZE:
        raise ValueError(f"mouth: expected uint8 [T, 96, 96], got {mouth.dtype} {list(mouth.shape)}")
    top, left = ((side - FRAME_SIZE) // 2 for side in mouth.shape[1:])
    middle = mouth[:, top : top + FRAME_SIZE, left : left + FRAME_SIZE]
    scale = ((np.arange(256) / 255 - GRAY_MEAN) / GRAY_STD).astype(np.float32)
    return scale[middle][None]
