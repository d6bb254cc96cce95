"""SyncNet's embeddings of mouth and sound, in batches and without waste.

Network and weights are those of SyncNet (Chung and Zisserman 2016, "Out of time"; `syncnet_python.SyncNetModel`, file
syncnet_v2.model). Only the way it is run differs: no gradients, batch norms folded into the layers before them, weights
laid out once, and the lip network's 3-d convolutions written as the 2-d ones they are, because it looks at five frames
at once and never again across time. The numbers agree with the original's to 1e-4 (docs/protocols.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import python_speech_features
import torch
from syncnet_python.SyncNetModel import S
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from syncdiff_data.records import SAMPLE_RATE, UserError
from syncdiff_data.weights.state_dict import read_state
from syncdiff_eval.networks.packed import packed
from syncdiff_eval.networks.syncnet_windows import BATCH, EMBEDDING, SIDE, WINDOW, LipStream

MFCC_PER_FRAME = 4
MFCC_WINDOW = WINDOW * MFCC_PER_FRAME
SOUND_BATCH = 128
CPU_BATCH = 4
"""Windows that the lip network's pictures are made of at a time on a CPU: more leave its cache."""


class SyncNet:
    """The two networks, ready to embed. Frames are BGR, 0 to 255, not normalised, as SyncNet was trained."""

    def __init__(self, state: dict[str, Tensor], device: str = "cpu"):
        """state: tensors of syncnet_v2.model. UserError when they are not SyncNet's."""
        network = S()
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(
                f"these weights are not SyncNet's: {str(error).splitlines()[1].strip()}"
            ) from error
        network.eval()
        self.device = device
        pictures = [_as_2d(layer) for layer in _folded(network.netcnnlip)]
        energies = _folded(network.netcnnaud)
        # All but the last convolutions, which take in the whole map and are matrices.
        self._pictures, self._energies = packed(pictures[:-2], device), packed(energies[:-2], device)
        self._lips = _matrices(pictures[-2:] + _folded(network.netfclip)).to(device)
        self._sound = _matrices(energies[-2:] + _folded(network.netfcaud)).to(device)

    @classmethod
    def from_file(cls, path: Path, device: str = "cpu") -> SyncNet:
        """Load syncnet_v2.model (a plain state dict). UserError when it is something else."""
        return cls(read_state(path, "SyncNet"), device)

    def embed_lips(self, frames_bgr: Iterable[np.ndarray], batch: int = BATCH) -> np.ndarray:
        """T frames uint8 [224, 224, 3] to float32 [T - 4, 1024], one embedding for each five consecutive ones."""
        stream = LipStream(self, batch)
        for frame in frames_bgr:
            stream.add(frame)
        return stream.finish()

    @torch.inference_mode()
    def embed_windows(self, frames_bgr: np.ndarray) -> np.ndarray:
        """uint8 [B + 4, 224, 224, 3] to float32 [B, 1024]."""
        values = list(frames_bgr.reshape(len(frames_bgr), -1, 1))
        # Windows [224 * 224 * 3, 5], channels ordered colour first, then time, as the folded kernel is.
        windows = [cv2.merge(values[i : i + WINDOW]) for i in range(len(values) - WINDOW + 1)]
        step = CPU_BATCH if self.device == "cpu" else len(windows)
        seen = [self._see(windows[i : i + step]) for i in range(0, len(windows), step)]
        embedded: np.ndarray = self._lips(torch.cat(seen)).cpu().numpy()
        return embedded

    def _see(self, windows: list[np.ndarray]) -> Tensor:
        """What the lip network makes of B windows before its last convolution: [B, 256, 6, 6]."""
        batch = torch.from_numpy(np.stack(windows)).view(-1, SIDE, SIDE, 3 * WINDOW).permute(0, 3, 1, 2)
        seen: Tensor = self._pictures(batch.to(self.device).float())
        return seen

    @torch.inference_mode()
    def embed_sound(self, samples: np.ndarray, count: int) -> np.ndarray:
        """int16 [N] at 16 kHz to float32 [count, 1024]: the 0.2 s that start with each of the first `count` frames."""
        mfcc = python_speech_features.mfcc(samples, SAMPLE_RATE).T.astype(np.float32)
        windows = torch.from_numpy(mfcc).unfold(1, MFCC_WINDOW, MFCC_PER_FRAME)[:, :count]
        batch = windows.permute(1, 0, 2).unsqueeze(1).contiguous(memory_format=torch.channels_last)
        parts = [
            self._sound(self._energies(part.to(self.device))).cpu().numpy()
            for part in batch.split(SOUND_BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, EMBEDDING), np.float32)


def _folded(layers: nn.Sequential) -> list[nn.Module]:
    """The same function without batch norms."""
    return list(_fold(list(layers)))


def _fold(layers: list[nn.Module]) -> Iterator[nn.Module]:
    for layer, following in zip(layers, [*layers[1:], None]):
        if isinstance(layer, nn.Linear) and isinstance(following, nn.BatchNorm1d):
            yield fuse_linear_bn_eval(layer, following)
        elif isinstance(layer, (nn.Conv2d, nn.Conv3d)) and isinstance(
            following, nn.modules.batchnorm._BatchNorm
        ):
            yield fuse_conv_bn_eval(layer, following)
        elif not isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            yield layer


def _matrices(layers: list[nn.Module]) -> nn.Sequential:
    """The same function of maps that are just as large as the kernel of the convolution among the layers."""
    return nn.Sequential(
        nn.Flatten(), *[_as_matrix(layer) if isinstance(layer, nn.Conv2d) else layer for layer in layers]
    )


def _as_matrix(layer: nn.Conv2d) -> nn.Linear:
    weight = layer.weight.flatten(1)
    matrix = nn.Linear(weight.shape[1], weight.shape[0])
    matrix.load_state_dict({"weight": weight, "bias": layer.bias})
    return matrix


def _as_2d(layer: nn.Module) -> nn.Module:
    """Layers of the lip network on [N, 3 * 5, H, W]: its first kernel spans all five frames, every later one a single
    time."""
    if isinstance(layer, nn.MaxPool3d):
        return nn.MaxPool2d(_last_two(layer.kernel_size), _last_two(layer.stride), _last_two(layer.padding))
    if not isinstance(layer, nn.Conv3d):
        return layer
    weight = layer.weight.flatten(1, 2)
    flat = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        _last_two(layer.kernel_size),
        _last_two(layer.stride),
        layer.padding[-2:],  # type: ignore[arg-type]
    )
    flat.load_state_dict({"weight": weight, "bias": layer.bias})
    return flat


def _last_two(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[-2], value[-1])
