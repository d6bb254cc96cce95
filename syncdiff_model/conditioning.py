"""Conditioning of the denoiser: masked crops, audio features as tokens, the pose frame through a bottleneck.

The mask is fixed in crop space. Nothing about it comes from the frame that is to be generated: a mask around
the target's own landmarks leaks its lip shape.

Shapes: N frames, K audio tokens, D feature width, C token width, c latent channels, h, w latent size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn


@dataclass(frozen=True)
class MaskConfig:
    """The hidden rectangle, as fractions of the crop. Not stated in the sources available."""

    top: float = 0.5
    bottom: float = 1.0
    left: float = 0.0
    right: float = 1.0
    feather: float = 0.06
    """Width of the soft border, inside the rectangle, when a face is pasted back; 0 gives a hard edge."""


@dataclass(frozen=True)
class ConditioningConfig:
    """How audio features and the pose frame reach the denoiser. All of it is not stated in the sources available."""

    context: int = 9
    """Feature frames (25 per second) around each video frame, one audio token each."""
    tokens_dim: int = 256
    """Size of a token; the denoiser's cross-attention dimension."""
    pose_dim: int = 16
    """Width of the bottleneck: numbers per pose frame."""
    pose_width: int = 32
    """Channels of the pose encoder."""
    pose_offset: int = 1
    """In training the pose frame of t is the true frame t minus this; in a rollout it is the frame
    generated so many frames earlier."""


def hide_lower_half(images: torch.Tensor, mask: MaskConfig) -> torch.Tensor:
    """Images with the mask's rectangle set to mid gray (0): float [..., 3, S, S]."""
    hidden = images.clone()
    rows, columns = mask_span(mask, images.shape[-1])
    hidden[..., rows, columns] = 0
    return hidden


def mask_span(mask: MaskConfig, size: int) -> tuple[slice, slice]:
    """Rows and columns of the rectangle in a crop (or latent) of `size` pixels."""
    return (
        slice(round(mask.top * size), round(mask.bottom * size)),
        slice(round(mask.left * size), round(mask.right * size)),
    )


def soft_mask(mask: MaskConfig, size: int) -> torch.Tensor:
    """How much of a generated crop is shown when pasted back: float32 [size, size], 0 outside the rectangle, rising
    linearly over the feather to 1 inside. A sharp step at the jaw or cheek would show."""
    rows, columns = mask_span(mask, size)
    shown = torch.zeros(size, size)
    across = _ramp(columns.stop - columns.start, mask.feather * size)
    shown[rows, columns] = torch.minimum(_ramp(rows.stop - rows.start, mask.feather * size)[:, None], across)
    return shown


def _ramp(length: int, border: float) -> torch.Tensor:
    """Distance to the nearer end, in borders, at most 1: float32 [length]."""
    inward = torch.arange(length) + 0.5
    distance = torch.minimum(inward, length - inward)
    return (distance / border).clamp(max=1) if border else torch.ones(length)


class Conditioner(ModelMixin, ConfigMixin):
    """Audio tokens and one pose token, the context of the denoiser's cross-attention.

    Its saved config also holds what dubbing must repeat: features, mask, crop size.
    """

    @register_to_config
    def __init__(
        self,
        crop_size: int,
        latent_channels: int,
        encoder: str,
        checkpoint: str,
        feature: str,
        feature_dim: int,
        mask: dict[str, float],
        context: int = 9,
        tokens_dim: int = 256,
        pose_dim: int = 16,
        pose_width: int = 32,
        pose_offset: int = 1,
    ):
        """encoder, checkpoint, feature: name of the audio encoder, of its weights and of its column; mask: the
        fields of MaskConfig."""
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(feature_dim))
        self.register_buffer("feature_std", torch.ones(feature_dim))
        self.audio = nn.Sequential(
            nn.Linear(feature_dim, tokens_dim),
            nn.SiLU(),
            nn.Linear(tokens_dim, tokens_dim),
            nn.LayerNorm(tokens_dim),
        )
        self.position = nn.Parameter(torch.randn(context, tokens_dim) * 0.02)
        self.bottleneck = nn.Sequential(
            nn.Conv2d(latent_channels, pose_width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(pose_width, pose_width, 3, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(pose_width * 16, pose_dim),
        )
        self.pose = nn.Sequential(nn.Linear(pose_dim, tokens_dim), nn.LayerNorm(tokens_dim))

    @property
    def mask(self) -> MaskConfig:
        return MaskConfig(**self.config.mask)

    def audio_tokens(self, features: torch.Tensor) -> torch.Tensor:
        """Feature frames [N, K, D], as stored, to tokens [N, K, C]; standardised per dimension first."""
        return self.audio((features - self.feature_mean) / self.feature_std) + self.position

    def pose_code(self, pose: torch.Tensor) -> torch.Tensor:
        """The pose frame's latents [N, c, h, w] through the bottleneck: [N, pose_dim]. Too narrow for a lip shape, wide
        enough for a head pose (the paper's bottleneck; its size is not stated)."""
        return self.bottleneck(pose)

    def forward(self, features: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
        """Context for cross-attention: [N, K + 1, C] from features [N, K, D] and pose latents [N, c, h, w]."""
        return torch.cat([self.audio_tokens(features), self.pose(self.pose_code(pose))[:, None]], dim=1)

    @torch.no_grad()
    def measure_features(self, features: torch.Tensor) -> None:
        """Take mean and standard deviation per dimension from features [..., D]."""
        flat = features.reshape(-1, features.shape[-1]).float()
        self.feature_mean.copy_(flat.mean(0))
        self.feature_std.copy_(flat.std(0).clamp_min(1e-4))


def latent_weights(mask: MaskConfig, size: int, outside: float) -> torch.Tensor:
    """Loss weights [size, size] over the latents: 1 where the mask lies, `outside` elsewhere, then mean 1."""
    weights = torch.full((size, size), outside)
    weights[mask_span(mask, size)] = 1
    return weights / weights.mean()
