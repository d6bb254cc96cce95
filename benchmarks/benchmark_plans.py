"""What a benchmark costs beside its scoring: Wav2Lip's LRS2 list, 14,239 pairs by 5 methods, with the scoring stubbed.

    python benchmarks/benchmark_plans.py [--pairs N] [--workers N]

Folders of empty files are listed, paired and probed as real ones are; every plan goes through Ray; a worker answers at
once with made up numbers, or for one row in a hundred with a failure. Then the report is made from them. Prints the
seconds of each step and the most memory that the driver held.
"""

from __future__ import annotations

import csv
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import tyro

from syncdiff_data.cli import RayOptions, exit_with_sentence
from syncdiff_data.reasons import Reason
from syncdiff_data.stage import Context, ray_session
from syncdiff_eval import benchmark as driver
from syncdiff_eval import runner
from syncdiff_eval.methods import Method, baselines, read_methods
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.pairing import pair_by_list
from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.records import Record, failed_record

PAIRS_PER_VIDEO = 11
"""Wav2Lip's lists use each video about so often."""
METHODS = ("wav2lip", "videoretalking", "diff2lip", "latentsync")
"""Folders of outputs; the real video is the fifth row."""


@dataclass(frozen=True)
class Options:
    pairs: int = 14_239
    workers: int = 2
    """Tasks at a time, one CPU each."""


class StubbedReferences(runner.ReferenceStage):
    """Measures nothing."""

    def setup(self) -> None:
        pass

    def process(self, plan: int, context: Context) -> str | Record:
        context.report({"videos": 1})
        return f"reference-{plan}"


class StubbedScores(runner.ScoreStage):
    """Scores of its own task, drawn at once."""

    def setup(self) -> None:
        pass

    def process(self, plan: int, context: Context) -> Record:
        context.report({"rows": 1})
        if plan % 100 == 7:
            return failed_record(Reason.UNREADABLE, "stubbed")
        columns = [column.name for family in self.config.families.values() for column in family.columns]
        draws = np.random.default_rng(plan).normal(30, 2, len(columns)).tolist()
        facts = {"num_frames": 75, "codec": "h264", "bit_rate": 400_000, "fps": 25.0}
        return {"status": "scored", **facts, "values": dict(zip(columns, draws)), "missing": {}}


def make_files(folder: Path, pairs: int) -> tuple[Path, Path, tuple[str, ...]]:
    """The folder of references, the CSV of pairs, and NAME=DIR of each method."""
    videos = -(-pairs // PAIRS_PER_VIDEO)
    reference = folder / "reference"
    reference.mkdir()
    for video in range(videos):
        (reference / f"{video:05}.mp4").touch()
    with (folder / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "audio", "output"])
        for pair in range(pairs):
            video = pair % videos
            rows.writerow(
                [f"{video:05}.mp4", f"{(video + 1 + pair // videos) % videos:05}.mp4", f"{pair}.mp4"]
            )
    for method in METHODS:
        (folder / method).mkdir()
        for pair in range(pairs):
            (folder / method / f"{pair}.mp4").touch()
    return reference, folder / "pairs.csv", tuple(f"{method}={folder / method}" for method in METHODS)


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Print the step's seconds and the driver's memory so far."""
    start = time.perf_counter()
    yield
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| {step} | {time.perf_counter() - start:.1f} | {memory:.2f} |", flush=True)


def main(options: Options) -> None:
    """Time every step of one benchmark."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference, table, given = make_files(folder, options.pairs)
        print("| step | seconds | driver's memory so far, GiB |\n| --- | ---: | ---: |")
        with timed("pairs and methods listed"):
            pairing = pair_by_list(reference, table, "csv")
            methods: list[Method] = [*baselines(False, (), False), *read_methods(given, None)]
        ray = RayOptions(workers=options.workers)
        config = driver.BenchmarkConfig(
            reference, pairing, methods, SYNCDIFF, folder / "report", {}, ray, families=FAMILIES
        )
        with timed("Ray started and stopped"), ray_session(ray):
            pass
        with (
            ray_session(ray),
            patch.object(runner, "ReferenceStage", StubbedReferences),
            patch.object(runner, "ScoreStage", StubbedScores),
            patch.object(driver, "score_methods", timed("planned, sent and collected")(runner.score_methods)),
            timed("the whole benchmark, with its report"),
        ):
            driver.benchmark(config)


if __name__ == "__main__":
    exit_with_sentence(lambda: main(tyro.cli(Options, description=__doc__)))
