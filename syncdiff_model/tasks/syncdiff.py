"""Denoise latents of face crops."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from syncdiff_data.loader import Batch
from syncdiff_data.records import UserError
from syncdiff_model.autoencoder import Autoencoder, decode, measure_scale, to_bytes, to_unit
from syncdiff_model.checkpoint import PARTS, load_parts, save_parts
from syncdiff_model.conditioning import Conditioner
from syncdiff_model.denoiser import build_denoiser, build_scheduler
from syncdiff_model.presets import Settings
from syncdiff_model.sampling import ddim
from syncdiff_model.syncdiff import SyncDiff
from syncdiff_model.tasks.base import NEGATIVE_LOSS, Loss, Task, grid, negative_loss, to_device

PICTURE_STEPS = 10
"""Sampling steps of the pictures."""


class SyncDiffTask(Task):
    """Denoise latents of a trained autoencoder, which stays as it is."""

    def __init__(self, settings: Settings, model: SyncDiff, held_out: Sequence[Batch] = ()):
        """held_out: batches that only validation sees."""
        super().__init__(
            {"conditioner": model.conditioner, "denoiser": model.denoiser}, {"autoencoder": model.autoencoder}
        )
        self.outside_weight, self.model, self.held_out = settings.diffusion.outside_weight, model, held_out
        self.best_of = NEGATIVE_LOSS if held_out else None

    @classmethod
    def fresh(
        cls,
        settings: Settings,
        autoencoder: Autoencoder,
        encoder: Mapping[str, str],
        feature: str,
        batches: Iterable[Batch],
        held_out: Sequence[Batch] = (),
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
        model = SyncDiff(autoencoder, conditioner, denoiser, build_scheduler(settings.diffusion))
        return cls(settings, model, held_out)

    @classmethod
    def saved(cls, settings: Settings, checkpoint: Path, held_out: Sequence[Batch] = ()) -> SyncDiffTask:
        """The model of a checkpoint; its networks' last weights follow with the training state."""
        return cls(settings, SyncDiff(**load_parts(checkpoint, PARTS)), held_out)

    def forward(self, batch: Batch, phase: str = "all", step: int = 0) -> Loss:
        loss = self.model.loss(
            batch["frames"], batch["identity"], batch["pose"], batch["features"], self.outside_weight
        )
        return loss, {"mse": loss.detach()}

    def save(self, folder: Path) -> None:
        save_parts(folder, "SyncDiff", {part: getattr(self.model, part) for part in PARTS})

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss under the same noise every time."""
        return negative_loss(self, self.held_out)

    @torch.no_grad()
    def pictures(self) -> dict[str, torch.Tensor]:
        """A clip's frames above frames generated one by one, each with the true frame before as its pose."""
        if not self.held_out:
            return {}
        batch = to_device(self.held_out[0], self.device)
        frames, model = batch["frames"][0], self.model
        identity = model.frame_latents(batch["identity"][:1]).expand(len(frames), -1, -1, -1)
        masked = model.masked_latents(frames)
        context = model.conditioner(batch["features"][0], model.frame_latents(batch["pose"][0]))
        noise = torch.randn(masked.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        latents = ddim(
            lambda noisy, t: model.predict(noisy, t, masked, identity, context),
            model.scheduler,
            noise,
            PICTURE_STEPS,
        )
        return {"teacher_forced": grid([frames, to_bytes(decode(model.autoencoder, latents))])}


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
