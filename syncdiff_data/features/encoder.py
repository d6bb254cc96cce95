"""Which feature encoders there are, and how to get one.

A new encoder is a class with `columns` and `encode`, and a line in ENCODERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from syncdiff_data.avhubert.preparation import align_frames
from syncdiff_data.features.audio import LOGFBANK_DIM, MEL_DIM, logfbank, mel_windows
from syncdiff_data.features.base import Encoder, EncoderOptions, Modality
from syncdiff_data.records import Clip, UserError


class LogfbankEncoder:
    """AV-HuBERT's audio input before its normalisation per frame: column `logfbank`, D = 104."""

    def __init__(self) -> None:
        self.columns = {"logfbank": LOGFBANK_DIM}

    def encode(self, clips: Sequence[Clip]) -> list[dict[str, np.ndarray]]:
        return [{"logfbank": align_frames(logfbank(clip.audio), clip.num_frames)} for clip in clips]


class MelEncoder:
    """Wav2Lip's mel windows: column `mel`, D = 1280."""

    def __init__(self) -> None:
        self.columns = {"mel": MEL_DIM}

    def encode(self, clips: Sequence[Clip]) -> list[dict[str, np.ndarray]]:
        return [{"mel": mel_windows(clip.audio, clip.num_frames)} for clip in clips]


def _avhubert(options: EncoderOptions) -> Encoder:
    from syncdiff_data.features.avhubert import (
        AVHubertFeatures,
    )  # Imports torch: seconds that the others save.

    return AVHubertFeatures.load(options)


def _without_layers(make: Callable[[], Encoder]) -> Callable[[EncoderOptions], Encoder]:
    def load(options: EncoderOptions) -> Encoder:
        encoder = make()
        if options.layers:
            raise UserError(f"--layers belongs to avhubert; {next(iter(encoder.columns))} has no layers.")
        return encoder

    return load


ENCODERS: dict[str, Callable[[EncoderOptions], Encoder]] = {
    "logfbank": _without_layers(LogfbankEncoder),
    "mel": _without_layers(MelEncoder),
    "avhubert": _avhubert,
}


def load_encoder(
    name: str,
    layers: Sequence[int | None] = (),
    weights: Mapping[str, Path] | None = None,
    device: str = "cpu",
    modality: Modality = "audio",
    checkpoint: str = "avhubert-base",
) -> Encoder:
    """The encoder of that name, ready to encode; arguments as in EncoderOptions.

    Raises UserError for an unknown name, a layer the model does not have, and weights that are not here.
    """
    if name not in ENCODERS:
        raise UserError(f"There is no encoder {name!r}: choose one of {', '.join(ENCODERS)}.")
    return ENCODERS[name](EncoderOptions(tuple(layers), modality, checkpoint, weights or {}, device))


def encoder_weights(name: str, checkpoint: str = "avhubert-base") -> tuple[str, ...]:
    """Names of the weight files that encoder loads, for the recipe of what it makes."""
    return (checkpoint,) if name == "avhubert" else ()
