"""What each column of a leaderboard costs: CPU seconds of one worker, family by family.

    python benchmarks/scoring_columns.py METHODS [--clips 3] [--methods 7] [--against CHECKOUT]

METHODS: a folder `reference` beside one folder of outputs for each method. A family has the time of its own work; what
several share (decoding, landmarks, the faces of a reference) has rows of its own. --against scores the same rows with
the package of another checkout, in a process of its own, and says by how much the numbers differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import torch
import tyro

from syncdiff_eval.benchmark import FACES, LIBRARIES
from syncdiff_eval.cache import Cache
from syncdiff_eval.methods import Method, MethodType, baselines
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.base import MetricFamily
from syncdiff_eval.pairing import Pairing, pair_by_name
from syncdiff_eval.protocols import PROTOCOLS
from syncdiff_eval.runner import ClipScoring, ReferenceStage
from syncdiff_eval.tasks import ScoringConfig, list_tasks

DEFAULT = (
    "expert", "image", "landmarks", "mouth_audio", "identity", "frechet-centerface", "closure", "silent-lips",
    "dynamics", "sharpness",
)  # fmt: skip
"""Those that need no download."""
REST = "files, hashes, sound, cache"


@dataclass(frozen=True)
class Options:
    """CPU seconds of scoring by family of columns, as a Markdown table."""

    videos: tyro.conf.Positional[Path]
    clips: int = 3
    """References, the first in order of name."""
    methods: int = 7
    families: tuple[str, ...] = DEFAULT
    against: Path | None = None
    """Another checkout of the project."""
    as_json: bool = False
    """Print seconds and values as JSON."""


class Clock:
    """CPU seconds by label; work inside of other work counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open = [REST]
        self._since = time.process_time()

    def _turn(self) -> None:
        now = time.process_time()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    @contextmanager
    def of(self, label: str) -> Iterator[None]:
        self._turn()
        self._open.append(label)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def timed(self, label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            with self.of(label):
                return function(*arguments, **named)

        return run

    def timed_items(self, label: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """Of a generator: the time inside of it, not that of whoever uses its items."""

        def run(*arguments: Any) -> Iterator[Any]:
            items = function(*arguments)
            end = object()
            while (item := self.timed(label, next)(items, end)) is not end:
                yield item

        return run


@dataclass(frozen=True)
class Silent:
    """A stage's context without a run."""

    heartbeat: Callable[[], None] = field(default=lambda: None)
    report: Callable[[Mapping[str, int]], None] = field(default=lambda counts: None)


def timed_family(family: MetricFamily, clock: Clock) -> MetricFamily:
    """The same numbers; its metrics' time is its own."""

    def load(weights: Mapping[str, Path], device: str) -> Callable[[Any], Any]:
        start = family.load(weights, device)

        def start_timed(context: Any) -> Any:
            with clock.of(family.name):
                metric = start(context)
            for name in ("update", "compute", "arrays", "cached_arrays"):
                if hasattr(metric, name):
                    setattr(metric, name, clock.timed(family.name, getattr(metric, name)))
            return metric

        return start_timed

    return replace(family, load=load)


def time_shared_work(clock: Clock) -> None:
    from syncdiff_eval import videos
    from syncdiff_eval.scoring import paired

    videos.coded_frames = clock.timed_items("decoding", videos.coded_frames)
    videos.upright_rgb = clock.timed("decoding", videos.upright_rgb)
    paired.generated_landmarks = clock.timed("landmarks of the outputs", paired.generated_landmarks)


def scoring_config(options: Options, clock: Clock, cache: Path) -> ScoringConfig:
    reference = options.videos / "reference"
    folders = sorted(path for path in options.videos.iterdir() if path.is_dir() and path != reference)
    methods = [Method(path.name, MethodType.OTHER, None, path) for path in folders[: options.methods]]
    pairing = pair_by_name(reference)
    families = [FAMILIES[name] for name in options.families]
    return ScoringConfig(
        reference=reference,
        pairing=Pairing(pairing.setting, pairing.pairs[: options.clips], pairing.references),
        methods=(*baselines(frozen=False, audio_shift=(), other_audio=False), *methods),
        protocol=next(p for name, p in PROTOCOLS.items() if name.startswith("syncdiff-index")),
        families={family.name: timed_family(family, clock) for family in families},
        weights={},
        weight_hashes={},
        libraries={name: version(name) for name in LIBRARIES},
        face_config=FACES,
        cache=cache,
    )


def score(options: Options) -> dict[str, Any]:
    """Seconds by label, and the values of every row."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    clock = Clock()
    time_shared_work(clock)
    with tempfile.TemporaryDirectory() as folder:
        config = scoring_config(options, clock, Path(folder))
        cache = Cache(config.cache)
        videos = [pair.video for pair in config.pairing.pairs]
        # Other checkouts number their plans: there the stage holds the list.
        numbered = "videos" in {field.name for field in fields(ReferenceStage)}
        measure: Any = ReferenceStage(config, cache, *([videos] if numbered else []))
        clock.timed("models", measure.setup)()
        context: Any = Silent()
        with clock.of("faces of the references"):
            plans = range(len(videos)) if numbered else videos
            references = {video: measure.process(plan, context) for video, plan in zip(videos, plans)}
        values = {}
        for task in sorted(list_tasks(config.methods, config.pairing), key=lambda task: task.video):
            record = ClipScoring(config, cache, task, references[task.video]).record(context)
            assert record["status"] == "scored", record
            values[f"{task.method}/{task.clip}"] = record["values"]
        with clock.of(REST):
            pass
    return {"seconds": dict(clock.seconds), "values": values}


def score_in(checkout: Path, options: Options) -> dict[str, Any]:
    """The same with the package of another checkout."""
    command = [
        sys.executable, str(Path(__file__).resolve()), str(options.videos.resolve()), "--clips", str(options.clips),
        "--methods", str(options.methods), "--families", *options.families, "--as-json",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    done = subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def largest_differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, float]:
    """Column -> the largest difference, where there is one."""
    worst: dict[str, float] = {}
    for row, values in a["values"].items():
        for column, value in values.items():
            difference = abs(value - b["values"][row][column])
            worst[column] = max(worst.get(column, 0.0), difference)
    return {column: difference for column, difference in worst.items() if difference}


def print_table(found: Mapping[str, float], before: Mapping[str, float] | None, rows: int) -> None:
    total = sum(found.values())
    compared = before is not None
    print("| family | columns | CPU s |" + (" before | |" if compared else "") + " per row | share |")
    print("|---|---|---:|" + ("---:|---:|" if compared else "") + "---:|---:|")
    for label, seconds in [*sorted(found.items(), key=lambda item: -item[1]), ("**all**", total)]:
        columns = [f"`{c.name}`" for c in FAMILIES[label].columns] if label in FAMILIES else []
        old = ""
        if before is not None:
            was = sum(before.values()) if label == "**all**" else before.get(label, 0.0)
            old = f" {was:.1f} | {seconds / was:.2f} |" if was else " | |"
        print(
            f"| {label} | {', '.join(columns)} | {seconds:.1f} |{old} {seconds / rows:.2f} | {seconds / total:.0%} |"
        )


def main(options: Options) -> None:
    found = score(options)
    if options.as_json:
        print(json.dumps(found))
        return
    before = score_in(options.against, options) if options.against else None
    print_table(found["seconds"], before["seconds"] if before else None, len(found["values"]))
    if before:
        print(f"\nLargest differences of a value: {largest_differences(found, before) or 'none'}")


if __name__ == "__main__":
    main(tyro.cli(Options))
