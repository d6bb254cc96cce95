"""The same loop on several workers: Ray Train starts them, restarts lost ones, and joins them by torch.distributed.

gloo between CPUs, nccl between GPUs. Every worker computes a share of the batch; gradients are averaged.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from syncdiff_data.cli import RayOptions
from syncdiff_data.records import UserError
from syncdiff_data.stage import ray_session
from syncdiff_data.stage.faults import first_line
from syncdiff_data.stage.resources import wait_for_room

MAX_LOST_WORKERS = 3
"""So often training starts again from the last checkpoint after a worker was lost."""
RUN_FOLDER = "ray_train"
"""Below the run: what Ray Train keeps."""


@dataclass(frozen=True)
class Peers:
    """This process among those that train together; alone by default."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def from_first(self, value: float) -> float:
        """The first process's value, so that all decide alike by one clock."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=_device())
        torch.distributed.broadcast(shared, src=0)
        return float(shared)

    def all_true(self, value: bool) -> bool:
        if self.count == 1:
            return value
        shared = torch.tensor([float(value)], device=_device())
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MIN)
        return bool(shared)

    def wrap(self, task: torch.nn.Module) -> torch.nn.Module:
        """The task whose gradients are averaged over all processes."""
        if self.count == 1:
            return task
        # A phase leaves the parameters of the others without gradients; the audio network's map learns with the rest.
        return torch.nn.parallel.DistributedDataParallel(task, find_unused_parameters=True)

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            torch.distributed.barrier()


def _device() -> str:
    return "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"


def run_on_workers(train: Callable[[Peers, str], None], run: Path, workers: int, ray: RayOptions) -> None:
    """train(peers, device) in `workers` processes of Ray Train.

    A lost worker starts all of them again, and `train` goes on from the newest checkpoint. UserError when training
    ends with one, when workers are lost too often, or when Ray has no room for all of them, where Ray Train would wait
    for ever.
    """
    with ray_session(ray, log_to_driver=True):
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        logging.getLogger("ray.train").setLevel(logging.WARNING)
        on_gpu = ray.device.startswith("cuda")
        wait_for_room(workers, "GPU" if on_gpu else "CPU")
        trainer: Any = TorchTrainer(
            _train_worker,
            train_loop_config={"train": train, "device": "cuda" if on_gpu else "cpu"},
            torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpu),
            run_config=RunConfig(
                name=RUN_FOLDER,
                storage_path=str(run.resolve()),
                failure_config=FailureConfig(max_failures=MAX_LOST_WORKERS),
            ),
        )
        try:
            sentence = trainer.fit().return_value
        except Exception as error:
            raise UserError(
                f"Training in {run} lost its workers {MAX_LOST_WORKERS + 1} times ({first_line(error)}): look at the "
                "log above, and go on with --resume."
            ) from error
    if sentence:
        raise UserError(sentence)


def _train_worker(config: dict[str, Any]) -> Any:
    """In a worker; the sentence of a UserError, which no restart mends."""
    from ray.train import get_context

    context = get_context()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // context.get_local_world_size()))
    try:
        config["train"](Peers(context.get_world_rank(), context.get_world_size()), config["device"])
    except UserError as error:
        return str(error)
    return None
