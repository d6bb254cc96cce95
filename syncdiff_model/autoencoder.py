"""Face crops to latents and back: an autoencoder that is trained here, on the user's own crops.

Three kinds: `kl`, diffusers' AutoencoderKL (Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion
Models", CVPR 2022, section 3.1), `tiny`, diffusers' AutoencoderTiny (Bohan 2023, TAESD), and `patch` (patches.py),
which is trained in minutes on a CPU. A pretrained one comes from its folder (checkpoint.load_autoencoder).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny

from syncdiff_data.ranges import AT_LEAST_0, DEPTH, WIDTH, check_ranges
from syncdiff_model.patches import PatchAutoencoder

Autoencoder: TypeAlias = AutoencoderKL | AutoencoderTiny | PatchAutoencoder
AUTOENCODERS: dict[str, Any] = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
    "PatchAutoencoder": PatchAutoencoder,
}
"""By class name, as model_index.json has it."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape and loss of the autoencoder. All of it is not stated in the sources available."""

    kind: Literal["kl", "tiny", "patch"] = "kl"
    factor: int = 8
    """Crop pixels per latent pixel along one side; kl and tiny: 2 to the number of widths less one."""
    latent_channels: int = 4
    widths: tuple[int, ...] = (64, 128, 256, 256)
    """kl, tiny: channels per level, each after the first halving the image, in tiny all alike; patch: one, of the
    refining network."""
    layers: int = 1
    """kl, tiny: residual blocks per level."""
    groups: int = 32
    """kl: groups of the group norms; divides every width."""
    kl_weight: float = 1e-6
    """kl: weight of the KL term; 1e-6 as in latent diffusion."""

    def __post_init__(self) -> None:
        check_ranges(self, dict.fromkeys(("factor", "latent_channels", "widths", "groups"), WIDTH))
        check_ranges(self, {"layers": DEPTH, "kl_weight": AT_LEAST_0})
        if self.kind == "tiny" and len(set(self.widths)) > 1:
            raise ValueError(f"autoencoder tiny has one width at all levels, not {self.widths}")
        if self.kind != "patch" and self.factor != 2 ** (len(self.widths) - 1):
            raise ValueError(
                f"{len(self.widths)} widths make factor {2 ** (len(self.widths) - 1)}, not {self.factor}"
            )


def build_autoencoder(config: AutoencoderConfig) -> Autoencoder:
    """An untrained autoencoder; its latents are not yet scaled to unit variance."""
    if config.kind == "patch":
        return PatchAutoencoder(config.factor, config.latent_channels, config.widths[0])
    levels = len(config.widths)
    if config.kind == "tiny":
        return AutoencoderTiny(
            encoder_block_out_channels=config.widths,
            decoder_block_out_channels=config.widths[::-1],
            num_encoder_blocks=(config.layers,) * levels,
            num_decoder_blocks=(config.layers,) * levels,
            latent_channels=config.latent_channels,
            scaling_factor=1.0,
        )
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.widths,
        layers_per_block=config.layers,
        latent_channels=config.latent_channels,
        norm_num_groups=config.groups,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 [..., 3, S, S] to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """float [..., 3, S, S] in [-1, 1], clipped, to uint8."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def encode(autoencoder: Autoencoder, images: torch.Tensor) -> torch.Tensor:
    """Latents of images: float [N, 3, S, S] in [-1, 1] to [N, C, S / factor, S / factor], near zero mean and unit
    variance. Of AutoencoderKL it takes the posterior's mode: equal images give equal latents."""
    coded: Any = autoencoder.encode(images)
    if isinstance(autoencoder, PatchAutoencoder):
        latents = coded
    else:
        latents = coded.latents if isinstance(autoencoder, AutoencoderTiny) else coded.latent_dist.mode()
    shift, scale = shift_and_scale(autoencoder)
    return (latents - shift) * scale


def decode(autoencoder: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
    """The inverse of `encode`: images, float [N, 3, S, S], about [-1, 1]."""
    shift, scale = shift_and_scale(autoencoder)
    unscaled = latents / scale + shift
    made: Any = autoencoder.decode(unscaled)
    return made if isinstance(autoencoder, PatchAutoencoder) else made.sample


def shift_and_scale(autoencoder: Autoencoder) -> tuple[float, float]:
    """By which latents are shifted and scaled to mean 0 and variance 1; published ones may name no shift."""
    config = autoencoder.config
    return config.get("shift_factor") or 0.0, config.get("scaling_factor") or 1.0


def latent_factor(autoencoder: Autoencoder) -> int:
    """Crop pixels per latent pixel along one side."""
    if isinstance(autoencoder, PatchAutoencoder):
        return int(autoencoder.config.patch)
    tiny = isinstance(autoencoder, AutoencoderTiny)
    widths = autoencoder.config["encoder_block_out_channels" if tiny else "block_out_channels"]
    return int(2 ** (len(widths) - 1))


def autoencoder_loss(
    autoencoder: Autoencoder, images: torch.Tensor, kl_weight: float
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Mean absolute error of the reconstruction, for AutoencoderKL plus kl_weight times the mean KL divergence.

    images: float [N, 3, S, S] in [-1, 1]. Takes the posterior's noise from torch's global generator.
    """
    if isinstance(autoencoder, PatchAutoencoder):
        distance = F.l1_loss(autoencoder.decode(autoencoder.encode(images)), images)
        return distance, {"l1": distance.detach()}
    network: Any = autoencoder
    if isinstance(autoencoder, AutoencoderTiny):
        distance = F.l1_loss(network.decode(network.encode(images).latents).sample, images)
        return distance, {"l1": distance.detach()}
    posterior = network.encode(images).latent_dist
    distance = F.l1_loss(network.decode(posterior.sample()).sample, images)
    divergence = posterior.kl().mean()
    return distance + kl_weight * divergence, {"l1": distance.detach(), "kl": divergence.detach()}


@torch.no_grad()
def measure_scale(autoencoder: Autoencoder, batches: Sequence[torch.Tensor]) -> None:
    """Set the config's shift_factor and scaling_factor so that these images' latents have mean 0 and variance 1.

    batches: float [N, 3, S, S] in [-1, 1], as for `encode`.
    """
    autoencoder.register_to_config(shift_factor=0.0, scaling_factor=1.0)
    latents = torch.cat([encode(autoencoder, images).flatten() for images in batches])
    autoencoder.register_to_config(
        shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std().clamp_min(1e-6))
    )
