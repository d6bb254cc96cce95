"""What lists of 10,000 to a million clips cost beside the work on them, which is stubbed.

    python benchmarks/scale.py --scratch DIR [--parts NAME ...] [--sizes N ...]

Each part runs in a fresh process at each size. Prints for every step the seconds by the clock, CPU time and memory an
item, and the slope: the exponent e of size^e between a size and the next smaller one, 1 where the cost an item stays.
Memory is the peak of the process above what its imports take. Folders of empty files and shards are made in DIR once
and kept.
"""

from __future__ import annotations

import math
import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tyro
from scale_lists import loader, make_dataset, make_outputs, make_source_files, plans, report, resume, tasks
from scale_meter import MIB, Meter, Step
from scale_ray import benchmark, overhead, ray_tasks

Result = TypeVar("Result")
WARM_UP = 2000
"""Items."""


def make_nothing(folder: Path, size: int) -> None:
    """For parts that need no files."""


@dataclass(frozen=True)
class Part:
    """make: fills the folder that `run` gets, once. warm: run it on a few items first, so that what it imports and the
    pools of its libraries are there when memory is taken."""

    run: Callable[[int, Path, Meter], None]
    make: Callable[[Path, int], None] = make_nothing
    warm: bool = True


PARTS = {
    "plans": Part(plans, make_source_files),
    "resume": Part(resume, make_dataset),
    "loader": Part(loader, make_dataset),
    "tasks": Part(tasks, make_outputs),
    "report": Part(report),
    "ray": Part(ray_tasks, warm=False),
    "overhead": Part(overhead, warm=False),
    "benchmark": Part(benchmark, make_outputs, warm=False),
}


@dataclass(frozen=True)
class Options:
    scratch: Path
    """Folder of what is made once; a million clips take 12 GB."""
    parts: tuple[str, ...] = ("plans", "resume", "loader", "tasks", "report", "ray")
    """Also `overhead` and `benchmark`, for one size."""
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Clips; of `tasks`, `report` and `benchmark` rows: clips of each of ten methods, a tenth each."""


def run_part(part: str, size: int, scratch: Path) -> list[Step]:
    """The steps of one part."""
    if PARTS[part].warm:
        PARTS[part].run(WARM_UP, folder_of(part, WARM_UP, scratch), Meter())
    meter = Meter()
    PARTS[part].run(size, folder_of(part, size, scratch), meter)
    return meter.steps


def make_folders(part: str, size: int, scratch: Path) -> None:
    """What `run_part` works on, unless an earlier run has made it."""
    for items in (WARM_UP, size):
        folder = folder_of(part, items, scratch)
        if not folder.exists():
            half = Path(tempfile.mkdtemp(dir=scratch))
            PARTS[part].make(half, items)
            half.rename(folder)


def folder_of(part: str, size: int, scratch: Path) -> Path:
    return scratch / f"{PARTS[part].make.__name__}-{size}"


def in_fresh_process(function: Callable[[str, int, Path], Result], *arguments: Any) -> Result:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def slope(size: int, value: float, smaller: int, before: float) -> str:
    if before <= 0 or value <= 0:
        return ""
    return f"{math.log(value / before) / math.log(size / smaller):.2f}"


def line(part: str, size: int, step: Step, smaller: tuple[int, Step] | None) -> str:
    slopes = ["", ""]
    if smaller is not None:
        there, before = smaller
        slopes = [
            slope(size, now, there, then)
            for now, then in ((step.cpu, before.cpu), (step.memory, before.memory))
        ]
    cells = [
        f"{part}: {step.name}",
        f"{size:,}",
        f"{step.seconds:.2f}",
        f"{1e6 * step.cpu / size:.1f}",
        slopes[0],
        f"{step.memory:.0f}",
        f"{step.memory * MIB / size:.0f}",
        slopes[1],
        "; ".join(f"{value:.1f} {name}" for name, value in step.notes.items()),
    ]
    return f"| {' | '.join(cells)} |"


def main(options: Options) -> None:
    options.scratch.mkdir(parents=True, exist_ok=True)
    print("| step | items | s | CPU µs/item | slope | MiB | B/item | slope | |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---|")
    for part in options.parts:
        before: dict[str, tuple[int, Step]] = {}
        for size in sorted(options.sizes):
            in_fresh_process(make_folders, part, size, options.scratch)
            for step in in_fresh_process(run_part, part, size, options.scratch):
                print(line(part, size, step, before.get(step.name)), flush=True)
                before[step.name] = (size, step)


if __name__ == "__main__":
    if unknown := set((options := tyro.cli(Options, description=__doc__)).parts) - set(PARTS):
        sys.exit(f"no such parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    main(options)
