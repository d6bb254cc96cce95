"""From feature frames to what conditions the denoiser: tokens for its cross-attention, one vector for all its layers.

Shapes: N frames, K feature frames around each, D feature width, C token width; B clips, T frames of a window.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from syncdiff_data.avhubert.blocks import Block
from syncdiff_data.avhubert.config import EncoderConfig
from syncdiff_data.avhubert.encoder import AVHubertEncoder


class AudioTokens(nn.Module):
    """Windows of feature frames [N, K, D], standardised, to tokens [N, K, C] and a vector [N, C].

    Convolutions along the K frames come first: the opening of a mouth follows the sound of the frames before and after.
    """

    def __init__(self, feature_dim: int, context: int, width: int, layers: int, dropout: float):
        super().__init__()
        self.enter = nn.Linear(feature_dim, width)
        self.mix = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.position = nn.Parameter(torch.randn(context, width) * 0.02)
        self.pool = nn.Sequential(
            nn.Linear(context * width, 2 * width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = F.silu(self.enter(windows)).transpose(1, 2)  # [N, C, K]
        for convolution in self.mix:
            hidden = hidden + self.dropout(F.silu(convolution(hidden)))
        hidden = hidden.transpose(1, 2)
        return self.norm(hidden) + self.position, self.pool(self.dropout(hidden.flatten(1)))


class AVHubertTop(nn.Module):
    """The blocks of AV-HuBERT above a stored layer, to be trained with the model: [B, F, D] to [B, F, D].

    The paper's best setting trains the upper three of twelve (its 9 frozen blocks). They attend over the whole span
    that they are given, so spans must be contiguous.
    """

    def __init__(self, config: dict[str, int], layer: int):
        """config: the fields of EncoderConfig; layer: the stored one, counted from 1."""
        super().__init__()
        shape = EncoderConfig(**config)
        self.first = layer
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers - layer))
        self.norm = nn.LayerNorm(shape.width)

    def copy_from(self, encoder: AVHubertEncoder) -> None:
        """Start from the weights of a whole encoder."""
        for block, trained in zip(self.blocks, encoder.encoder.layers[self.first :]):
            block.load_state_dict(trained.state_dict())
        self.norm.load_state_dict(encoder.encoder.layer_norm.state_dict())

    def forward(self, hidden: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """hidden: float [B, F, D], outputs of block `layer`; inside: bool [B, F], False where the clip has no frame.
        Equals AVHubertEncoder.resume_from."""
        for block in self.blocks:
            hidden = block(hidden, inside[:, None, None])
        return self.norm(hidden)


def span_of_windows(windows: torch.Tensor) -> torch.Tensor:
    """The contiguous frames behind windows of consecutive frames: [B, T, K, ...] to [B, T + K - 1, ...]."""
    return torch.cat([windows[:, 0], windows[:, 1:, -1]], dim=1)


def windows_of_span(span: torch.Tensor, context: int) -> torch.Tensor:
    """The inverse: [B, T + K - 1, D] to [B, T, K, D]."""
    return span.unfold(1, context, 1).movedim(-1, 2)
