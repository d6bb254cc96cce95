"""Inside a worker process: the shared stage, fetched and set up once, and the plans of one block."""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from syncdiff_data.records import UserError
from syncdiff_data.stage import context as context_module
from syncdiff_data.stage.actor import RunClient
from syncdiff_data.stage.base import Stage
from syncdiff_data.stage.context import Context, FaultStreak
from syncdiff_data.stage.faults import failure_of, is_transient, run_fault
from syncdiff_data.stage.link import Link
from syncdiff_data.stage.outcome import Failure

MAX_LOST_SETUPS = 10
"""Setups over all workers that began and did not end, beyond one per worker, before the run is ended."""


@dataclass(frozen=True)
class SharedStage:
    """What every task of a run gets: references only; the stage itself lies in the object store."""

    stage: tuple[Any, ...]
    """(ObjectRef of the pickled stage,): inside a tuple, so that Ray passes the reference and not the object."""
    run: RunClient
    workers: int
    gpus: float


@dataclass(frozen=True)
class Outcome:
    """What one block sends back: results in the order of its plans, or the sentence that ends the run."""

    results: tuple[Any, ...] = ()
    run_fault: str | None = None
    plan_faults: tuple[str, ...] = ()
    """Stacks of plans that failed outside of any item: a fault of our own code, which has no result."""


@dataclass
class _Ready:
    key: str
    stage: Stage[Any, Any]
    link: Link
    streak: FaultStreak


_ready: list[_Ready] = []  # At most one: the stage that this process has set up.


def limit_threads(count: int) -> None:
    """Limit this process to `count` threads: parallelism is Ray's, and one order of summation gives equal bytes."""
    import cv2

    cv2.setNumThreads(count)
    # For a later import of torch: importing it here costs seconds.
    os.environ["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def run_block(first: int, plans: Sequence[Any], shared: SharedStage) -> Outcome:
    """The results of neighbouring plans, of which the first has the number `first`."""
    try:
        ready = _get_ready(shared)
        ready.link.begin_block(first)
        results, faults = [], []
        for number, plan in enumerate(plans, start=first):
            context = Context(ready.link, number, ready.stage.heartbeat_timeout, ready.streak)
            try:
                results.append(run_plan(ready.stage, plan, context))
            except Exception as error:
                fault = run_fault(error)
                if fault is not None:
                    raise fault from error
                faults.append(f"plan {number}: {failure_of(error).detail}")
        ready.link.flush()
        return Outcome(tuple(results), plan_faults=tuple(faults))
    except UserError as error:
        return Outcome(run_fault=str(error))


def run_plan(stage: Stage[Any, Any], plan: Any, context: Context) -> Any:
    """The result of one plan: as one item where the stage names it."""
    name = stage.item_name(plan)
    if name is None:
        return _process_shard(stage, plan, context)
    outcome = context.attempt(name, lambda: stage.process(plan, context))
    return stage.failed(plan, outcome) if isinstance(outcome, Failure) else outcome


def _process_shard(stage: Stage[Any, Any], plan: Any, context: Context) -> Any:
    """A plan of several items. What the disk does outside of them, for example to the output, is retried too."""
    for pause in context_module.RETRY_AFTER_S:
        try:
            return stage.process(plan, context)
        except Exception as error:
            if not is_transient(error):
                raise
        time.sleep(pause)
    return stage.process(plan, context)


def _get_ready(shared: SharedStage) -> _Ready:
    """The stage, fetched and set up when this process sees it for the first time. UserError when it cannot be."""
    import ray

    key = shared.stage[0].hex()
    if not _ready or _ready[0].key != key:
        _ready.clear()
        stage = _unpickle(ray.get(shared.stage[0]))
        if not shared.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # A task that asked for no GPU uses none.
        limit_threads(stage.resources.cpus)
        if shared.run.ask(1, "begin_setup") > shared.workers + MAX_LOST_SETUPS:
            raise UserError(
                f"{stage.title}: worker processes end while they load their models, {MAX_LOST_SETUPS} times in a row. "
                "Is there memory enough for --workers of them? Fewer workers need less."
            )
        _setup(stage)
        shared.run.send("end_setup")
        node = ray.get_runtime_context().get_node_id()
        _ready.append(_Ready(key, stage, Link(shared.run, node), FaultStreak()))
    return _ready[0]


def _unpickle(pickled: bytes) -> Stage[Any, Any]:
    try:
        return pickle.loads(pickled)
    except Exception as error:
        raise UserError(
            f"a worker could not load the work to do ({type(error).__name__}: {error}): does every node have the same "
            "code and packages?"
        ) from error


def _setup(stage: Stage[Any, Any]) -> None:
    try:
        stage.setup()
    except Exception as error:
        traceback.print_exc()
        raise run_fault(error) or UserError(
            f"{stage.title}: a worker could not load what it needs: {type(error).__name__}: {error}"
        ) from error
