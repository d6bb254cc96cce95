"""Plans to results on Ray Data: blocks of plans go out, Ray schedules, spreads and retries them."""

from __future__ import annotations

import logging
import math
import pickle
import sys
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar

from syncdiff_data.cli import RayOptions
from syncdiff_data.progress import ProgressPrinter
from syncdiff_data.records import UserError
from syncdiff_data.stage.actor import RunClient
from syncdiff_data.stage.base import Stage
from syncdiff_data.stage.faults import first_line
from syncdiff_data.stage.resources import check_resources
from syncdiff_data.stage.worker import Outcome, SharedStage, run_block

Plan = TypeVar("Plan")
Result = TypeVar("Result")

BLOCKS_PER_WORKER = 16
"""At least so many blocks for each worker, where there are plans enough, so that all finish at about one time."""


def run_stage(
    stage: Stage[Plan, Result], plans: Sequence[Plan], options: RayOptions, total: int | None = None
) -> list[Result]:
    """The result of every plan, in their order. Needs an open `ray_session`.

    Prints progress towards `total` of the stage's unit (default: one for each plan). UserError when the cluster lacks
    what a task asks for, when a fault of the run ended it, or, after all others are finished, when plans failed
    outside of any item.
    """
    if not plans:
        return []
    cpus, gpus = stage.resources.cpus, options.gpu_share
    slots = check_resources(stage.title, cpus, gpus)
    workers = min(options.workers or slots, len(plans))
    run = RunClient.start()
    shared = _share(stage, run, workers, gpus)
    blocks = _blocks(plans, workers, stage.plans_per_block, stage.plans_together)
    try:
        progress = ProgressPrinter(stage.title, len(plans) if total is None else total, stage.unit, run.total)
        # Closed where a fault ends it, else Ray Data goes on with the other blocks, also when Ray is shut down.
        with progress, closing(_outcomes(blocks, shared, cpus, gpus, workers)) as outcomes:
            return _collect(outcomes)
    finally:
        run.stop()


def _share(stage: Stage[Any, Any], run: RunClient, workers: int, gpus: float) -> SharedStage:
    import ray
    from ray import cloudpickle  # classes of a script that is run as __main__ travel whole

    return SharedStage((ray.put(cloudpickle.dumps(stage)),), run, workers, gpus)


def _blocks(plans: Sequence[Any], workers: int, most: int, together: int = 1) -> list[dict[str, Any]]:
    """Neighbouring plans, pickled, with the number of the first.

    All of them lie in the object store when the run starts; deflated paths take a tenth, so that the plans of a million
    clips need no disk.
    """
    size = max(1, min(most, math.ceil(len(plans) / (workers * BLOCKS_PER_WORKER))))
    if len(plans) >= workers * together:
        size = math.ceil(size / together) * together
    from ray import cloudpickle

    return [
        {"first": i, "plans": zlib.compress(cloudpickle.dumps(list(plans[i : i + size])))}
        for i in range(0, len(plans), size)
    ]


def _plans_of(row: Mapping[str, Any]) -> list[Any]:
    """The plans of one block."""
    return list(pickle.loads(zlib.decompress(row["plans"])))


def _outcomes(
    blocks: list[dict[str, Any]], shared: SharedStage, cpus: int, gpus: float, workers: int
) -> Generator[tuple[int, Outcome], None, None]:
    """(number of the first plan, outcome) of every block, in the order they finish."""
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it logs as an error it also raises
    # One row a block: Ray Data makes one task of each.
    dataset: Any = ray.data.from_items(blocks, override_num_blocks=len(blocks))
    if gpus:
        # Actors keep a model on the GPU between blocks.
        mapped = dataset.map(
            _BlockActor,
            fn_constructor_args=(shared,),
            num_cpus=cpus,
            num_gpus=gpus,
            concurrency=(1, workers),
        )
    else:
        # Tasks, which any node can restart.
        mapped = dataset.map(_run_row, fn_args=(shared,), num_cpus=cpus, concurrency=workers)
    try:
        for row in mapped.iter_rows():
            yield row["first"], pickle.loads(row["outcome"])
    except ray.exceptions.OutOfMemoryError as error:
        raise UserError(
            f"Ray ended the workers of a node whose memory is full ({first_line(error)}). Use fewer "
            "--workers or a node with more memory, or end what else runs there; what is finished stays, and the same "
            "command goes on."
        ) from error


def _run_row(row: dict[str, Any], shared: SharedStage) -> dict[str, Any]:
    """Runs in a worker."""
    from ray import cloudpickle

    outcome = run_block(row["first"], _plans_of(row), shared)
    return {"first": row["first"], "outcome": cloudpickle.dumps(outcome)}


class _BlockActor:
    """`_run_row` as an actor."""

    def __init__(self, shared: SharedStage):
        self.shared = shared

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return _run_row(row, self.shared)


def _collect(outcomes: Iterator[tuple[int, Outcome]]) -> list[Any]:
    """All results in the order of the plans. UserError at the first fault of the run, at the end for failed plans."""
    found: dict[int, tuple[Any, ...]] = {}
    faults: list[str] = []
    for first, outcome in outcomes:
        if outcome.run_fault is not None:
            raise UserError(outcome.run_fault)
        found[first] = outcome.results
        faults += outcome.plan_faults
    if faults:
        print("\n".join(faults), file=sys.stderr)
        raise UserError(
            f"{len(faults)} plans failed with an unexpected error (stacks above; the first: "
            f"{faults[0].splitlines()[0]}). Everything else is finished and kept."
        )
    return [result for first in sorted(found) for result in found[first]]
