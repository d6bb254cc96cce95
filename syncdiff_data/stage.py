"""A stage on Ray: plans in, one shard each; Ray schedules, retries and spreads.

Rows are plans and Ray moves paths, not frames: a plan goes in as a line of JSON, the shard is written by the task
itself, and a handful of counts comes back. Ray Data runs a task that died with its worker again, without limit; the
poison-source rule (suspects.py) sees to it that every plan finishes all the same.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from syncdiff_data.cli import RayOptions
from syncdiff_data.progress import ProgressPrinter, Tally
from syncdiff_data.records import UserError
from syncdiff_data.shards.store import Store

Report = Callable[[int, dict[str, int]], None]
"""report(shard, counts): tell the driver how far a shard is."""
Work = Callable[[str, Report], dict[str, Any]]
"""work(plan, report) -> counts: make one shard of one plan. Runs in a worker, with one thread."""

OBJECT_STORE_BYTES = 150 << 20
ENVIRONMENT = {
    # CPU tasks see no GPU: the default of Ray releases to come.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A lost worker is routine here, and Ray's paragraph about each would bury the progress.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed while executing|infinite retries remaining",
}
"""Ray reads these when it is imported; what the user has set stays."""


@contextmanager
def ray_session(options: RayOptions) -> Iterator[None]:
    """A connection to Ray for the body of a `with`: the address asked for, $RAY_ADDRESS, or a local Ray of its own.

    Raises UserError when an address was given and no Ray answers there.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():  # a caller's session, which stays open
        yield
        return
    address = options.ray_address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"no Ray answers at {address} ({error}). Start one with `ray start --head`."
            ) from error
    else:
        ray.init(
            address="local",
            num_cpus=options.workers or os.cpu_count(),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
    try:
        yield
    finally:
        ray.shutdown()


def limit_threads(count: int) -> None:
    """Hold this process to so many threads: parallelism is Ray's, and sums in one order are the same everywhere."""
    import cv2

    cv2.setNumThreads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)  # For a torch still to come: importing it here costs seconds.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def run_plans(
    work: Work, plans: Sequence[str], options: RayOptions, title: str, total: int, unit: str, threads: int = 1
) -> list[dict[str, Any]]:
    """Run `work` on every plan and return what each returned, in the order they finished.

    Needs an open `ray_session`. Shows progress towards `total` of `unit`; a task gets `threads` CPUs. A UserError
    of `work` ends the run and comes out here; any other exception is a bug and comes out as Ray's RayTaskError with
    the worker's stack. The shards that are finished stay.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    cpus = int(ray.cluster_resources().get("CPU", 1))
    workers = min(options.workers or max(1, cpus // threads), len(plans))
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # The tally lives and dies with the driver's node, so that no other node's loss takes it away.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    tally: Any = ray.remote(Tally).options(num_cpus=0, scheduling_strategy=here).remote()
    dataset = ray.data.from_items([{"plan": plan} for plan in plans], override_num_blocks=len(plans))
    mapped = _mapped(dataset, (work, tally, threads), workers, options.gpus_per_task)
    with ProgressPrinter(title, total, unit, lambda: ray.get(tally.total.remote())):
        return [_result(row) for row in mapped.iter_rows()]


def _result(row: dict[str, str]) -> dict[str, Any]:
    if row["trouble"]:
        raise UserError(row["trouble"])
    return json.loads(row["counts"])


def _mapped(dataset: Any, arguments: tuple[Work, Any, int], workers: int, gpus_per_task: float) -> Any:
    """Tasks on CPUs, which any node can take over; actors on GPUs, where a loaded model stays between shards."""
    cpus = arguments[-1]
    if gpus_per_task:
        return dataset.map(
            _Worker,
            fn_constructor_args=arguments,
            num_cpus=cpus,
            num_gpus=gpus_per_task,
            concurrency=(1, workers),
        )
    return dataset.map(_run_one, fn_args=arguments, num_cpus=cpus, concurrency=workers)


def _run_one(row: dict[str, str], work: Work, tally: Any, threads: int) -> dict[str, str]:
    """Runs in a worker. A UserError travels as text: Ray Data would wrap it beyond recognition."""
    limit_threads(threads)
    try:
        counts = work(row["plan"], lambda shard, counts: tally.report.remote(shard, counts))
    except UserError as error:
        return {"trouble": str(error), "counts": ""}
    return {"trouble": "", "counts": json.dumps(counts)}


class _Worker:
    """`_run_one` as an actor."""

    def __init__(self, *arguments: Any):
        self.arguments = arguments

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        return _run_one(row, *self.arguments)


def probe_nodes(root: str | None, out: str) -> None:
    """Prove, before hours are spent, that every node reads the root and writes the output.

    Needs an open `ray_session`. Raises UserError naming the node and what it could not do.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    task = ray.remote(num_cpus=0)(_probe)
    answers = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            root, out, node["NodeID"]
        )
        for node in nodes
    ]
    for node, trouble in zip(nodes, ray.get(answers)):
        if trouble:
            raise UserError(f"node {node['NodeManagerHostname']} {trouble}")


def _probe(root: str | None, out: str, node: str) -> str | None:
    if root is not None and not os.access(root, os.R_OK):
        return f"cannot read the root {root}: mount it there under the same path."
    store, name = Store(out), f"probe-{node}.tmp"
    try:
        store.write_text(name, "")
        store.delete(name)
    except (UserError, OSError) as error:
        return f"cannot write to {out}: {error}"
    return None
