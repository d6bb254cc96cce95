"""The driving audio of a clip, and by how much a file's own sound lies after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.signal import correlate

from syncdiff_data.media import AudioTrack
from syncdiff_data.records import FPS, SAMPLE_RATE

MOST_LAG_S = 0.5
SHIFTED_S = 0.02
"""Half a frame: a report counts the files whose lag is longer."""
LEAST_LIKENESS = 0.5
"""Of two waveforms at their best lag, as a cosine: below it they are taken for different sounds."""


def driving_audio(path: Path, start_s: float, num_frames: int, fps: float) -> np.ndarray:
    """int16 [N], 16 kHz mono, of at least num_frames / fps seconds from start_s on (`sound_start` where the sound is
    another file's). Raises MediaError."""
    return slice_audio(AudioTrack(path), start_s, num_frames, fps)


def slice_audio(track: AudioTrack, start_s: float, num_frames: int, fps: float) -> np.ndarray:
    """The same from a decoded track."""
    return track.slice(start_s, int(np.ceil(num_frames / fps * FPS)))


def shift_audio(audio: np.ndarray, frames_late: int, fps: float) -> np.ndarray:
    """The same sound k frames later (earlier where negative), silence in the gap, the same length."""
    samples = round(frames_late * SAMPLE_RATE / fps)
    shifted = np.zeros_like(audio)
    if samples >= 0:
        shifted[samples:] = audio[: max(0, len(audio) - samples)]
    else:
        shifted[:samples] = audio[-samples:]
    return shifted


def sound_lag(own: np.ndarray, driving: np.ndarray) -> float | None:
    """Seconds by which `own` lies after `driving` (negative: before it), both int16 at 16 kHz on the clock of the first
    frame: the lag of the highest cross-correlation, up to MOST_LAG_S. None where the two are not one sound."""
    a, b = own.astype(np.float64), driving.astype(np.float64)
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    if norm == 0:
        return None
    products = correlate(a, b, mode="full", method="fft") / norm
    zero = len(b) - 1
    most = min(round(MOST_LAG_S * SAMPLE_RATE), zero, len(a) - 1)
    near = products[zero - most : zero + most + 1]
    best = int(near.argmax())
    return (best - most) / SAMPLE_RATE if near[best] >= LEAST_LIKENESS else None
