"""SyncDiff as a generator: a checkpoint with the audio encoder that it was trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import TypeAdapter

from syncdiff_data.faces import FaceConfig
from syncdiff_data.features import Encoder, EncoderOptions, load_encoder
from syncdiff_data.records import SAMPLES_PER_FRAME, Clip, UserError
from syncdiff_model.checkpoint import find_checkpoint, load_syncdiff, read_index
from syncdiff_model.generator import Generator
from syncdiff_model.mask import soft_mask
from syncdiff_model.rollout import ONE_PASS, Rollout, SamplingConfig, advance, start_rollout
from syncdiff_model.syncdiff import SyncDiff


class SyncDiffPipeline(Generator):
    """What dubs with a SyncDiff: `SyncDiffPipeline.from_pretrained(RUN)`."""

    name = "SyncDiff"

    def __init__(
        self,
        model: SyncDiff,
        sampling: SamplingConfig | None = None,
        weights: Mapping[str, Path] | None = None,
    ):
        """weights: files the user gave, by name. UserError when the audio encoder's are missing."""
        config = model.conditioner.config
        self.model, self.sampling = model, self.usable(sampling or SamplingConfig())
        known = TypeAdapter(FaceConfig).validate_python(config.faces or {})
        self.faces_config = FaceConfig(**{**vars(known), "crop_size": config.crop_size})
        self.mask = soft_mask(model.conditioner.mask, config.crop_size).numpy()
        self.encoder = feature_encoder(model, weights or {}, model.device.type)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | PathLike[str],
        sampling: SamplingConfig | None = None,
        weights: Mapping[str, Path] | None = None,
        device: str = "cpu",
    ) -> Self:
        """The model of a training run (its newest checkpoint) or of a checkpoint's folder. UserError when there is
        none, when it is damaged, or when weights are missing."""
        made = cls(load_syncdiff(Path(folder), device), sampling, weights)
        made.name = read_index(find_checkpoint(Path(folder)))["_class_name"]
        return made

    @staticmethod
    def usable(asked: SamplingConfig) -> SamplingConfig:
        """How a model of this kind is sampled when `asked` is asked for."""
        return asked

    def encode_audio(self, sound: np.ndarray) -> np.ndarray:
        """Features float32 [F, D] at 25 Hz."""
        count = len(sound) // SAMPLES_PER_FRAME
        return self.encoder.encode([sound_alone(sound, count)])[0][self.model.conditioner.config.feature]

    def start(self, identity: np.ndarray, sound: np.ndarray) -> Rollout:
        return start_rollout(self.model, identity, sound)

    def advance(
        self,
        states: Sequence[Rollout],
        crops: Sequence[np.ndarray],
        times: Sequence[np.ndarray],
        heartbeat: Callable[[], None] = lambda: None,
    ) -> list[np.ndarray]:
        return advance(self.model, states, crops, times, self.sampling, heartbeat)


class OnePassPipeline(SyncDiffPipeline):
    """What dubs with a network of `train.py --model gan`: one pass from zeros; of the sampling asked for, only
    batch_frames counts."""

    @staticmethod
    def usable(asked: SamplingConfig) -> SamplingConfig:
        return replace(ONE_PASS, batch_frames=asked.batch_frames)


def sound_alone(sound: np.ndarray, num_frames: int) -> Clip:
    """A clip of `num_frames` that has sound and no pictures: an encoder that needs those fails, since they would show
    the old words."""
    return Clip(
        clip_id="sound",
        source="sound",
        split=None,
        speaker=None,
        text=None,
        track=0,
        start_s=0.0,
        source_frame=np.arange(num_frames, dtype=np.int32),
        face_jpeg=(),
        mouth_png=None,
        audio=sound,
        landmarks=np.zeros((num_frames, 68, 2), np.float32),
        box=np.zeros((num_frames, 4), np.float32),
        face_to_source=np.zeros((num_frames, 2, 3), np.float32),
    )


def feature_encoder(model: SyncDiff, weights: Mapping[str, Path], device: str) -> Encoder:
    """The audio encoder whose column the model was trained on. UserError when its weights are not here."""
    config = model.conditioner.config
    layer = config.feature.removeprefix("layer")
    layers = (int(layer) if layer.isdecimal() else None,) if config.encoder == "avhubert" else ()
    options = EncoderOptions(tuple(layers), checkpoint=config.checkpoint, weights=weights, device=device)
    encoder = load_encoder(config.encoder, options)
    if encoder.columns.get(config.feature) != config.feature_dim:
        raise UserError(
            f"The model takes {config.feature_dim} values a frame of the feature {config.feature}, and its encoder "
            f"{config.encoder} gives {dict(encoder.columns)}: it is damaged, or made by another version."
        )
    return encoder
