"""A stage on Ray: one plan in, one shard out; scheduling, retries and placement are Ray's.

Ray moves paths, not frames: a plan goes in as a line of JSON, the task writes its shard itself, and a few counts come
back. Ray Data restarts a task whose worker died, without limit; the crash quarantine (quarantine.py) makes sure that
every plan finishes nevertheless.
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
from syncdiff_data.progress import ProgressActor, ProgressPrinter
from syncdiff_data.records import UserError
from syncdiff_data.shards.store import Store

ReportProgress = Callable[[int, dict[str, int]], None]
"""report_progress(shard, counts): send the counts of a shard so far to the progress actor."""
Stage = Callable[[str, ReportProgress], dict[str, Any]]
"""stage(plan, report_progress) -> counts: make one shard of one plan. Runs in a worker, with one thread."""

OBJECT_STORE_BYTES = 150 << 20
RAY_ENVIRONMENT = {
    # CPU tasks see no GPU: the default of Ray releases to come.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Lost workers are expected here; Ray's paragraph about each would hide the progress.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed while executing|infinite retries remaining",
}
"""Ray reads these when it is imported; variables that the user has set keep their values."""


@contextmanager
def ray_session(options: RayOptions) -> Iterator[None]:
    """A connection to Ray for the body of a `with`: the address asked for, $RAY_ADDRESS, or a new local Ray.

    Raises UserError when an address was given and no Ray answers there.
    """
    for name, value in RAY_ENVIRONMENT.items():
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
    """Limit this process to `count` threads: parallelism is Ray's, and one order of summation gives equal bytes."""
    import cv2

    cv2.setNumThreads(count)
    os.environ["OMP_NUM_THREADS"] = str(
        count
    )  # For a later import of torch: importing it here costs seconds.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def run_plans(
    stage: Stage,
    plans: Sequence[str],
    options: RayOptions,
    title: str,
    total: int,
    unit: str,
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Run `stage` on every plan and return what each returned, in the order they finished.

    Needs an open `ray_session`. Prints progress towards `total` of `unit`; a task gets `threads` CPUs. A UserError
    of `stage` ends the run and is raised here; any other exception is a bug and is raised as Ray's RayTaskError with
    the worker's stack. Finished shards are kept.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    cpus = int(ray.cluster_resources().get("CPU", 1))
    workers = min(options.workers or max(1, cpus // threads), len(plans))
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # The progress actor is pinned to the driver's node, so that the loss of another node does not end it.
    driver_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    progress: Any = ray.remote(ProgressActor).options(num_cpus=0, scheduling_strategy=driver_node).remote()
    # One plan a row, one row a block: Ray Data makes one task of each.
    dataset = ray.data.from_items([{"plan": plan} for plan in plans], override_num_blocks=len(plans))
    mapped = _map_plans(dataset, (stage, progress, threads), workers, options.gpus_per_task)
    with ProgressPrinter(title, total, unit, lambda: ray.get(progress.total.remote())):
        return [_counts_of(row) for row in mapped.iter_rows()]


def _counts_of(row: dict[str, str]) -> dict[str, Any]:
    if row["user_error"]:
        raise UserError(row["user_error"])
    return json.loads(row["counts"])


def _map_plans(dataset: Any, arguments: tuple[Stage, Any, int], workers: int, gpus_per_task: float) -> Any:
    """Tasks on CPUs, which any node can restart; actors on GPUs, which keep a loaded model between shards."""
    cpus = arguments[-1]
    if gpus_per_task:
        return dataset.map(
            _StageActor,
            fn_constructor_args=arguments,
            num_cpus=cpus,
            num_gpus=gpus_per_task,
            concurrency=(1, workers),
        )
    return dataset.map(_run_plan, fn_args=arguments, num_cpus=cpus, concurrency=workers)


def _run_plan(row: dict[str, str], stage: Stage, progress: Any, threads: int) -> dict[str, str]:
    """Runs in a worker. A UserError is returned as text: Ray Data would wrap the exception in its own."""
    limit_threads(threads)
    try:
        counts = stage(row["plan"], lambda shard, counts: progress.report.remote(shard, counts))
    except UserError as error:
        return {"user_error": str(error), "counts": ""}
    return {"user_error": "", "counts": json.dumps(counts)}


class _StageActor:
    """`_run_plan` as an actor."""

    def __init__(self, *arguments: Any):
        self.arguments = arguments

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        return _run_plan(row, *self.arguments)


def probe_nodes(root: str | None, out: str) -> None:
    """Check, before the work starts, that every node can read the root and write the output.

    Needs an open `ray_session`. Raises UserError that names the node and what it could not do.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    task = ray.remote(num_cpus=0)(_probe)
    checks = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            root, out, node["NodeID"]
        )
        for node in nodes
    ]
    for node, problem in zip(nodes, ray.get(checks)):
        if problem:
            raise UserError(f"node {node['NodeManagerHostname']} {problem}")


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
