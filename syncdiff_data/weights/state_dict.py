"""Weight files of third-party networks, read without running any code in them.

Imports torch, which costs seconds, and so is not part of what `syncdiff_data.weights` gives.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from syncdiff_data.records import UserError


def read_state(path: Path, network: str) -> dict[str, Any]:
    """What torch.save put into the file, tensors on the CPU by name; both of its formats are read.

    Raises UserError, which names the network, where it is something else than a dictionary of tensors and plain values.
    """
    if _is_torchscript(path):
        raise UserError(
            f"{path} is not a file of {network} weights but a TorchScript archive, which holds code as well."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is not a file of {network} weights: it asks for more than tensors and plain values, or is no file "
            "of torch.save at all. Nothing in it was run; get the file again from its publisher."
        ) from error
    except Exception as error:
        raise UserError(
            f"{path} is not a file of {network} weights ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(state, dict):
        raise UserError(f"{path} is not a file of {network} weights: it holds a {type(state).__name__}.")
    return state


def _is_torchscript(path: Path) -> bool:
    """Whether torch.jit.save wrote it: a zip with a constants.pkl, as torch.load itself tells them apart."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (
        OSError,
        ValueError,
        NotImplementedError,
        zipfile.BadZipFile,
    ):  # a damaged one, as torch.load will say
        return False
