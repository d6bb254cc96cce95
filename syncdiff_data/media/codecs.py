"""Sound as the bytes a shard holds: 16-bit FLAC, the same bytes for the same input. Pictures: images.py."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from syncdiff_data.records import SAMPLE_RATE

BLOCK = 1 << 20
"""Samples decoded at a time."""


def encode_flac(audio: np.ndarray) -> bytes:
    """int16 [N] mono 16 kHz to FLAC, lossless."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes) -> np.ndarray:
    """FLAC to int16 [N]. Takes memory for the samples that are there, not for those that a damaged header promises."""
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        blocks = [file.read(BLOCK, dtype="int16")]
        while len(blocks[-1]) == BLOCK:
            blocks.append(file.read(BLOCK, dtype="int16"))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
