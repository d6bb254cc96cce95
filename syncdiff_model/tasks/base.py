"""What the training loop asks of a task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from syncdiff_data.loader import Batch

Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""The loss of a batch, and scalars to log."""
ParameterGroup = tuple[list[nn.Parameter], float]
"""Parameters, and their learning rate relative to the run's."""
NEGATIVE_LOSS = "validation/negative_loss"


class Task(nn.Module):
    """Networks, their loss and the parts of their checkpoint.

    `forward` is the loss, so that DistributedDataParallel can wrap a task. A step runs every phase in turn, each with
    an optimiser of its own over `phase_parameters`.
    """

    phases: tuple[str, ...] = ("all",)
    best_of: str | None = None
    """The validation scalar of which the largest is best; None where there is no validation."""

    def __init__(self, trained: dict[str, nn.Module], frozen: dict[str, nn.Module] | None = None):
        super().__init__()
        self.trained = nn.ModuleDict(trained)
        """The networks that the optimisers change."""
        self.frozen = nn.ModuleDict(frozen or {}).eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return next(self.trained.parameters()).device

    def forward(self, batch: Batch, phase: str = "all", step: int = 0) -> Loss:
        """The loss of a batch. All randomness comes from torch's global generator."""
        raise NotImplementedError

    def phase_parameters(self, phase: str) -> list[nn.Parameter]:
        """What the optimiser of that phase changes."""
        return [parameter for parameter in self.trained.parameters() if parameter.requires_grad]

    def parameter_groups(self, phase: str) -> list[ParameterGroup]:
        """The same parameters by learning rate."""
        return [(self.phase_parameters(phase), 1.0)]

    def validate(self) -> dict[str, float]:
        """Scalars on fixed held-out data; called with EMA weights in the networks."""
        return {}

    def pictures(self) -> dict[str, torch.Tensor]:
        """Pictures of fixed held-out data for TensorBoard: uint8 [3, H, W] by name; EMA weights as in `validate`."""
        return {}

    def save(self, folder: Path) -> None:
        """Write the parts of a checkpoint."""
        raise NotImplementedError


@torch.no_grad()
def negative_loss(task: Task, batches: Sequence[Batch]) -> dict[str, float]:
    """What `Task.validate` returns of batches: their mean loss under the same noise every time, negative since the
    largest is best. Empty without batches."""
    if not batches:
        return {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        losses = [float(task(to_device(batch, task.device), task.phases[0])[0]) for batch in batches]
    return {NEGATIVE_LOSS: -sum(losses) / len(losses)}


def grid(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Rows of pictures, uint8 [N, 3, S, S] each, as one: [3, rows * S, N * S]."""
    return torch.cat([torch.cat(list(row.cpu()), dim=-1) for row in rows], dim=-2)


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """The batch with its tensors there."""
    return {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
