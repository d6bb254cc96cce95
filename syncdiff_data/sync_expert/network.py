"""The two small networks of the sync expert: lips and audio to unit vectors of one space, one per video frame.

B clips, T frames, D numbers of an embedding, S side of the pictures inside the network (48), P numbers of landmarks.
A lip embedding depends on 9 frames, an audio embedding on 15. No layer mixes clips (group norm, not batch norm), so a
result does not depend on the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from syncdiff_data.ranges import WIDTH, check_ranges
from syncdiff_data.records import UserError

BANDS = 26
"""Mel bands of `logfbank`."""
PER_FRAME = 4
"""Its frames of 10 ms in one video frame."""
LANDMARK_DIM = 54
"""27 points (20 of the mouth, 7 of the chin), x and y."""
GROUPS = 8
"""Of the group norms."""

REACH_LIPS, REACH_AUDIO = 8, 12
"""Frames on either side of an embedding that it may depend on, with room to spare."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of both networks; saved as config.json beside the weights."""

    dim: int = 128
    """D, numbers of an embedding."""
    widths: tuple[int, ...] = (32, 64, 96, 128)
    """Channels of the picture convolutions; each halves the side."""
    landmarks: bool = True
    """Whether landmarks are read beside the pictures."""
    landmark_width: int = 64
    audio_width: int = 128
    pictures: int = 5
    """Frames that one window of pictures shows; odd."""

    def __post_init__(self) -> None:
        check_ranges(self, dict.fromkeys(("dim", "widths", "landmark_width", "audio_width"), WIDTH))
        check_ranges(self, {"pictures": (1, 99)})
        if len(self.widths) != 4 or any(width % GROUPS for width in self.widths) or self.pictures % 2 == 0:
            raise UserError(
                f"The network of a sync expert has four widths, multiples of {GROUPS}, not {list(self.widths)}, and an "
                f"odd number of pictures, not {self.pictures}."
            )


class _Step(nn.Sequential):
    """Picture convolution, stride 2."""

    def __init__(self, channels: int, out: int):
        super().__init__(nn.Conv2d(channels, out, 3, 2, 1), nn.GroupNorm(GROUPS, out), nn.ReLU())


class _Mix(nn.Module):
    """Residual convolution over time, [B, C, T] to the same; edge frames repeated."""

    def __init__(self, channels: int, size: int = 5):
        super().__init__()
        self.norm = PerFrameNorm(channels)
        self.conv = nn.Conv1d(channels, channels, size, padding=size // 2, padding_mode="replicate")
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.out(functional.relu(self.conv(self.norm(x))))
        return x + mixed


class PerFrameNorm(nn.LayerNorm):
    """Layer norm over the channels of each frame of [B, C, T], independent of the clip's length."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class LipNetwork(nn.Module):
    """Pictures and landmarks of the mouth to embeddings."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        widths = (config.pictures + 1, *config.widths)
        self.pictures = nn.Sequential(*(_Step(a, b) for a, b in pairwise(widths)))
        self.flat = nn.Linear(widths[-1] * 9, config.dim)
        width = config.landmark_width if config.landmarks else 0
        if config.landmarks:
            self.landmarks = nn.Sequential(
                nn.Conv1d(
                    LANDMARK_DIM,
                    width,
                    config.pictures,
                    padding=config.pictures // 2,
                    padding_mode="replicate",
                ),
                nn.ReLU(),
                nn.Conv1d(width, width, 1),
            )
        self.join = nn.Conv1d(config.dim + width, config.dim, 1)
        self.mix = _Mix(config.dim)
        self.out = nn.Conv1d(config.dim, config.dim, 1)

    def forward(
        self, pictures: torch.Tensor, mean: torch.Tensor, landmarks: torch.Tensor | None
    ) -> torch.Tensor:
        """pictures: [B, T, 48, 48], mean: [B, 48, 48], both standardised; landmarks: [B, T, P] or None, which reads as
        no motion. Returns unit vectors [B, T, D]."""
        count, frames = pictures.shape[:2]
        half = self.config.pictures // 2
        # Every frame with its neighbours and the clip's mean picture: [B * T, pictures + 1, S, S].
        padded = torch.cat([pictures[:, :1]] * half + [pictures] + [pictures[:, -1:]] * half, dim=1)
        windows = torch.stack([padded[:, k : k + frames] for k in range(2 * half + 1)], dim=2)
        stacked = torch.cat([windows, mean[:, None, None].expand(-1, frames, -1, -1, -1)], dim=2)
        flat = self.flat(self.pictures(stacked.flatten(0, 1)).flatten(1)).view(count, frames, -1)
        x = flat.transpose(1, 2)
        if self.config.landmarks:
            if landmarks is None:
                landmarks = x.new_zeros(count, frames, LANDMARK_DIM)
            x = torch.cat([x, self.landmarks(landmarks.transpose(1, 2))], dim=1)
        x = self.out(self.mix(self.join(x)))
        return functional.normalize(x.transpose(1, 2), dim=-1)


class AudioNetwork(nn.Module):
    """Log filterbank energies to embeddings."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        width = config.audio_width
        self.fine = nn.Sequential(
            nn.Conv1d(BANDS, width, 5, padding=2, padding_mode="replicate"), PerFrameNorm(width), nn.ReLU()
        )
        self.coarse = nn.Conv1d(width, width, PER_FRAME, stride=PER_FRAME)
        self.mix = nn.Sequential(_Mix(width), _Mix(width))
        self.out = nn.Conv1d(width, config.dim, 1)

    def forward(self, energies: torch.Tensor) -> torch.Tensor:
        """energies: [B, T, 104], standardised. Returns unit vectors [B, T, D]."""
        count, frames = energies.shape[:2]
        fine = self.fine(energies.reshape(count, frames * PER_FRAME, BANDS).transpose(1, 2))
        x = self.out(self.mix(self.coarse(fine)))
        return functional.normalize(x.transpose(1, 2), dim=-1)


class SyncNetwork(nn.Module):
    """Both networks and the temperature they were trained with."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.lips, self.audio = LipNetwork(config), AudioNetwork(config)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
