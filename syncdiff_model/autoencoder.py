"""Face crops to latents and back: a small KL autoencoder that is trained here, on the user's own crops.

The network is diffusers' AutoencoderKL (Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion
Models", CVPR 2022, section 3.1). In front of it pixels may be folded into channels (space to depth): on a CPU most of
an autoencoder's time goes into its first and last full-size layers, and folding 4 x 4 pixels makes it about ten times
faster. The fold is read off the network's own number of input channels, so its saved config says everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isqrt

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape and loss of the autoencoder. All of it is not stated in the sources available."""

    patch: int = 1
    """Side of the square of pixels folded into channels first; 1 turns folding off."""
    widths: tuple[int, ...] = (64, 128, 256, 256)
    """Channels per level; every level after the first halves the image. Latents are patch * 2^(levels - 1) smaller."""
    layers: int = 1
    """Residual blocks per level."""
    latent_channels: int = 4
    groups: int = 32
    """Groups of the group norms; divides every width."""
    attention: bool = True
    """Self-attention at the lowest level."""
    kl_weight: float = 1e-6
    """Weight of the KL term; 1e-6 as in latent diffusion."""

    @property
    def factor(self) -> int:
        """Crop pixels per latent pixel along one side."""
        return self.patch * 2 ** (len(self.widths) - 1)


def build_autoencoder(config: AutoencoderConfig) -> AutoencoderKL:
    """An untrained autoencoder; its latents are not yet scaled to unit variance."""
    channels, levels = 3 * config.patch**2, len(config.widths)
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.widths,
        layers_per_block=config.layers,
        latent_channels=config.latent_channels,
        norm_num_groups=config.groups,
        mid_block_add_attention=config.attention,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 [..., 3, S, S] to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """float [..., 3, S, S] in [-1, 1], clipped, to uint8."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def fold(autoencoder: AutoencoderKL) -> int:
    """Side of the square of pixels that the autoencoder takes as channels."""
    return isqrt(autoencoder.config.in_channels // 3)


def encode(autoencoder: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Latents of images: float [N, 3, S, S] in [-1, 1] to [N, C, S / factor, S / factor], near zero mean and unit
    variance. Takes the posterior's mean: equal images give equal latents."""
    posterior = autoencoder.encode(F.pixel_unshuffle(images, fold(autoencoder))).latent_dist
    return (posterior.mode() - autoencoder.config.shift_factor) * autoencoder.config.scaling_factor


def decode(autoencoder: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """The inverse of `encode`: images, float [N, 3, S, S], about [-1, 1]."""
    unscaled = latents / autoencoder.config.scaling_factor + autoencoder.config.shift_factor
    return F.pixel_shuffle(autoencoder.decode(unscaled).sample, fold(autoencoder))


def autoencoder_loss(
    autoencoder: AutoencoderKL, images: torch.Tensor, kl_weight: float
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Mean absolute error of the reconstruction plus kl_weight times the KL divergence per image value.

    images: float [N, 3, S, S] in [-1, 1]. Draws the posterior's noise from torch's global generator.
    """
    posterior = autoencoder.encode(F.pixel_unshuffle(images, fold(autoencoder))).latent_dist
    restored = F.pixel_shuffle(autoencoder.decode(posterior.sample()).sample, fold(autoencoder))
    distance = F.l1_loss(restored, images)
    divergence = posterior.kl().mean()
    return distance + kl_weight * divergence, {"l1": distance.detach(), "kl": divergence.detach()}


@torch.no_grad()
def measure_scale(autoencoder: AutoencoderKL, batches: Iterable[torch.Tensor]) -> None:
    """Set the config's shift_factor and scaling_factor so that these images' latents have mean 0 and variance 1.

    batches: float [N, 3, S, S] in [-1, 1], as for `encode`.
    """
    autoencoder.register_to_config(shift_factor=0.0, scaling_factor=1.0)
    latents = torch.cat([encode(autoencoder, images).flatten() for images in batches])
    autoencoder.register_to_config(
        shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std().clamp_min(1e-6))
    )
