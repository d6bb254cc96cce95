"""What a feature encoder is and what it is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa

from syncdiff_data.records import Clip

Modality = Literal["audio", "video", "av"]


class Encoder(Protocol):
    """Turns decoded clips into vectors at 25 Hz, or into values of a whole clip."""

    columns: dict[str, int] | dict[str, pa.DataType]
    """Name of each column it makes -> its width D, or the type of the one value that a clip has."""

    def encode(self, clips: Sequence[Clip]) -> list[dict[str, np.ndarray]]:
        """Per clip, in order: column -> float32 [num_frames, D], or the clip's value as an array of the column's
        type. UserError where a clip lacks what is needed.
        """
        ...


@dataclass(frozen=True)
class EncoderOptions:
    """layers (1..N, None = final output), modality and checkpoint matter to AV-HuBERT alone.

    checkpoint: a name that `weights list` shows; weights: files the user gave, by name.
    """

    layers: tuple[int | None, ...] = ()
    modality: Modality = "audio"
    checkpoint: str = "avhubert-base"
    weights: Mapping[str, Path] = field(default_factory=dict)
    device: str = "cpu"
    sync_expert: str = "training"
    """Folder of a sync expert, or a name of `syncdiff_data.sync_expert.files.PRETRAINED`."""


def _no_weights(options: EncoderOptions) -> tuple[str, ...]:
    return ()


def _no_files(options: EncoderOptions) -> Mapping[str, Path]:
    return {}


@dataclass(frozen=True)
class EncoderEntry:
    """What the registry says of an encoder.

    load: the encoder, ready to encode; called once per worker. weights: names in the registry of
    `syncdiff_data.weights` of the files it loads. files: further files that decide its numbers, by a name for the
    recipe; their hashes go into it. has_layers: whether it takes `--layers`. needs_mouth:
    whether it reads mouth crops (AV-HuBERT does by its modality).
    """

    load: Callable[[EncoderOptions], Encoder]
    weights: Callable[[EncoderOptions], tuple[str, ...]] = _no_weights
    files: Callable[[EncoderOptions], Mapping[str, Path]] = _no_files
    has_layers: bool = False
    needs_mouth: bool = False
