"""Reconstruct face crops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from syncdiff_data.loader import Batch, BatchParts
from syncdiff_model.autoencoder import autoencoder_loss, build_autoencoder, decode, encode, to_bytes, to_unit
from syncdiff_model.checkpoint import save_parts
from syncdiff_model.patches import PatchAutoencoder
from syncdiff_model.presets import Settings
from syncdiff_model.tasks.base import NEGATIVE_LOSS, Loss, Task, grid, negative_loss

SHOWN = 8
"""Crops in a picture."""


class AutoencoderTask(Task):
    """held_out: batches that only validation sees."""

    def __init__(self, settings: Settings, held_out: Sequence[Batch] = ()):
        autoencoder = build_autoencoder(settings.autoencoder)
        super().__init__({"autoencoder": autoencoder})
        self.autoencoder, self.kl_weight, self.held_out = (
            autoencoder,
            settings.autoencoder.kl_weight,
            held_out,
        )
        self.best_of = NEGATIVE_LOSS if held_out else None

    @classmethod
    def batch_parts(cls, settings: Settings) -> BatchParts:
        """What of a batch the loss and the validation use."""
        return BatchParts(images=("frames",), landmarks=False)

    def fit_patches(self, batches: Iterable[Batch]) -> None:
        """Start a patch autoencoder from the principal components of a few batches; others keep their random start."""
        if isinstance(self.autoencoder, PatchAutoencoder):
            self.autoencoder.fit(torch.cat([to_unit(batch["frames"].flatten(0, 1)) for batch in batches]))

    def forward(self, batch: Batch, phase: str = "all", step: int = 0) -> Loss:
        return autoencoder_loss(self.autoencoder, to_unit(batch["frames"].flatten(0, 1)), self.kl_weight)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        return negative_loss(self, self.held_out)

    @torch.no_grad()
    def pictures(self) -> dict[str, torch.Tensor]:
        """Crops above their reconstructions."""
        if not self.held_out:
            return {}
        crops = self.held_out[0]["frames"].flatten(0, 1)[:SHOWN].to(self.device)
        again = to_bytes(decode(self.autoencoder, encode(self.autoencoder, to_unit(crops))))
        return {"reconstructions": grid([crops, again])}

    def save(self, folder: Path) -> None:
        save_parts(folder, "Autoencoder", {"autoencoder": self.autoencoder})
