"""A SyncDiff model of a few thousand weights, untrained: fast, and the same at every call."""

from __future__ import annotations

from pathlib import Path

import torch

from syncdiff_model.autoencoder import AutoencoderConfig, build_autoencoder
from syncdiff_model.checkpoint import PARTS, save_parts
from syncdiff_model.conditioning import Conditioner, Pose
from syncdiff_model.denoiser import DenoiserConfig, DiffusionConfig, build_denoiser, build_scheduler
from syncdiff_model.pipeline import SyncDiffPipeline
from syncdiff_model.rollout import SamplingConfig
from syncdiff_model.syncdiff import SyncDiff


def tiny_model(seed: int = 0, pose: Pose = "none", prediction: str = "sample") -> SyncDiff:
    """Crops of 64 pixels, features of `logfbank`. Its denoiser puts out something other than zeros."""
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
        pose=pose,
        pose_dim=3,
        pose_width=8,
    )
    more = 4 if pose == "full" else 0
    denoiser = build_denoiser(DenoiserConfig((16, 32), 1, (False, True), 2, 8), 4, 8, 16, more)
    torch.nn.init.normal_(denoiser.conv_out.weight)
    zero_snr = prediction != "epsilon"
    scheduler = build_scheduler(DiffusionConfig(prediction=prediction, zero_terminal_snr=zero_snr))  # type: ignore[arg-type]
    return SyncDiff(autoencoder.eval(), conditioner.eval(), denoiser.eval(), scheduler)


def tiny_generator(seed: int = 0) -> SyncDiffPipeline:
    return SyncDiffPipeline(tiny_model(seed), SamplingConfig(steps=1))


def save_tiny_model(folder: Path, seed: int = 0) -> Path:
    """The model as a checkpoint."""
    folder.mkdir(parents=True)
    model = tiny_model(seed)
    save_parts(folder, "SyncDiff", {part: getattr(model, part) for part in PARTS})
    return folder
