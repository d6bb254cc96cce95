"""Weight files of third-party networks, read without running any code in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from syncdiff_data.records import UserError


def read_state(path: Path, network: str) -> dict[str, Any]:
    """The tensors of a plain state dict, by name. UserError, which names the network, when it is something else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} is not a file of {network} weights ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(state, dict):
        raise UserError(f"{path} is not a file of {network} weights: it holds a {type(state).__name__}.")
    return state
