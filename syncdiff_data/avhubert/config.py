"""The shape of an AV-HuBERT encoder."""

from __future__ import annotations

from dataclasses import dataclass

AUDIO_DIM = 104
"""Four stacked frames of 26 log filterbank energies: one row per video frame."""
FRAME_SIZE = 88
"""Height and width of the video input, the middle of a 96 x 96 mouth crop."""
TRUNK_DIM = 512
"""Width of the ResNet-18 trunk's output."""

PUBLISHED_HEADS = {(12, 768): 12, (24, 1024): 16}
"""(layers, width) of the published base and large models -> attention heads, which no tensor's shape
tells.
"""


@dataclass(frozen=True)
class EncoderConfig:
    """layers, width D, inner width of the feed-forward, attention heads, and the positional convolution's
    size.
    """

    layers: int
    width: int
    ffn: int
    heads: int
    pos_kernel: int = 128
    pos_groups: int = 16

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide the width {self.width}")


BASE = EncoderConfig(layers=12, width=768, ffn=3072, heads=12)
LARGE = EncoderConfig(layers=24, width=1024, ffn=4096, heads=16)
