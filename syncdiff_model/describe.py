"""What a preset is, in text: its values and the sizes of its networks."""

from __future__ import annotations

import yaml
from torch import nn

from syncdiff_data.features.audio import LOGFBANK_DIM
from syncdiff_model.autoencoder import build_autoencoder
from syncdiff_model.conditioning import Conditioner
from syncdiff_model.denoiser import build_denoiser
from syncdiff_model.presets import Settings, to_plain


def describe(preset: str, settings: Settings) -> str:
    """The settings as YAML, then a line for each network; the conditioner is counted with log filterbanks."""
    conditioning, channels = settings.conditioning, settings.autoencoder.latent_channels
    more = conditioning.map_channels + (channels if conditioning.pose == "full" else 0)
    networks: dict[str, nn.Module] = {
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
            pose=conditioning.pose,
            pose_dim=conditioning.pose_dim,
            pose_width=conditioning.pose_width,
        ),
        "denoiser": build_denoiser(settings.denoiser, channels, 32, conditioning.tokens_dim, more),
    }
    counts = {
        name: sum(weight.numel() for weight in network.parameters()) for name, network in networks.items()
    }
    sizes = "\n".join(f"{name:12} {count / 1e6:8.2f} M parameters" for name, count in counts.items())
    factor = settings.autoencoder.factor
    return (
        f"preset {preset}\n\n{yaml.safe_dump(to_plain(settings), sort_keys=False, default_flow_style=None)}\n{sizes}\n"
        f"latents are {factor} times smaller than the crops along each side"
    )
