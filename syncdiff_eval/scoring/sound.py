"""The driving audio of a clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from syncdiff_data.media import AudioTrack
from syncdiff_data.records import FPS, SAMPLE_RATE


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
