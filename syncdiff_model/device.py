"""Whether this process has the device that was asked for."""

from __future__ import annotations

import torch

from syncdiff_data.records import UserError
from syncdiff_data.stage.faults import first_line


def check_device(device: str) -> None:
    """UserError where it has none."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # of a build without CUDA, of a machine without a driver
        said = first_line(error).partition(". ")[0]
        raise UserError(f"--device {device} cannot be used here ({said}): give --device cpu.") from error
