"""Sound as the bytes a shard holds: 16-bit FLAC, the same bytes for the same input. Pictures: images.py."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from syncdiff_data.records import SAMPLE_RATE


def encode_flac(audio: np.ndarray) -> bytes:
    """int16 [N] mono 16 kHz to FLAC, lossless."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes) -> np.ndarray:
    """FLAC to int16 [N]."""
    audio, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    return audio
