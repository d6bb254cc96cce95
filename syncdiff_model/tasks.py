"""What can be trained: a task holds its networks, its loss on a batch, and the parts of its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from syncdiff_data.loader import Batch, LoaderConfig
from syncdiff_data.records import UserError
from syncdiff_model.autoencoder import (
    Autoencoder,
    autoencoder_loss,
    build_autoencoder,
    measure_scale,
    to_unit,
)
from syncdiff_model.checkpoint import PARTS, load_parts, save_parts
from syncdiff_model.conditioning import Conditioner
from syncdiff_model.denoiser import build_denoiser, build_scheduler
from syncdiff_model.patches import PatchAutoencoder
from syncdiff_model.presets import Settings, TrainConfig
from syncdiff_model.syncdiff import SyncDiff


class Task(Protocol):
    """What a `training.Trainer` trains."""

    trained: nn.ModuleDict
    """The networks that the optimiser changes."""

    @property
    def best_of(self) -> str | None:
        """The validation scalar of which the largest is best; None where there is no validation."""
        ...

    def validate(self) -> dict[str, float]:
        """Scalars on fixed held-out data; called with EMA weights in the networks."""
        ...

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch, and scalars to log. All randomness comes from torch's global generator."""
        ...

    def save(self, folder: Path) -> None:
        """Write the parts of a checkpoint."""
        ...

    def to(self, device: str) -> None:
        """Move every network, trained or not."""
        ...


class NoValidation:
    """For tasks without held-out data."""

    best_of: str | None = None

    def validate(self) -> dict[str, float]:
        return {}


class AutoencoderTask(NoValidation):
    """Reconstruct the crops."""

    def __init__(self, settings: Settings):
        self.kl_weight = settings.autoencoder.kl_weight
        self.autoencoder = build_autoencoder(settings.autoencoder)
        self.trained = nn.ModuleDict({"autoencoder": self.autoencoder})

    def fit_patches(self, batches: Iterable[Batch]) -> None:
        """Start a patch autoencoder from the principal components of a few batches; others keep their random start."""
        if isinstance(self.autoencoder, PatchAutoencoder):
            self.autoencoder.fit(torch.cat([to_unit(batch["frames"].flatten(0, 1)) for batch in batches]))

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return autoencoder_loss(self.autoencoder, to_unit(batch["frames"].flatten(0, 1)), self.kl_weight)

    def save(self, folder: Path) -> None:
        save_parts(folder, "Autoencoder", {"autoencoder": self.autoencoder})

    def to(self, device: str) -> None:
        self.autoencoder.to(device)


class SyncDiffTask(NoValidation):
    """Denoise latents of a trained autoencoder, which stays as it is."""

    def __init__(self, settings: Settings, model: SyncDiff):
        self.outside_weight = settings.diffusion.outside_weight
        self.model = model
        self.model.autoencoder.eval().requires_grad_(False)
        self.trained = nn.ModuleDict({"conditioner": model.conditioner, "denoiser": model.denoiser})

    @classmethod
    def fresh(
        cls,
        settings: Settings,
        autoencoder: Autoencoder,
        encoder: Mapping[str, str],
        feature: str,
        batches: Iterable[Batch],
    ) -> SyncDiffTask:
        """An untrained model. Crop size, feature width, and the mean and spread of latents and features (scaled
        to unit variance) are taken from a few batches.

        encoder, feature: as `features_encoder` gives it, and the column. UserError when the crops do not fit.
        """
        sample = list(batches)
        crop_size = sample[0]["frames"].shape[-1]
        _check_size(settings, crop_size)
        measure_scale(autoencoder.eval(), [to_unit(batch["frames"].flatten(0, 1)) for batch in sample])
        features = torch.cat([batch["features"].flatten(0, 1) for batch in sample])
        conditioning, channels = settings.conditioning, autoencoder.config.latent_channels
        conditioner = Conditioner(
            crop_size=crop_size,
            latent_channels=channels,
            encoder=encoder["encoder"],
            checkpoint=encoder["checkpoint"],
            feature=feature,
            feature_dim=features.shape[-1],
            mask=asdict(settings.mask),
            context=conditioning.context,
            tokens_dim=conditioning.tokens_dim,
            pose_dim=conditioning.pose_dim,
            pose_width=conditioning.pose_width,
            pose_offset=conditioning.pose_offset,
        )
        conditioner.measure_features(features)
        size = crop_size // settings.autoencoder.factor
        denoiser = build_denoiser(settings.denoiser, channels, size, conditioning.tokens_dim)
        return cls(
            settings, SyncDiff(autoencoder, conditioner, denoiser, build_scheduler(settings.diffusion))
        )

    @classmethod
    def saved(cls, settings: Settings, checkpoint: Path) -> SyncDiffTask:
        """The model of a checkpoint; its networks' last weights follow with the training state."""
        return cls(settings, SyncDiff(**load_parts(checkpoint, PARTS)))

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = self.model.loss(
            batch["frames"], batch["identity"], batch["pose"], batch["features"], self.outside_weight
        )
        return loss, {"mse": loss.detach()}

    def save(self, folder: Path) -> None:
        save_parts(folder, "SyncDiff", {part: getattr(self.model, part) for part in PARTS})

    def to(self, device: str) -> None:
        for network in (self.model.autoencoder, self.model.conditioner, self.model.denoiser):
            network.to(device)


def loader_config(
    settings: Settings, config: TrainConfig, feature: str | None, split: str | None
) -> LoaderConfig:
    """How a stage reads its batches."""
    return LoaderConfig(
        batch_size=config.batch_size,
        window=config.window,
        pose_offset=settings.conditioning.pose_offset,
        context=settings.conditioning.context,
        feature=feature,
        split=split,
        windows_per_visit=config.windows_per_visit,
        seed=config.seed,
        flip=config.flip,
    )


def features_encoder(features: Path) -> dict[str, str]:
    """Name and checkpoint of the encoder that made a data set of features, from its recipe.

    UserError when it does not say, or when the features are visual: a dub would be conditioned on the old words.
    """
    try:
        made: dict[str, str] = json.loads((features / "dataset.json").read_text())["recipe"]["config"]
        encoder = {name: made[name] for name in ("encoder", "checkpoint")}
        modality = made["modality"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{features} does not say which encoder made it ({error!r}): expected a data set of extract_features.py."
        ) from error
    if modality != "audio":
        raise UserError(
            f"{features} was made with modality {modality}: SyncDiff learns from audio features alone."
        )
    return encoder


def _check_size(settings: Settings, crop_size: int) -> None:
    """Every level of both networks must halve evenly."""
    unit = settings.autoencoder.factor * 2 ** (len(settings.denoiser.widths) - 1)
    if crop_size % unit:
        raise UserError(
            f"Crops of {crop_size} pixels do not fit this preset: expected a multiple of {unit}. Preprocess with "
            "another crop size or choose another preset."
        )
