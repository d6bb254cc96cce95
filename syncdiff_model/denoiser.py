"""The denoiser: a latent UNet on the noisy, the masked and the identity frame, with cross-attention to the context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from syncdiff_data.ranges import DEPTH, SHARE, WIDTH, Range, check_ranges

Prediction = Literal["epsilon", "v_prediction", "sample"]
TRAIN_STEPS: Range = (1, 100_000)
"""Noise levels of a schedule."""


@dataclass(frozen=True)
class DenoiserConfig:
    """Shape of the UNet. All of it is not stated in the sources available."""

    widths: tuple[int, ...] = (128, 256, 384)
    """Channels per level; every level after the first halves the latents."""
    layers: int = 2
    """Residual blocks per level."""
    attention: tuple[bool, ...] = (False, True, True)
    """Which levels attend to the context: audio tokens and the pose token."""
    heads: int = 8
    groups: int = 32
    """Groups of the group norms; divides every width."""

    def __post_init__(self) -> None:
        check_ranges(self, {"widths": WIDTH, "layers": DEPTH, "heads": WIDTH, "groups": WIDTH})


@dataclass(frozen=True)
class DiffusionConfig:
    """The noise and what is predicted. All of it is not stated in the sources available."""

    train_steps: int = 1000
    """Noise levels; DiffTalk's default."""
    beta_start: float = 0.0015
    """DiffTalk's default, with betas linear in their square roots."""
    beta_end: float = 0.0195
    prediction: Prediction = "sample"
    """What is predicted: the clean latents, as a residual to the identity frame's; the velocity (Salimans and Ho,
    2022), or the noise (DiffTalk), whose error grows 84-fold at the noisiest level."""
    zero_terminal_snr: bool = True
    """The noisiest level is noise alone (Lin et al., 2024), as in sampling; not for epsilon."""

    def __post_init__(self) -> None:
        check_ranges(self, {"train_steps": TRAIN_STEPS, "beta_start": SHARE, "beta_end": SHARE})
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError(
                "prediction epsilon says nothing where all is noise: zero_terminal_snr must be off"
            )


def build_denoiser(
    config: DenoiserConfig, latent_channels: int, latent_size: int, tokens_dim: int, more_channels: int = 0
) -> UNet2DConditionModel:
    """An untrained UNet: noisy, masked and identity latents and more channels (the sound's map, a pose) in, one out.

    The audio vector [N, tokens_dim] goes in as `class_labels`, which diffusers adds to the noise level's embedding.
    """
    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.attention)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(config.attention))
    denoiser = UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=3 * latent_channels + more_channels,
        out_channels=latent_channels,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=config.widths,
        layers_per_block=config.layers,
        cross_attention_dim=tokens_dim,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=tokens_dim,
        # The sound's vector scales channels too: it says which of the shapes of lips is wanted.
        resnet_time_scale_shift="scale_shift",
        # diffusers keeps the number of heads under this name.
        attention_head_dim=config.heads,
        norm_num_groups=config.groups,
    )
    # Training starts from an output of zeros: from the identity frame itself where clean latents are predicted.
    for value in denoiser.conv_out.parameters():
        torch.nn.init.zeros_(value)
    return denoiser


def build_scheduler(config: DiffusionConfig) -> DDIMScheduler:
    """The noise schedule: add_noise is DDPM's q(x_t | x_0). samplers.py reads its levels."""
    return DDIMScheduler(
        num_train_timesteps=config.train_steps,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule="scaled_linear",
        prediction_type=config.prediction,
        rescale_betas_zero_snr=config.zero_terminal_snr,
        # Few steps must begin at the noisiest level (Lin et al., 2024, section 3.3).
        timestep_spacing="trailing",
        clip_sample=False,
    )
