"""Preprocess and benchmark in a loop in one process with one Ray: do memory, object store and file handles stay flat?

    python benchmarks/soak.py --out FOLDER [--minutes 120]

Each turn makes a data set of generated talkers and a report on their dubs anew (small_chain.py), as a notebook or a
service would: the driver and its Ray live on. After each turn a line goes to FOLDER/soak.csv: memory of the driver, of
Ray's workers together and of Ray's own processes (anonymous pages; those of libraries would count as shared or as
private by what else runs on the machine), bytes in the object store, open files of all, and bytes of the outputs. The
table has the first and the last turn after a tenth of warming up, and the slope over those turns by least squares.
Exit status 1 where an output differs from the undisturbed one, or the disk holds another amount.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tyro
from own_cluster import cluster_of_two
from small_chain import Chain, environment, family, title
from syncdiff_pipelines import benchmark, preprocess

from syncdiff_data.cli import RayOptions
from syncdiff_data.clips import ClipConfig
from syncdiff_data.faces import FaceConfig
from syncdiff_data.stage import ray_session

PARTS = ("preprocess", "benchmark")
WORKERS = ("ray::Map", "ray::IDLE", "ray::RunActor")
"""What works for a run; Ray's other actors and agents count as Ray's own processes."""


@dataclass(frozen=True)
class Options:
    out: Path
    """Inputs, outputs and soak.csv."""
    minutes: float = 120.0


@dataclass(frozen=True)
class Sample:
    """What is used after a turn. Memory in MiB."""

    turn: int
    minutes: float
    driver: float
    workers: float
    worker_processes: int
    ray: float
    object_store: float
    open_files: int
    disk: float
    equal: bool


UNITS = {"driver": "MiB", "workers": "MiB", "worker_processes": "", "ray": "MiB", "object_store": "MiB"}
UNITS |= {"open_files": "", "disk": "MiB"}


def turn(chain: Chain, out: Path) -> bool:
    """Both commands into new folders; whether their outputs are those of the undisturbed runs."""
    shutil.rmtree(out, ignore_errors=True)
    ray = RayOptions(workers=2)
    clips = ClipConfig(faces=FaceConfig(crop_size=64))
    preprocess.main(
        preprocess.Options(
            source="folder",
            root=chain.videos,
            out=str(out / "preprocess"),
            shard_size=1,
            clips=clips,
            ray=ray,
        )
    )
    method = (f"ours={chain.whole('synthesize')}",)
    benchmark.main(
        benchmark.Options(reference=chain.videos, out=out / "benchmark", method=method, previews=1, ray=ray)
    )
    return not any(chain.differences(part, out / part) for part in PARTS)


def anonymous(pid: int) -> float:
    """MiB of a process that belong to no file and no shared memory. OSError where it ended."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (kilobytes,) = re.findall(r"^Anonymous: +(\d+) kB$", rollup, re.MULTILINE)
    return int(kilobytes) / 1024


def measure(number: int, began: float, folder: Path, equal: bool) -> Sample:
    """Of this process and all that it started."""
    import ray

    used: dict[str, float] = {"driver": 0.0, "workers": 0.0, "ray": 0.0}
    count, files = 0, 0
    for process in family(os.getpid()):
        try:
            name = title(process)
            is_worker = name.startswith(WORKERS)
            part = "driver" if process.pid == os.getpid() else "workers" if is_worker else "ray"
            used[part] += anonymous(process.pid)
            count += is_worker
            files += process.num_fds()
        except (psutil.Error, OSError):
            continue  # It ended meanwhile.
    total, left = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    store = (total.get("object_store_memory", 0) - left.get("object_store_memory", 0)) / 2**20
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
    minutes = (time.monotonic() - began) / 60
    return Sample(
        turn=number,
        minutes=round(minutes, 2),
        driver=round(used["driver"], 1),
        workers=round(used["workers"], 1),
        worker_processes=count,
        ray=round(used["ray"], 1),
        object_store=round(store, 2),
        open_files=files,
        disk=round(disk, 2),
        equal=equal,
    )


def table(samples: list[Sample]) -> str:
    """Markdown: first, last and slope of each, after a tenth of the turns."""
    warm = samples[len(samples) // 10 :]
    lines = [f"{len(samples)} turns in {samples[-1].minutes:.0f} minutes, from turn {warm[0].turn} on:", ""]
    lines += ["| | first | last | largest | slope a turn |", "|---|--:|--:|--:|--:|"]
    for name, unit in UNITS.items():
        values = np.array([float(getattr(sample, name)) for sample in warm])
        turns = np.arange(len(values), dtype=np.float64)
        slope = float(np.polyfit(turns, values, 1)[0]) if len(values) > 1 else 0.0
        label = f"{name.replace('_', ' ')}, {unit}" if unit else name.replace("_", " ")
        lines.append(f"| {label} | {values[0]:.6g} | {values[-1]:.6g} | {values.max():.6g} | {slope:+.3f} |")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Prepare, loop, print the table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves no process behind
    os.environ |= environment()
    chain, out = Chain(options.out.absolute()), options.out.absolute() / "soak"
    options.out.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    with cluster_of_two() as cluster:
        chain.prepare(("preprocess", "synthesize", "benchmark"), cluster.address, cluster.environment)
    with ray_session(RayOptions(workers=2)), (options.out / "soak.csv").open("w", newline="") as file:
        writer: Any = csv.DictWriter(file, [field.name for field in fields(Sample)])
        writer.writeheader()
        began = time.monotonic()
        while not samples or (time.monotonic() - began) / 60 < options.minutes:
            equal = turn(chain, out)
            samples.append(measure(len(samples), began, out, equal))
            writer.writerow(asdict(samples[-1]))
            file.flush()
            print(samples[-1], flush=True)
    print(table(samples))
    raise SystemExit(not all(sample.equal for sample in samples) or samples[-1].disk != samples[0].disk)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
