"""What a feature encoder is and what it is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from syncdiff_data.records import Clip

Modality = Literal["audio", "video", "av"]


class Encoder(Protocol):
    """Turns decoded clips into vectors at 25 Hz."""

    columns: dict[str, int]
    """Name of each column it makes -> its width D."""

    def encode(self, clips: Sequence[Clip]) -> list[dict[str, np.ndarray]]:
        """Per clip, in order: column -> float32 [num_frames, D]. UserError where a clip lacks what is
        needed.
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


def _no_weights(options: EncoderOptions) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class EncoderEntry:
    """What the registry says of an encoder.

    load: the encoder, ready to encode; called once per worker. weights: names in the registry of
    `syncdiff_data.weights` of the files it loads. has_layers: whether it takes `--layers`. needs_mouth:
    whether it reads mouth crops (AV-HuBERT does by its modality).
    """

    load: Callable[[EncoderOptions], Encoder]
    weights: Callable[[EncoderOptions], tuple[str, ...]] = _no_weights
    has_layers: bool = False
    needs_mouth: bool = False
