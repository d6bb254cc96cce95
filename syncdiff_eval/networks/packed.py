"""Convolutions whose weights lie in oneDNN's own layout, each with the ReLU behind it in one pass.

PyTorch lays the weights of a convolution out anew in every call, which for small batches takes a good part of its time,
and applies a ReLU in a second pass over memory. These are the operators that torch.compile emits for CPUs; the
numbers are those of the plain layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn


class PackedConvolution(nn.Module):
    """The same as `layer`, and a ReLU if asked for, on the CPU and without gradients.

    The layout suits the size of the first input; another size is computed just as well, if not as fast.
    """

    def __init__(self, layer: nn.Conv2d, relu: bool):
        super().__init__()
        self._geometry = (layer.padding, layer.stride, layer.dilation, layer.groups)
        # Channels last where a kernel of 1 x 1 would leave it open too.
        weight = layer.weight.detach()
        self._weight = torch.empty_like(weight, memory_format=torch.channels_last).copy_(weight)
        self._bias = None if layer.bias is None else layer.bias.detach()
        self._then = "relu" if relu else "none"

    def forward(self, x: Tensor) -> Tensor:
        """float32 [B, C, H, W], channels last."""
        if not self._weight.is_mkldnn:
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, *self._geometry, list(x.shape)
            )
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, *self._geometry, self._then, [], ""
        )
        return y


def packed(layers: Iterable[nn.Module], device: str) -> nn.Sequential:
    """The layers one after the other on a device, for inputs with channels last; packed where that is a CPU with
    oneDNN."""
    plain = nn.Sequential(*layers).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device != "cpu" or not torch.backends.mkldnn.is_available():
        return plain
    return nn.Sequential(*_pack(list(plain)))


def _pack(layers: list[nn.Module]) -> Iterator[nn.Module]:
    for before, layer, after in zip([None, *layers], layers, [*layers[1:], None]):
        if isinstance(layer, nn.Conv2d):
            yield PackedConvolution(layer, isinstance(after, nn.ReLU))
        elif not (isinstance(layer, nn.ReLU) and isinstance(before, nn.Conv2d)):
            yield layer
