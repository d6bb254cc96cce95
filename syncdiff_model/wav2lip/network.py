"""Wav2Lip's generator (arXiv 2008.10010; models/wav2lip.py of github.com/Rudrabha/Wav2Lip): a U-Net over a face, 36.3 M
parameters, that starts to decode from the sound.

Tensors bear the published names, so that published weights load as they are. Shapes: B frames (or clips), T frames of a
clip.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CROP_SIZE = 96
FACE_WIDTHS = (16, 32, 64, 128, 256, 512, 512)
"""Channels of the face encoder's blocks; the maps have sides 96, 48, 24, 12, 6, 3 and 1."""
DECODER_WIDTHS = (512, 512, 512, 384, 256, 128, 64)
"""Channels of the decoder's blocks; sides 1, 3, 6, 12, 24, 48 and 96."""


class ConvBlock(nn.Module):
    """Convolution, batch norm, the input added where `residual`, ReLU."""

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d, residual: bool = False):
        super().__init__()
        self.conv_block = nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_block(x)
        return torch.relu(y + x if self.residual else y)


class Wav2Lip(nn.Module):
    """The lower half of a face from the upper one, a reference frame and 0.2 s of sound."""

    def __init__(self) -> None:
        super().__init__()
        self.face_encoder_blocks = _face_encoder()
        self.audio_encoder = _audio_encoder()
        self.face_decoder_blocks = _face_decoder()
        self.output_block = nn.Sequential(
            _conv(DECODER_WIDTHS[-1] + FACE_WIDTHS[0], 32), nn.Conv2d(32, 3, 1), nn.Sigmoid()
        )

    def forward(self, mel: Tensor, face: Tensor) -> Tensor:
        """The whole face, BGR, 0 to 1: float [B, 3, 96, 96], or of clips [B, 3, T, 96, 96].

        mel: [B, 1, 80, 16], of clips [B, T, 1, 80, 16], in [-4, 4]. face: [B, 6, 96, 96], of clips [B, 6, T, 96, 96]:
        BGR of the target frame with rows from 48 on set to 0, then BGR of the reference frame, 0 to 1.
        """
        if face.dim() == 4:
            return self._frames(mel, face)
        frames = self._frames(mel.flatten(0, 1), face.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, mel.shape[:2]).transpose(1, 2)

    def _frames(self, mel: Tensor, face: Tensor) -> Tensor:
        # face [B, 6, 96, 96] -> maps of sides 96 ... 1, the last one first
        maps: list[Tensor] = []
        for block in self.face_encoder_blocks:
            maps.insert(0, block(maps[0] if maps else face))
        # sound [B, 512, 1, 1] -> sides 1 ... 96, each with the face's map of that side behind it
        x = self.audio_encoder(mel)
        for block, face_map in zip(self.face_decoder_blocks, maps):
            x = torch.cat([block(x), face_map], dim=1)
        picture: Tensor = self.output_block(x)
        return picture


def _face_encoder() -> nn.ModuleList:
    blocks = [nn.Sequential(_conv(6, FACE_WIDTHS[0], kernel=7, padding=3))]
    for inputs, width, count in zip(FACE_WIDTHS, FACE_WIDTHS[1:-1], (2, 3, 2, 2, 1)):
        blocks.append(nn.Sequential(_conv(inputs, width, stride=2), *_residuals(width, count)))
    blocks.append(_to_vector(FACE_WIDTHS[-2]))
    return nn.ModuleList(blocks)


def _audio_encoder() -> nn.Sequential:
    """[B, 1, 80, 16] to [B, 512, 1, 1]; maps of 80 x 16, 27 x 16, 9 x 6, 3 x 3 and 1 x 1."""
    return nn.Sequential(
        _conv(1, 32), *_residuals(32, 2),
        _conv(32, 64, stride=(3, 1)), *_residuals(64, 2),
        _conv(64, 128, stride=3), *_residuals(128, 2),
        _conv(128, 256, stride=(3, 2)), *_residuals(256, 1),
        *_to_vector(256),
    )  # fmt: skip


def _face_decoder() -> nn.ModuleList:
    blocks = [nn.Sequential(_conv(512, DECODER_WIDTHS[0], kernel=1, padding=0))]
    residuals = (1, 2, 2, 2, 2, 2)
    # Each block's input is the block before and the face encoder's map of that side.
    for before, face, width, count in zip(
        DECODER_WIDTHS, reversed(FACE_WIDTHS), DECODER_WIDTHS[1:], residuals
    ):
        # The first step takes the side from 1 to 3, every later one doubles it.
        grow = _transposed(before + face, width, stride=1 if len(blocks) == 1 else 2)
        blocks.append(nn.Sequential(grow, *_residuals(width, count)))
    return nn.ModuleList(blocks)


def _conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int | tuple[int, int] = 1, padding: int = 1
) -> ConvBlock:
    return ConvBlock(nn.Conv2d(inputs, outputs, kernel, stride, padding))


def _residuals(width: int, count: int) -> list[ConvBlock]:
    return [ConvBlock(nn.Conv2d(width, width, 3, padding=1), residual=True) for _ in range(count)]


def _transposed(inputs: int, outputs: int, stride: int) -> ConvBlock:
    """Side s to s + 2 with stride 1, to 2 s with stride 2."""
    edge = stride - 1
    return ConvBlock(nn.ConvTranspose2d(inputs, outputs, 3, stride, padding=edge, output_padding=edge))


def _to_vector(inputs: int) -> nn.Sequential:
    """Maps of 3 x 3 to 512 channels of 1 x 1."""
    return nn.Sequential(_conv(inputs, 512, padding=0), _conv(512, 512, kernel=1, padding=0))
