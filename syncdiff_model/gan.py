"""The adversary of a generator and what the two minimise: Wav2Lip's recipe (Prajwal et al. 2020, arXiv:2008.10010).

Shapes: N frames, h x w pixels of the mask's rectangle.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from syncdiff_data.ranges import AT_LEAST_0, SHARE, WIDTH, check_ranges


@dataclass(frozen=True)
class GanConfig:
    """Weights and sizes. The mean absolute error takes the share that the other two leave, as in Wav2Lip."""

    sync: float = 0.003
    """Share of the sync expert's loss, from when the gate opens; 0 trains without. Wav2Lip's 0.03 weighs a loss that is
    a tenth of this one's: cross-entropy over two dozen shifts."""
    sync_gate: float = 0.75
    """The gate opens, for good, when the expert's loss on held-out frames falls below this share of chance: before
    there are lips to judge, it keeps a generator from learning them."""
    adversarial: float = 0.07
    """Share of the adversarial loss; 0 trains no discriminator: with sync 0 too that is regression."""
    mouth: float = 0.03
    """Weight of the error of lip landmarks read from the audio vector alone, which SyncDiff has too."""
    widths: tuple[int, ...] = (32, 64, 128, 128)
    """Channels of the discriminator's levels, each of half the size."""
    discriminator_rate: float = 0.5
    """Its learning rate relative to the generator's."""

    def __post_init__(self) -> None:
        check_ranges(self, dict.fromkeys(("sync", "adversarial"), SHARE))
        check_ranges(
            self,
            {"mouth": AT_LEAST_0, "sync_gate": AT_LEAST_0, "widths": WIDTH, "discriminator_rate": AT_LEAST_0},
        )
        if self.sync + self.adversarial >= 1:
            raise ValueError("sync and adversarial are shares of one loss: expected a sum below 1")


class Discriminator(nn.Module):
    """Pictures of the mask's rectangle [N, 3, h, w] in [-1, 1] to logits [N, 1, h', w'] that a patch is real.

    Wav2Lip's sees the same part of a face, and gives one number for all of it. Spectral norm (Miyato et al. 2018) keeps
    a small one stable.
    """

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *widths), widths):
            layers += [
                nn.utils.parametrizations.spectral_norm(nn.Conv2d(before, after, 4, 2, 1)),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(pictures)
        return logits


class Gate(nn.Module):
    """Whether a loss counts yet; a buffer, so that a resumed run knows and all processes agree."""

    def __init__(self) -> None:
        super().__init__()
        self.open: torch.Tensor
        self.register_buffer("open", torch.zeros(()))

    def unlock(self) -> None:
        self.open.fill_(1)


def real_error(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Mean cross-entropy of patches that are all real, or all generated."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
