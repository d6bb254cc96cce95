"""Which feature encoders there are, and how to get one.

A new encoder is a class with `columns` and `encode`, and a line in ENCODERS; outside of this package, `module:NAME`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from syncdiff_data.avhubert.preparation import align_frames
from syncdiff_data.features.audio import LOGFBANK_DIM, MEL_DIM, logfbank, mel_windows
from syncdiff_data.features.base import Encoder, EncoderEntry, EncoderOptions, Modality
from syncdiff_data.records import Clip, UserError
from syncdiff_data.registry import import_own, is_own, lookup, make_own, source_file
from syncdiff_data.sync_expert.files import WEIGHTS_FILE, find_expert


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


def _sync(options: EncoderOptions) -> Encoder:
    from syncdiff_data.features.sync import SyncFeatures
    from syncdiff_data.sync_expert.expert import SyncExpert

    return SyncFeatures(SyncExpert.from_pretrained(options.sync_expert, options.device))


ENCODERS: dict[str, EncoderEntry] = {
    "logfbank": EncoderEntry(lambda options: LogfbankEncoder()),
    "mel": EncoderEntry(lambda options: MelEncoder()),
    "avhubert": EncoderEntry(_avhubert, weights=lambda options: (options.checkpoint,), has_layers=True),
    "sync": EncoderEntry(
        _sync,
        files=lambda options: {"sync_expert": find_expert(options.sync_expert) / WEIGHTS_FILE},
        needs_mouth=True,
    ),
}


def load_encoder(name: str, options: EncoderOptions | None = None) -> Encoder:
    """The encoder of that name, a key of ENCODERS or `module:NAME`.

    Raises UserError for an unknown name, a layer the model does not have, and weights that are not here.
    """
    entry, options = _entry(name), options or EncoderOptions()
    if options.layers and not entry.has_layers:
        raise UserError(f"--layers belongs to avhubert and the like; {name} has no layers.")
    encoder = entry.load(options)
    _check_columns(name, encoder)
    return encoder


def _check_columns(name: str, encoder: Encoder) -> None:
    """UserError for columns that no table of features has."""
    columns = getattr(encoder, "columns", None)
    if not isinstance(columns, Mapping) or not columns:
        raise UserError(
            f"The encoder {name!r} needs `columns`: a mapping of each column's name to its width."
        )
    for column, width in columns.items():
        is_name = isinstance(column, str) and column != "clip_id"
        is_type = isinstance(width, pa.DataType) or (isinstance(width, int) and width > 0)
        if not (is_name and is_type):
            raise UserError(
                f"The encoder {name!r} has the column {column!r} of {width!r}: expected a name other than clip_id, and "
                "the number of values a frame."
            )


def encoder_weights(name: str, checkpoint: str = "avhubert-base") -> tuple[str, ...]:
    """Names of the weight files that encoder loads, for the recipe of what it makes."""
    return _entry(name).weights(EncoderOptions(checkpoint=checkpoint))


def encoder_files(name: str, options: EncoderOptions) -> dict[str, Path]:
    """Further files whose hashes go into the recipe: the code of a user's own encoder, the expert of `sync`."""
    code = {name: source_file(name, "encoder")} if is_own(name) else {}
    return code | dict(_entry(name).files(options))


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
