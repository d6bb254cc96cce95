"""Sound as the bytes a shard holds: 16-bit FLAC, the same bytes for the same input. Pictures: images.py."""

from __future__ import annotations

import io

import numpy as np
import soundfile

from syncdiff_data.records import SAMPLE_RATE

KIND = ("FLAC", "PCM_16", SAMPLE_RATE, 1)
"""Format, subtype, samples a second and channels of a shard's sound."""
BLOCK = 1 << 20
"""Samples decoded at a time."""


def encode_flac(audio: np.ndarray) -> bytes:
    """int16 [N] mono 16 kHz to FLAC, lossless."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes) -> np.ndarray:
    """FLAC to int16 [N]. Takes memory for the samples that are there, not for those that a damaged header promises.

    ValueError for sound of another kind than `encode_flac` makes.
    """
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        kind = (file.format, file.subtype, file.samplerate, file.channels)
        if kind != KIND:
            raise ValueError(f"its sound is {_kind(kind)}, expected {_kind(KIND)}")
        blocks = [file.read(BLOCK, dtype="int16")]
        while len(blocks[-1]) == BLOCK:
            blocks.append(file.read(BLOCK, dtype="int16"))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _kind(kind: tuple[str, str, int, int]) -> str:
    return "{} {}, {} Hz, {} channel(s)".format(*kind)
