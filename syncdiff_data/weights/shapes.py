"""Networks of a config that somebody else wrote, built as shapes alone and no larger than the weights beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

FLOATS = ("F16", "BF16", "F32", "F64")
"""Types of weights, as safetensors names them."""


def stored_shapes(files: Iterable[Path]) -> list[tuple[int, ...]]:
    """Shapes of the tensors in safetensors files, of which only the headers are read; safetensors checks that their
    data are there. ValueError where one is of another type than FLOATS, OSError and SafetensorError for a damaged file.
    """
    shapes = []
    for path in files:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                tensor = file.get_slice(name)
                if tensor.get_dtype() not in FLOATS:
                    raise ValueError(
                        f"{path.name} holds {name} as {tensor.get_dtype()}: expected one of {', '.join(FLOATS)}"
                    )
                shapes.append(tuple(tensor.get_shape()))
    return shapes


@contextmanager
def shapes_within(stored: Sequence[Sequence[int]]) -> Iterator[None]:
    """Networks that are built inside the `with` are on the device `meta`: they take no memory.

    ValueError as soon as their parameters are more, or hold more values, than those of the shapes `stored`, so that a
    config's numbers of layers and widths cost no more than its weights.
    """
    count, values = 0, 0
    most = sum(max(1, math.prod(shape)) for shape in stored)

    def add(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count, values
        if parameter is not None and parameter.is_meta:
            count, values = count + 1, values + max(1, parameter.numel())
        if count > len(stored) or values > most:
            raise ValueError(
                f"its config describes a larger network than its weights, {len(stored)} tensors of {most} values"
            )

    hook = register_module_parameter_registration_hook(add)
    try:
        with torch.device("meta"):
            yield
    finally:
        hook.remove()


def check_finite(network: nn.Module) -> None:
    """ValueError where a weight is nan or infinite, by which all that the network makes would be."""
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"its weights {name} are not finite")
