"""The autoencoder for minutes instead of days: principal components of square patches, refined by a small network.

A convolutional autoencoder needs hours before its faces are sharp. The principal components of 8 x 8 patches are
found in a second, in closed form, and on aligned faces 16 of them are already sharper than the convolutional one is
after minutes (figures: docs/model.md). Training then moves the components and a residual network behind them, which
takes away the seams between patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Images [N, 3, S, S] in [-1, 1] to latents [N, latent_channels, S / patch, S / patch] and back."""

    @register_to_config
    def __init__(
        self,
        patch: int = 8,
        latent_channels: int = 16,
        width: int = 64,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ):
        super().__init__()
        values = 3 * patch**2
        self.analysis = nn.Conv2d(values, latent_channels, 1)
        self.synthesis = nn.Conv2d(latent_channels, values, 1)
        self.refine = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, values, 3, padding=1),
        )
        # The residual starts at nothing, so that training starts at the principal components.
        for value in self.refine[-1].parameters():
            nn.init.zeros_(value)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return self.analysis(F.pixel_unshuffle(images, self.config.patch))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.synthesis(latents) + self.refine(latents), self.config.patch)

    @torch.no_grad()
    def fit(self, images: torch.Tensor) -> None:
        """Take the principal components of the images' patches, float [N, 3, S, S] in [-1, 1].

        Each is divided by the square root of its standard deviation: undivided, brightness would dominate
        the denoiser's loss; divided by the whole of it, errors in the finest detail would cost as much.
        """
        patches = F.pixel_unshuffle(images, self.config.patch).movedim(1, -1).flatten(0, -2)
        mean = patches.mean(0)
        centred = patches - mean
        variance, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        kept = self.config.latent_channels
        basis = vectors.flip(1)[:, :kept]
        # Signs from the eigen-solver are arbitrary; the largest entry is made positive.
        basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        root = variance.flip(0)[:kept].clamp_min(1e-8) ** 0.25
        set_layer(self.analysis, (basis / root).T, -(mean @ basis) / root)
        set_layer(self.synthesis, basis * root, mean)


def set_layer(layer: nn.Conv2d, matrix: torch.Tensor, bias: torch.Tensor) -> None:
    """Make a 1 x 1 convolution the affine map x -> matrix @ x + bias."""
    layer.load_state_dict({"weight": matrix[..., None, None], "bias": bias})
