"""Packed convolutions say what plain ones say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from syncdiff_eval.networks.packed import packed


@pytest.mark.parametrize("kernel", [1, 3, (1, 5)])
def test_packed_layers_are_the_plain_ones_at_any_size(kernel: int | tuple[int, int]) -> None:
    """Also after another size came first, which decided the layout, and where no ReLU follows."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(16, 32, kernel, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 24, kernel, bias=False),
    ]
    plain, fast = nn.Sequential(*layers), packed(layers, "cpu")
    for shape in ((4, 16, 20, 20), (1, 16, 33, 17)):
        x = torch.randn(shape).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            torch.testing.assert_close(fast(x), plain(x), rtol=1e-5, atol=1e-5)
            assert (fast(x) < 0).any()


def test_one_cpu_operator_stands_for_a_convolution_and_its_relu() -> None:
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2)]
    assert len(packed(layers, "cpu")) == (2 if torch.backends.mkldnn.is_available() else 3)
    assert len(packed(layers, "meta")) == 3
