"""A SyncDiff model of a few thousand weights, untrained: fast, and the same at every call."""

from __future__ import annotations

from pathlib import Path

import torch

from syncdiff_model.autoencoder import AutoencoderConfig, build_autoencoder
from syncdiff_model.checkpoint import PARTS, save_parts
from syncdiff_model.conditioning import Conditioner
from syncdiff_model.denoiser import DenoiserConfig, DiffusionConfig, build_denoiser, build_scheduler
from syncdiff_model.syncdiff import SyncDiff


def tiny_model(seed: int = 0) -> SyncDiff:
    """Crops of 64 pixels, features of `logfbank`."""
    torch.manual_seed(seed)
    autoencoder = build_autoencoder(AutoencoderConfig("patch", 8, 4, (16,)))
    conditioner = Conditioner(
        crop_size=64,
        latent_channels=4,
        encoder="logfbank",
        checkpoint="avhubert-base",
        feature="logfbank",
        feature_dim=104,
        mask={"top": 0.5, "feather": 0.1},
        context=3,
        tokens_dim=16,
        pose_dim=3,
        pose_width=8,
    )
    denoiser = build_denoiser(DenoiserConfig((16, 32), 1, (False, True), 2, 8), 4, 8, 16)
    return SyncDiff(
        autoencoder.eval(), conditioner.eval(), denoiser.eval(), build_scheduler(DiffusionConfig())
    )


def save_tiny_model(folder: Path, seed: int = 0) -> Path:
    """The model as a checkpoint."""
    folder.mkdir(parents=True)
    model = tiny_model(seed)
    save_parts(folder, "SyncDiff", {part: getattr(model, part) for part in PARTS})
    return folder
