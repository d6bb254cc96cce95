"""Which feature encoders there are, and how to get one.

A new encoder is a class with `columns` and `encode`, and a line in ENCODERS; outside of this package, `module:NAME`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from syncdiff_data.avhubert.preparation import align_frames
from syncdiff_data.features.audio import LOGFBANK_DIM, MEL_DIM, logfbank, mel_windows
from syncdiff_data.features.base import Encoder, EncoderEntry, EncoderOptions, Modality
from syncdiff_data.records import Clip, UserError
from syncdiff_data.registry import import_own, is_own, lookup, make_own, source_file


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
        AVHubertFeatures,  # Imports torch: seconds that the others save.
    )

    return AVHubertFeatures.load(options)


ENCODERS: dict[str, EncoderEntry] = {
    "logfbank": EncoderEntry(lambda options: LogfbankEncoder()),
    "mel": EncoderEntry(lambda options: MelEncoder()),
    "avhubert": EncoderEntry(_avhubert, weights=lambda options: (options.checkpoint,), has_layers=True),
}


def load_encoder(
    name: str,
    layers: Sequence[int | None] = (),
    weights: Mapping[str, Path] | None = None,
    device: str = "cpu",
    modality: Modality = "audio",
    checkpoint: str = "avhubert-base",
) -> Encoder:
    """The encoder of that name, a key of ENCODERS or `module:NAME`; arguments as in EncoderOptions.

    Raises UserError for an unknown name, a layer the model does not have, and weights that are not here.
    """
    entry = _entry(name)
    if layers and not entry.has_layers:
        raise UserError(f"--layers belongs to avhubert and the like; {name} has no layers.")
    return entry.load(EncoderOptions(tuple(layers), modality, checkpoint, weights or {}, device))


def encoder_weights(name: str, checkpoint: str = "avhubert-base") -> tuple[str, ...]:
    """Names of the weight files that encoder loads, for the recipe of what it makes."""
    return _entry(name).weights(EncoderOptions(checkpoint=checkpoint))


def encoder_code(name: str) -> dict[str, Path]:
    """The file of a user's own encoder by its name, for the recipe; none for those of this package."""
    return {name: source_file(name, "encoder")} if is_own(name) else {}


def _entry(name: str) -> EncoderEntry:
    """A `module:NAME` is an EncoderEntry, or a class that is made from EncoderOptions (with an
    attribute `needs_mouth` where it reads mouth crops)."""
    if not is_own(name):
        return lookup(name, ENCODERS, "encoder")
    found = import_own(name, "encoder")
    if isinstance(found, EncoderEntry):
        return found
    return EncoderEntry(
        lambda options: make_own(name, "encoder", found, options),
        needs_mouth=bool(getattr(found, "needs_mouth", False)),
    )


def encoder_needs_mouth(name: str, modality: Modality = "audio") -> bool:
    """Whether the encoder reads mouth crops, which a data set may have been made without."""
    return _entry(name).needs_mouth or modality != "audio"
