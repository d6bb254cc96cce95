"""The parts of benchmarks/scale.py that go through Ray: stages whose work is stubbed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
from scale_lists import SHARD_SIZE, benchmark_of, drawn_record, short_clip, sources_of
from scale_meter import MIB, Meter

from syncdiff_data.cli import RayOptions
from syncdiff_data.clips import ClipConfig
from syncdiff_data.plans import Plan, make_plans
from syncdiff_data.preprocess import PreprocessStage
from syncdiff_data.reasons import Reason
from syncdiff_data.records import Clip, Source
from syncdiff_data.stage import Context, Failure, Stage, ray_session, run_stage
from syncdiff_eval import benchmark as driver
from syncdiff_eval import runner
from syncdiff_eval.records import ClipRecord, failed_record


@dataclass(frozen=True)
class StubbedShards(Stage[Plan, "dict[str, int]"]):
    """Answers a plan with counts, as preprocessing does."""

    title = "stub"
    unit = "sources"
    plans_per_block = 1

    def process(self, plan: Plan, context: Context) -> dict[str, int]:
        counts = {"sources": len(plan.sources), "clips": len(plan.sources), "frames": 75 * len(plan.sources)}
        context.report(counts)
        return counts


def ray_tasks(size: int, folder: Path, meter: Meter, workers: int = 2) -> None:
    """Plans of preprocessing through the engine: one task each."""
    made = make_plans(sources_of(size), SHARD_SIZE)
    options = RayOptions(workers=workers)
    with ray_session(options), watched_store() as store:
        start_workers(options)
        meter.settle()
        with meter.step(f"{SHARD_SIZE} clips a plan, {workers} workers") as notes:
            run_stage(StubbedShards(), made, options, size)
        notes |= store


def start_workers(options: RayOptions) -> None:
    """A few plans, so that Ray's processes and imports are there when time and memory are taken."""
    run_stage(StubbedShards(), make_plans(sources_of(64 * SHARD_SIZE), SHARD_SIZE), options, 64 * SHARD_SIZE)


@contextmanager
def watched_store(every_s: float = 0.2) -> Iterator[dict[str, float]]:
    """Fills in the most that Ray's object store held while the body ran."""
    import ray
    from ray._private.internal_api import node_stats

    node = next(node for node in ray.nodes() if node["Alive"])
    found = {"MiB in the object store": 0.0, "MiB spilled": 0.0}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every_s):
            stats = node_stats(
                node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False
            ).store_stats
            held = {
                "MiB in the object store": stats.object_store_bytes_used / MIB,
                "MiB spilled": stats.spilled_bytes_total / MIB,
            }
            found.update({name: max(found[name], value) for name, value in held.items()})

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class StubbedClips(PreprocessStage):
    """Preprocessing whose every source is one clip of 3 s that is there at once. writes: shards are written too."""

    writes: bool = True

    def setup(self) -> None:
        pass

    def _extract_clips(self, source: Source, context: Context) -> Iterator[Any]:
        for item in context.item(
            source.path, lambda: [replace(three_seconds(), clip_id=source.path, source=source.path)]
        ):
            assert not isinstance(item, Failure)
            yield item

    def process(self, plan: Plan, context: Context) -> dict[str, Any]:
        if self.writes:
            return super().process(plan, context)
        counts: Counter[str] = Counter()
        for source in plan.sources:
            counts.update(clips=len(list(self._extract_clips(source, context))), sources=1)
            context.report(counts)
        return dict(counts)


_made: list[Clip] = []


def three_seconds() -> Clip:
    """75 frames, made once in a process."""
    if not _made:
        _made.append(short_clip(75))
    return _made[0]


def overhead(size: int, folder: Path, meter: Meter) -> None:
    """A list of clips of 3 s whose extraction costs nothing: what is left is the driver's and the tasks'."""
    made = make_plans(sources_of(size), SHARD_SIZE)
    for workers in (1, 2):
        options = RayOptions(workers=workers)
        for writes in (False, True):
            with TemporaryDirectory(dir=folder) as out, ray_session(options):
                stage = StubbedClips(
                    "",
                    out,
                    "stub",
                    "0" * 16,
                    ClipConfig(),
                    (),
                    "cpu",
                    False,
                    heartbeat_timeout=300,
                    writes=writes,
                )
                start_workers(options)
                before = _cpu_seconds()
                name = "items begun and ended" + (", shards of small crops written" if writes else "")
                with meter.step(f"{workers} workers: {name}") as notes:
                    run_stage(stage, made, options, size)
                notes |= {kind: s - before.get(kind, 0.0) for kind, s in _cpu_seconds().items()}


def _cpu_seconds() -> dict[str, float]:
    """CPU seconds so far of this process, of Ray's workers and of Ray's own processes."""
    seconds = Counter({"CPU s of the driver": sum(psutil.Process().cpu_times()[:2])})
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            kind = "workers" if process.name().startswith("ray::") else "Ray itself"
            seconds[f"CPU s of {kind}"] += sum(process.cpu_times()[:2])
    return dict(seconds)


class StubbedReferences(runner.ReferenceStage):
    """Measures nothing."""

    def setup(self) -> None:
        pass

    def process(self, plan: str, context: Context) -> str | ClipRecord:
        context.report({"videos": 1})
        return f"reference-{plan}"


class StubbedScores(runner.ScoreStage):
    """Scores of its own task, drawn at once."""

    def setup(self) -> None:
        pass

    def process(self, plan: runner.ScorePlan, context: Context) -> ClipRecord:
        context.report({"rows": 1})
        number = int(plan.task.clip)
        if number % 100 == 7:
            return failed_record(Reason.UNREADABLE, "stubbed")
        columns = [column.name for family in self.config.families.values() for column in family.columns]
        return drawn_record(columns, np.random.default_rng([number, *plan.task.method.encode()]))


def benchmark(size: int, folder: Path, meter: Meter) -> None:
    """A whole benchmark, with the scoring stubbed."""
    options = RayOptions(workers=2)
    config = benchmark_of(folder, options)
    scored = meter.step("planned, sent and collected")(runner.score_methods)
    with (
        TemporaryDirectory(dir=folder) as out,
        ray_session(options),
        patch.object(runner, "ReferenceStage", StubbedReferences),
        patch.object(runner, "ScoreStage", StubbedScores),
        patch.object(driver, "score_methods", scored),
        watched_store() as store,
    ):
        start_workers(options)
        meter.settle()
        with meter.step("the whole, with its report") as notes:
            driver.benchmark(replace(config, out=Path(out)))
        notes |= store
