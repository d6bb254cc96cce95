"""Inputs of the networks: pictures, landmarks and audio features, standardised per clip, so that light, the size of the
face and loudness do not matter."""

from __future__ import annotations

import numpy as np

from syncdiff_data.landmarks import EYES
from syncdiff_data.sync_expert.network import BANDS, LANDMARK_DIM

SIDE = 48
MOUTH = slice(48, 68)
CHIN = slice(5, 12)
LANDMARK_GAIN = 20.0
"""Brings landmark motion, in eye distances, to unit spread or so."""
FLOOR = 9.0
"""Energies (natural log) are clipped this far below the loudest band (39 dB): digital silence is as quiet as a room."""


def halve(mouth: np.ndarray) -> np.ndarray:
    """uint8 [T, 96, 96] to float32 [T, 48, 48]: the mean of 2 x 2 pixels."""
    wide = mouth.reshape(len(mouth), SIDE, 2, SIDE, 2)
    return wide.mean(axis=(2, 4), dtype=np.float32)


def picture_statistics(mouth: np.ndarray, chunk: int = 512) -> tuple[np.ndarray, float, float]:
    """Mean picture float32 [48, 48], its mean gray and spread over the clip; chunk by chunk."""
    total = np.zeros((SIDE, SIDE), np.float64)
    for start in range(0, len(mouth), chunk):
        total += halve(mouth[start : start + chunk]).sum(axis=0, dtype=np.float64)
    mean = total / len(mouth)
    return mean.astype(np.float32), float(mean.mean()), float(max(mean.std(), 4.0))


def landmark_motion(landmarks: np.ndarray) -> np.ndarray:
    """float32 [T, 54] of points [T, 68, 2] in pixels: mouth and chin about the mouth's centre, upright, in units of the
    clip's median eye distance, less the clip's mean, times LANDMARK_GAIN."""
    points = landmarks.astype(np.float64)
    left, right = (points[:, eye].mean(axis=1) for eye in EYES)
    across = right - left
    size = max(float(np.median(np.hypot(*across.T))), 1e-6)
    angle = np.arctan2(across[:, 1], across[:, 0])
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    chosen = np.concatenate([points[:, MOUTH], points[:, CHIN]], axis=1)
    chosen = (chosen - points[:, MOUTH].mean(axis=1, keepdims=True)) / size
    upright = np.stack(
        [chosen[..., 0] * cos + chosen[..., 1] * sin, chosen[..., 1] * cos - chosen[..., 0] * sin], axis=-1
    )
    flat = upright.reshape(len(points), LANDMARK_DIM)
    return (LANDMARK_GAIN * (flat - flat.mean(axis=0))).astype(np.float32)


def standard_energies(logfbank: np.ndarray) -> np.ndarray:
    """float32 [T, 104] of `logfbank` [T, 104] before any normalisation: clipped at FLOOR below the loudest, each band
    less its mean over the clip, all divided by one spread."""
    energies = logfbank.astype(np.float32).reshape(-1, BANDS)
    energies = np.maximum(energies, np.quantile(energies, 0.99) - FLOOR)
    energies = energies - energies.mean(axis=0)
    return (energies / max(float(energies.std()), 0.5)).reshape(logfbank.shape).astype(np.float32)
