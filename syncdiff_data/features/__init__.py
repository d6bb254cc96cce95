"""Features of clips at 25 Hz: log filterbank energies, mel windows, layers of AV-HuBERT."""

from syncdiff_data.features.audio import logfbank, mel, mel_windows, mel_windows_at
from syncdiff_data.features.base import Encoder, EncoderEntry, EncoderOptions
from syncdiff_data.features.encoder import (
    ENCODERS,
    encoder_files,
    encoder_needs_mouth,
    encoder_weights,
    load_encoder,
)

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderEntry",
    "EncoderOptions",
    "encoder_files",
    "encoder_needs_mouth",
    "encoder_weights",
    "load_encoder",
    "logfbank",
    "mel",
    "mel_windows",
    "mel_windows_at",
]
