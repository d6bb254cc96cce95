"""The transformer of AV-HuBERT: a positional convolution, then pre-norm blocks.

Module names are those of the published checkpoints, with one exception: the positional convolution's weight
norm is folded into a plain weight when a checkpoint is read.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from syncdiff_data.avhubert.config import EncoderConfig


class SelfAttention(nn.Module):
    """Multi-head attention; `keep` bool [B, 1, 1, T] is False at keys nobody may look at."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=keep)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Norm, attention, residual; norm, feed-forward with exact GELU, residual. [B, T, D] -> [B, T, D]."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.self_attn = SelfAttention(config.width, config.heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.fc1 = nn.Linear(config.width, config.ffn)
        self.fc2 = nn.Linear(config.ffn, config.width)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x), keep)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class Transformer(nn.Module):
    """Holds the positional convolution, the blocks and the final norm; the encoder decides which of them
    run.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        convolution = nn.Conv1d(
            config.width,
            config.width,
            config.pos_kernel,
            padding=config.pos_kernel // 2,
            groups=config.pos_groups,
        )
        self.pos_conv = nn.Sequential(convolution)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(config.width)

    def add_positions(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]. The kernel is even: padded on both sides it gives a frame too many, the
        last.
        """
        positions = self.pos_conv(x.transpose(1, 2))[..., : x.shape[1]]
        return x + F.gelu(positions).transpose(1, 2)
