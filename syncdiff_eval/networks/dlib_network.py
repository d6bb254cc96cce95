"""dlib's face recognition network (King 2017, dlib_face_recognition_resnet_model_v1), read from its file and run by
PyTorch in a ninth of the time: dlib multiplies matrices itself (docs/results.md, "Share of the limit").

Layers and sizes are those of King's dnn_face_recognition_ex.cpp: a ResNet of 29 convolutions with half the usual
channels, in which a shortcut that has fewer channels, or another size, is filled up with zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from syncdiff_data.records import UserError
from syncdiff_eval.networks.packed import packed

STAGES = ((32, 3, False), (64, 3, True), (128, 2, True), (256, 2, True), (256, 0, True))
"""Channels, plain residual blocks, and whether a block that halves the picture comes before them."""
DIMENSIONS = 128
MEAN_RGB = (122.782, 117.001, 104.298)
_LAYER = re.compile(rb"\x01\x05con_4|\x01\x07affine_|\x01\x04fc_2")
"""The names under which a convolution, the batch norm that became a factor and an offset, and a matrix are stored."""


class DlibFaceNetwork(nn.Module):
    """RGB chips, float32 [B, 3, 150, 150] of 0 to 255, channels last, to float32 [B, 128]; on the CPU."""

    matrix: Tensor
    mean: Tensor

    def __init__(self, path: Path):
        """path: dlib_face_recognition_resnet_model_v1.dat. UserError when it is something else."""
        super().__init__()
        layers = _layers(path)
        try:
            first = [_convolution(layers, 3, 32, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
            blocks: list[nn.Module] = [packed(first, "cpu")]
            channels = 32
            for width, plain, halves in STAGES:
                if halves:
                    blocks.append(_Block(layers, channels, width, 2))
                blocks += [_Block(layers, width, width, 1) for _ in range(plain)]
                channels = width
            self.blocks = nn.Sequential(*blocks)
            matrix = torch.from_numpy(next(layers).reshape(channels, DIMENSIONS).copy())
        except (StopIteration, ValueError, IndexError, OverflowError) as error:
            raise UserError(
                f"{path} does not hold dlib's face network; install the package's pinned release"
            ) from error
        self.register_buffer("matrix", matrix)
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(3, 1, 1))

    def forward(self, chips: Tensor) -> Tensor:
        pooled = self.blocks((chips - self.mean) / 256).mean(dim=(2, 3))
        embedded: Tensor = pooled @ self.matrix
        return embedded


class _Block(nn.Module):
    """Residual block; stride 2 halves the picture and means the shortcut."""

    def __init__(self, layers: Iterator[np.ndarray], channels: int, width: int, stride: int):
        super().__init__()
        self.stride = stride
        convolutions = (
            _convolution(layers, channels, width, 3, stride),
            nn.ReLU(),
            _convolution(layers, width, width, 3, 1),
        )
        self.convolutions = packed(convolutions, "cpu")

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolutions(x)
        if self.stride == 2:
            x = functional.avg_pool2d(x, 2)
            size = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:])]
            x, y = _filled(x, size), _filled(y, size)
        return functional.relu_(x + y)


def _filled(x: Tensor, size: list[int]) -> Tensor:
    """Zeros behind the channels, rows and columns of [B, C, H, W]."""
    missing = [b - a for a, b in zip(x.shape[1:], size)]
    return functional.pad(x, (0, missing[2], 0, missing[1], 0, missing[0])) if any(missing) else x


def _convolution(
    layers: Iterator[np.ndarray], channels: int, width: int, side: int, stride: int
) -> nn.Conv2d:
    """The next convolution and the factor and offset behind it, in one."""
    stored, affine = next(layers), torch.from_numpy(next(layers).reshape(2, width).copy())
    count = width * channels * side**2
    weight = torch.from_numpy(stored[:count].reshape(width, channels, side, side).copy())
    bias = torch.from_numpy(stored[count:].reshape(width).copy())
    layer = nn.Conv2d(channels, width, side, stride, side // 2 if stride == 1 else 0)
    folded = {"weight": weight * affine[0].view(-1, 1, 1, 1), "bias": bias * affine[0] + affine[1]}
    layer.load_state_dict(folded)
    return layer


def _layers(path: Path) -> Iterator[np.ndarray]:
    """The parameters, float32 [N], of each layer that has any, from the input on."""
    data = path.read_bytes()
    for found in _LAYER.finditer(data):
        at = found.end()
        if found[0].endswith(b"fc_2"):
            at = _integer(data, _integer(data, at)[1])[1]  # outputs, inputs
        sizes = []
        for _ in range(5):  # the version, then samples, channels, rows, columns
            size, at = _integer(data, at)
            sizes.append(size)
        yield np.frombuffer(data, "<f4", int(np.prod(sizes[1:])), at)


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """dlib's integer at a place, and the place behind it: the number of its bytes, then those, lowest first."""
    end = at + 1 + (data[at] & 0x0F)
    return int.from_bytes(data[at + 1 : end], "little"), end
