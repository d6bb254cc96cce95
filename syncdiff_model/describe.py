"""What a preset is, in text: its values, the sizes of its networks, and what training them takes."""

from __future__ import annotations

import time
from typing import Any

import torch
import yaml
from torch import nn

from syncdiff_data.features.audio import LOGFBANK_DIM
from syncdiff_data.records import UserError
from syncdiff_model.autoencoder import build_autoencoder
from syncdiff_model.conditioning import Conditioner
from syncdiff_model.denoiser import build_denoiser
from syncdiff_model.gan import Discriminator
from syncdiff_model.presets import Settings, to_plain
from syncdiff_model.tasks.audio import seen_shape

TIMED_FRAMES = 8
COPIES = 5
"""Of every trained weight: itself, its gradient, AdamW's two moments, the EMA."""
CROP_SIZES = {"patch": 128, "tiny": 256, "kl": 256}
"""Crops that a kind of autoencoder is meant for; others cost in proportion to their area."""


def describe(preset: str, settings: Settings) -> str:
    """The settings as YAML, then a line for each network, and the denoiser's cost on this machine; the conditioner is
    counted with log filterbanks."""
    check_networks(settings)
    crop_size = CROP_SIZES[settings.autoencoder.kind]
    shape = seen_shape(settings, crop_size, settings.autoencoder.factor)
    networks = build_networks(settings, shape)
    counts = {
        name: sum(weight.numel() for weight in network.parameters()) for name, network in networks.items()
    }
    sizes = "\n".join(f"{name:12} {count / 1e6:8.2f} M parameters" for name, count in counts.items())
    config = settings.train_syncdiff
    seconds = frame_seconds(networks["denoiser"], shape, settings)
    step = seconds * config.batch_size * config.window
    trained = counts["conditioner"] + counts["denoiser"]
    return (
        f"preset {preset}\n\n{yaml.safe_dump(to_plain(settings), sort_keys=False, default_flow_style=None)}\n{sizes}\n"
        f"latents are {settings.autoencoder.factor} times smaller than the crops along each side\n"
        f"training holds {COPIES * 4 * trained / 2**20:.0f} MiB of weights, gradients, moments, EMA, and activations\n"
        f"the denoiser takes {1000 * seconds:.1f} ms a frame of {crop_size} pixels on this machine (CPU, "
        f"{torch.get_num_threads()} threads), forward and backward: {step:.2f} s a step of "
        f"{config.batch_size * config.window} frames, {step * config.steps / 3600:.1f} hours for {config.steps} steps "
        "without the losses on images"
    )


def check_networks(settings: Settings) -> None:
    """UserError where the settings make no networks, before data are read: shapes alone, without memory."""
    side = 2 ** len(settings.denoiser.widths)  # of latents that every level can halve
    try:
        with torch.device("meta"):
            networks = build_networks(settings, (side, side))
            predict(networks["denoiser"], (side, side), settings)
            Discriminator(settings.gan.widths)
    except (ValueError, RuntimeError, TypeError, ArithmeticError) as error:  # of torch and diffusers
        raise UserError(f"These settings make no networks that fit each other: {error}") from error


def build_networks(settings: Settings, shape: tuple[int, int]) -> dict[str, nn.Module]:
    """The networks for latents of which the denoiser sees `shape`."""
    conditioning, channels = settings.conditioning, settings.autoencoder.latent_channels
    map_shape = (conditioning.map_channels, *shape)
    more = conditioning.map_channels + (channels if conditioning.pose == "full" else 0)
    return {
        "autoencoder": build_autoencoder(settings.autoencoder),
        "conditioner": Conditioner(
            crop_size=0,
            latent_channels=channels,
            encoder="logfbank",
            checkpoint="",
            feature="logfbank",
            feature_dim=LOGFBANK_DIM,
            mask={},
            context=conditioning.context,
            tokens_dim=conditioning.tokens_dim,
            audio_layers=conditioning.audio_layers,
            map_shape=map_shape,
            pose=conditioning.pose,
            pose_dim=conditioning.pose_dim,
            pose_width=conditioning.pose_width,
        ),
        "denoiser": build_denoiser(settings.denoiser, channels, shape[1], conditioning.tokens_dim, more),
    }


def frame_seconds(denoiser: Any, shape: tuple[int, int], settings: Settings) -> float:
    """Seconds that the denoiser takes for a frame, forward and backward."""

    def once() -> None:
        predict(denoiser, shape, settings).square().mean().backward()

    once()
    started = time.perf_counter()
    once()
    return (time.perf_counter() - started) / TIMED_FRAMES


def predict(denoiser: Any, shape: tuple[int, int], settings: Settings) -> torch.Tensor:
    """The denoiser's output for TIMED_FRAMES frames of noise."""
    conditioning = settings.conditioning
    noisy = torch.randn(TIMED_FRAMES, denoiser.config.in_channels, *shape)
    tokens = torch.randn(TIMED_FRAMES, conditioning.context, conditioning.tokens_dim)
    steps = torch.zeros(TIMED_FRAMES, dtype=torch.int64)
    output: torch.Tensor = denoiser(noisy, steps, tokens, class_labels=tokens[:, 0]).sample
    return output
