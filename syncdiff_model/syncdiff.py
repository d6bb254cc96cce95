"""SyncDiff as one object: autoencoder, conditioner, denoiser and noise schedule.

Shapes: N frames; S crop size, s latent size, r latent rows that the denoiser sees, c latent channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from syncdiff_model.autoencoder import Autoencoder, decode, encode, to_unit
from syncdiff_model.conditioning import Conditioner, Context
from syncdiff_model.mask import hide_lower_half, latent_mask, seen_rows
from syncdiff_model.samplers import Levels


@dataclass(frozen=True)
class SyncDiff:
    """The model's parts. Diffusers loads each of the first three from its own folder."""

    autoencoder: Autoencoder
    conditioner: Conditioner
    denoiser: UNet2DConditionModel
    scheduler: DDIMScheduler

    @property
    def device(self) -> torch.device:
        return self.denoiser.device

    @cached_property
    def latent_size(self) -> int:
        return int(self.denoiser.config.sample_size)

    @cached_property
    def rows(self) -> slice:
        """The rows of a latent that the denoiser sees."""
        unit = 2 ** (len(self.denoiser.config.block_out_channels) - 1)
        return seen_rows(self.conditioner.mask, self.latent_size, unit)

    @property
    def inside(self) -> torch.Tensor:
        """bool [r, s]: where latents are generated, of the rows that the denoiser sees."""
        return latent_mask(self.conditioner.mask, self.latent_size)[self.rows].to(self.device)

    @cached_property
    def levels(self) -> Levels:
        return Levels.of(self.scheduler)

    def frame_latents(self, frames: torch.Tensor) -> torch.Tensor:
        """Latents of whole frames: uint8 [N, 3, S, S] to float32 [N, c, s, s]."""
        return encode(self.autoencoder, to_unit(frames)).float()

    def masked_latents(self, frames: torch.Tensor) -> torch.Tensor:
        """Latents of frames with the lower half hidden: uint8 [N, 3, S, S] to float32 [N, c, s, s]."""
        return encode(self.autoencoder, hide_lower_half(to_unit(frames), self.conditioner.mask)).float()

    def seen(self, latents: torch.Tensor) -> torch.Tensor:
        """The rows that the denoiser sees: [N, c, s, s] to [N, c, r, s]."""
        return latents[..., self.rows, :]

    def whole(self, generated: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Generated latents [N, c, r, s] inside the mask, those of the masked frames [N, c, s, s] elsewhere."""
        latents = masked.clone()
        latents[..., self.rows, :] = torch.where(self.inside, generated.to(masked.dtype), self.seen(masked))
        return latents

    def images(self, latents: torch.Tensor) -> torch.Tensor:
        """Crops of whole latents: [N, c, s, s] to float [N, 3, S, S], about [-1, 1]."""
        return decode(self.autoencoder, latents)

    def predict(
        self,
        noisy: torch.Tensor,
        steps: torch.Tensor,
        masked: torch.Tensor,
        identity: torch.Tensor,
        context: Context,
    ) -> torch.Tensor:
        """What scheduler.config.prediction_type names, float32 [N, c, r, s].

        noisy, masked, identity: [N, c, r, s]; steps: int64 [N], noise levels.
        """
        # three latents [N, c, r, s], the sound's map, the pose -> UNet input [N, ..., r, s] -> output [N, c, r, s]
        inputs = [noisy, masked, identity]
        if context.audio_map is not None:
            inputs.append(context.audio_map)
        if context.pose is not None:
            inputs.append(self.seen(context.pose))
        output = self.denoiser(
            torch.cat(inputs, dim=1), steps, context.tokens, class_labels=context.vector
        ).sample.float()
        if self.scheduler.config.prediction_type != "sample":
            return output
        # Aligned crops of one person differ little: clean latents are predicted as a residual to what is seen.
        return output + torch.where(self.inside, identity, masked)

    def clean_of(self, output: torch.Tensor, noisy: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """The clean latents that an output of `predict` means."""
        kind = self.scheduler.config.prediction_type
        if kind == "sample":
            return output
        alpha, sigma = self.alpha_sigma(steps)
        if kind == "v_prediction":
            return alpha * noisy - sigma * output
        return (noisy - sigma * output) / alpha

    def target(self, clean: torch.Tensor, noise: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """What `predict` should give: the noise, the velocity or the clean latents."""
        kind = self.scheduler.config.prediction_type
        if kind == "v_prediction":
            alpha, sigma = self.alpha_sigma(steps)
            return alpha * noise - sigma * clean
        return noise if kind == "epsilon" else clean

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """q(x_t | x_0) (Ho et al., 2020, equation 4), in float32 whatever the autocast."""
        alpha, sigma = self.alpha_sigma(steps)
        return alpha * clean.float() + sigma * noise.float()

    def alpha_sigma(self, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each noise level: float32 [N, 1, 1, 1] each."""
        index = steps.cpu()
        alpha, sigma = (
            values[index].float().to(steps.device) for values in (self.levels.alpha, self.levels.sigma)
        )
        return alpha[:, None, None, None], sigma[:, None, None, None]
