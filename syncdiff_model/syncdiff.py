"""SyncDiff as one object: autoencoder, conditioner, denoiser and noise schedule, and the loss that trains them.

Shapes: B clips, T frames each, N = B * T; S crop size, s latent size, c latent channels; K audio tokens, D feature
width, C token width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel

from syncdiff_model.autoencoder import Autoencoder, encode, to_unit
from syncdiff_model.conditioning import Conditioner, hide_lower_half, latent_weights


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

    def frame_latents(self, frames: torch.Tensor) -> torch.Tensor:
        """Latents of whole frames: uint8 [N, 3, S, S] to [N, c, s, s]."""
        return encode(self.autoencoder, to_unit(frames))

    def masked_latents(self, frames: torch.Tensor) -> torch.Tensor:
        """Latents of frames with the lower half hidden: uint8 [N, 3, S, S] to [N, c, s, s]."""
        return encode(self.autoencoder, hide_lower_half(to_unit(frames), self.conditioner.mask))

    def predict(
        self,
        noisy: torch.Tensor,
        timestep: torch.Tensor,
        masked: torch.Tensor,
        identity: torch.Tensor,
        context: torch.Tensor,
    ) -> torch.Tensor:
        """What scheduler.config.prediction_type names, [N, c, s, s]; `sample` is predicted as a residual to `identity`.

        noisy, masked, identity: [N, c, s, s]; timestep: int64 [N] or scalar; context: [N, K + 1, C].
        """
        # three latents [N, c, s, s] -> UNet input [N, 3 * c, s, s] -> output [N, c, s, s]
        output = self.denoiser(torch.cat([noisy, masked, identity], dim=1), timestep, context).sample
        # Aligned crops of one person differ little: clean latents are predicted as a residual to the identity frame's.
        return identity + output if self.scheduler.config.prediction_type == "sample" else output

    def loss(
        self,
        frames: torch.Tensor,
        identity: torch.Tensor,
        pose: torch.Tensor,
        features: torch.Tensor,
        outside_weight: float,
    ) -> torch.Tensor:
        """Weighted mean squared error of the prediction at random noise levels (Ho et al., 2020, equation 14).

        frames, pose: uint8 [B, T, 3, S, S]; identity: uint8 [B, 3, S, S]; features: [B, T, K, D]. Noise and noise
        levels come from torch's global generator.
        """
        # crops [B, T, 3, S, S] -> [N, 3, S, S] -> latents [N, c, s, s]; one identity frame serves the T of its clip
        flat = frames.flatten(0, 1)
        with torch.no_grad():
            clean = self.frame_latents(flat)
            masked = self.masked_latents(flat)
            identity_latents = self.frame_latents(identity).repeat_interleave(frames.shape[1], dim=0)
            pose_latents = self.frame_latents(pose.flatten(0, 1))
        # one noise level a frame; audio features [B, T, K, D] and pose -> context [N, K + 1, C]
        noise = torch.randn_like(clean)
        steps = torch.randint(self.scheduler.config.num_train_timesteps, (len(clean),), device=clean.device)
        context = self.conditioner(features.flatten(0, 1), pose_latents)
        predicted = self.predict(
            self.scheduler.add_noise(clean, noise, steps), steps, masked, identity_latents, context
        )
        weights = latent_weights(self.conditioner.mask, clean.shape[-1], outside_weight).to(clean.device)
        return (
            F.mse_loss(predicted.float(), self.target(clean, noise, steps), reduction="none") * weights
        ).mean()

    def target(self, clean: torch.Tensor, noise: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """What `predict` should give: the noise, the velocity or the clean latents."""
        kind = self.scheduler.config.prediction_type
        if kind == "v_prediction":
            return self.scheduler.get_velocity(clean, noise, steps)
        return noise if kind == "epsilon" else clean
