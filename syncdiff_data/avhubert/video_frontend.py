"""AV-HuBERT's lip reader: a 3-D convolution over time, then a ResNet-18 trunk per frame (Shi et al. 2022,
section 3).

Module names are those of the published checkpoints, so tensors load by name.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syncdiff_data.avhubert.config import TRUNK_DIM

TIME_PAD = 2
"""Frames on each side that one output frame of the 3-D convolution sees."""
CHUNK_FRAMES = 64
"""Frames that pass through the front end at a time: keeps its memory flat in the length of a clip."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, a PReLU per channel, and the residual sum."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.PReLU(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(inner + self.downsample(x))


class Trunk(nn.Module):
    """ResNet-18 without its stem: [N, 64, H, W] -> [N, 512], the mean over the last map."""

    def __init__(self) -> None:
        super().__init__()
        widths = (64, 64, 128, 256, TRUNK_DIM)
        for i, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            stride = 1 if i == 1 else 2
            blocks = nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))
            self.add_module(f"layer{i}", blocks)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x.mean(dim=(2, 3))


class LipResNet(nn.Module):
    """[B, 1, T, 88, 88] -> [B, T, 512]."""

    def __init__(self) -> None:
        super().__init__()
        self.frontend3D = nn.Sequential(
            # forward pads in time, once for the whole clip, so that chunks see their neighbours.
            nn.Conv3d(1, 64, (5, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
            nn.BatchNorm3d(64),
            nn.PReLU(64),
        )
        self.trunk = Trunk()

    def forward(self, video: Tensor) -> Tensor:
        batch, frames = video.shape[0], video.shape[2]
        padded = F.pad(video, (0, 0, 0, 0, TIME_PAD, TIME_PAD))
        step = max(1, CHUNK_FRAMES // batch)
        chunks = [
            self._frames(padded[:, :, t : min(t + step, frames) + 2 * TIME_PAD])
            for t in range(0, frames, step)
        ]
        return torch.cat(chunks, dim=1)

    def _frames(self, padded: Tensor) -> Tensor:
        """[B, 1, t + 4, 88, 88] -> [B, t, 512]."""
        maps = self.frontend3D(padded).transpose(1, 2)
        batch, frames = maps.shape[:2]
        # From here on every frame is an image of its own; this layout makes CPUs pool and convolve faster.
        images = maps.flatten(0, 1).to(memory_format=torch.channels_last)
        pooled = F.max_pool2d(images, 3, stride=2, padding=1)
        return self.trunk(pooled).view(batch, frames, TRUNK_DIM)


class VideoProjection(nn.Module):
    """[B, 1, T, 88, 88] -> [B, T, D]."""

    def __init__(self, width: int):
        super().__init__()
        self.resnet = LipResNet()
        self.proj = nn.Linear(TRUNK_DIM, width)

    def forward(self, video: Tensor) -> Tensor:
        return self.proj(self.resnet(video))
