"""Training of the sync expert: contrast within clips, which teaches time, and across clips, which teaches speech.

B clips, T frames of a window, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from syncdiff_data.loader import Batch
from syncdiff_data.ranges import AT_LEAST_0, AT_LEAST_1, check_ranges
from syncdiff_data.sync_expert.expert import save_network
from syncdiff_data.sync_expert.network import NetworkConfig, SyncNetwork
from syncdiff_data.sync_expert.prepare import standard_energies
from syncdiff_data.sync_expert.scoring import score_embeddings
from syncdiff_model.sync_data import SyncClip
from syncdiff_model.tasks.base import Loss, Task


@dataclass(frozen=True)
class SyncConfig:
    """Shape of the expert and its loss."""

    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(widths=(16, 32, 64, 128)))
    across: float = 0.3
    """Weight of the contrast over the whole batch against that within each clip."""
    longest_score: int = 80
    """Validation scores clips of at most so many frames (3.2 s)."""

    def __post_init__(self) -> None:
        check_ranges(self, {"across": AT_LEAST_0, "longest_score": AT_LEAST_1})


def contrast(
    lips: torch.Tensor, audio: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric cross-entropy of matching lips [B, T, D] with audio [B, T, D]: within each clip, and over the batch.

    Direct neighbours are no negatives: they sound nearly the same. Oord et al. 2018 (InfoNCE), arXiv:1807.03748.
    """
    count, frames = lips.shape[:2]
    # similarities of every lip frame with every audio frame: [B, T, B, T]
    similarity = torch.einsum("btd,csd->btcs", lips, audio) * scale
    place = torch.arange(frames, device=lips.device)
    neighbour = (place[:, None] - place[None]).abs() == 1
    clips = torch.arange(count, device=lips.device)
    own = similarity[clips, :, clips].masked_fill(neighbour, -1e4)  # [B, T, T]
    target = place.expand(count, frames)
    within = functional.cross_entropy(own.transpose(1, 2), target) + functional.cross_entropy(own, target)
    whole = similarity.reshape(count * frames, count * frames)
    whole = whole.masked_fill(torch.block_diag(*[neighbour] * count), -1e4)
    every = torch.arange(count * frames, device=lips.device)
    across = functional.cross_entropy(whole, every) + functional.cross_entropy(whole.T, every)
    return within / 2, across / 2


def area_under_curve(own: Sequence[float], foreign: Sequence[float]) -> float:
    """Share of (own, foreign) pairs in which own is larger, ties half: the area under the ROC curve."""
    a, b = np.array(own)[:, None], np.array(foreign)[None]
    return float((a > b).mean() + 0.5 * (a == b).mean())


class SyncTask(Task):
    """The expert's network, and its held-out clips."""

    best_of = "validation/auc"

    def __init__(self, config: SyncConfig, held_out: Sequence[SyncClip] = ()):
        network = SyncNetwork(config.network)
        super().__init__({"expert": network})
        self.network, self.config, self.held_out = network, config, held_out

    def forward(self, batch: Batch, phase: str = "all", step: int = 0) -> Loss:
        landmarks = batch["landmarks"] if self.config.network.landmarks else None
        lips = self.network.lips(batch["pictures"], batch["mean"], landmarks)
        audio = self.network.audio(batch["energies"])
        scale = self.network.log_scale.clamp(0, 4).exp()
        within, across = contrast(lips.float(), audio.float(), scale)
        scalars = {"within": within.detach(), "across": across.detach(), "scale": scale.detach()}
        return within + self.config.across * across, scalars

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Held-out clips with their own sound against every other one's: AUC and mean confidences."""
        if len(self.held_out) < 2:
            return {}
        self.network.eval()
        lips, audio = zip(*(self.embed(clip) for clip in self.held_out))
        own = [score_embeddings(v, a).confidence for v, a in zip(lips, audio)]
        foreign = [
            score_embeddings(v, audio[j]).confidence
            for i, v in enumerate(lips)
            for j in range(i + 1, min(i + 9, len(audio)))  # eight others are enough, and cost little
        ]
        self.network.train()
        return {
            self.best_of: area_under_curve(own, foreign),
            "validation/own": float(np.mean(own)),
            "validation/foreign": float(np.mean(foreign)),
        }

    def embed(self, clip: SyncClip) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings [T, D] of the beginning of a clip."""
        span = slice(0, self.config.longest_score)
        pictures = (clip.pictures[span].astype(np.float32) - clip.gray) / clip.spread
        mean = (clip.mean - clip.gray) / clip.spread
        arrays = (pictures, mean, clip.motion[span], standard_energies(clip.logfbank)[span])
        picture, middle, motion, energies = (
            torch.from_numpy(a)[None].float().to(self.device) for a in arrays
        )
        lips = self.network.lips(picture, middle, motion if self.config.network.landmarks else None)
        return lips[0].float().cpu().numpy(), self.network.audio(energies)[0].float().cpu().numpy()

    @torch.no_grad()
    def pictures(self) -> dict[str, torch.Tensor]:
        """Similarities of the first held-out clip's lips (rows) with its sound (columns), -1 black to 1 white."""
        if not self.held_out:
            return {}
        self.network.eval()
        lips, audio = self.embed(self.held_out[0])
        self.network.train()
        gray = np.clip(127.5 * (lips @ audio.T + 1), 0, 255).astype(np.uint8)
        return {
            "similarities": torch.from_numpy(gray.repeat(4, axis=0).repeat(4, axis=1))[None].repeat(3, 1, 1)
        }

    def save(self, folder: Path) -> None:
        save_network(self.network, folder)
