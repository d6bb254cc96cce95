"""A benchmark on Ray: one task per reference, then one per method and clip, each cached by what it depends
on.

Every task leaves one record in the cache and is then never done again. So a run that was stopped, or whose
workers were killed, goes on where it was, and the table does not depend on who did what. A changed file,
protocol, metric or weight file has another key. Cached failures are final, except for lost workers with
`retry_failed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from syncdiff_data.cli import RayOptions
from syncdiff_data.records import MediaError, Reason
from syncdiff_data.stage import Report, run_plans
from syncdiff_data.weights import file_sha256
from syncdiff_eval.cache import Cache, Shelf
from syncdiff_eval.metrics.base import Regions
from syncdiff_eval.reasons import Refusal
from syncdiff_eval.scoring import (
    Reference,
    Refused,
    Scorer,
    driving_audio,
    measure_reference,
    score_clip,
    shift_audio,
)
from syncdiff_eval.tasks import Benchmark, Task, list_tasks
from syncdiff_eval.videos import FileFacts

CRASHES = 3
"""Times in a row a task may take its worker down before its clip counts as failed."""

Arrays = dict[str, np.ndarray]
Record = dict[str, Any]


def run_benchmark(benchmark: Benchmark, options: RayOptions, retry_failed: bool = False) -> list[Record]:
    """Score every method on every pair: one record each, in order of method, then clip.

    Needs an open `ray_session`.
    """
    videos = sorted({pair.video for pair in benchmark.pairing.pairs})
    tasks = list_tasks(benchmark.methods, benchmark.pairing)
    Cache(benchmark.cache).start_run(retry={Refusal.WORKER_CRASHED} if retry_failed else set())
    measure = _Measure(benchmark, videos)
    found = run_plans(measure, _indices(videos), options, "references", len(videos), "videos")
    score = _Score(benchmark, tasks, {row["video"]: row["key"] for row in found})
    done = run_plans(score, _indices(tasks), options, "scores", len(tasks), "rows")
    records = {row["index"]: row["record"] for row in done}
    return [{"method": task.method, "clip": task.clip, **records[i]} for i, task in enumerate(tasks)]


@dataclass(frozen=True)
class _Measure:
    """Work of the first pass: the regions of one reference."""

    benchmark: Benchmark
    videos: Sequence[str]

    def __call__(self, plan: str, report: Report) -> Record:
        video = self.videos[int(plan)]
        path = self.benchmark.reference / video
        key = self.benchmark.reference_key(file_sha256(path))

        def measure() -> tuple[Record, Arrays]:
            return _pack(measure_reference(path, load_scorer(self.benchmark), self.benchmark.face_config))

        _once(Cache(self.benchmark.cache), key, measure)
        report(int(plan), {"videos": 1})
        return {"video": video, "key": key}


@dataclass(frozen=True)
class _Score:
    """Work of the second pass: one clip of one method. references: video -> key of its measured regions."""

    benchmark: Benchmark
    tasks: Sequence[Task]
    references: Mapping[str, str]

    def __call__(self, plan: str, report: Report) -> Record:
        index = int(plan)
        record = self._record(self.tasks[index])
        report(index, {"rows": 1, record["status"]: 1})
        return {"index": index, "record": record}

    def _record(self, task: Task) -> Record:
        cache, root = Cache(self.benchmark.cache), self.benchmark.reference
        try:
            output = task.output()
        except Refused as refused:
            return _failed(refused.reason, str(refused))
        measured = cache.read(self.references[task.video])
        if measured is None or measured["status"] == "failed":
            return _failed(
                Refusal.REFERENCE_UNREADABLE, measured["detail"] if measured else "its record is gone"
            )
        key = self.benchmark.score_key(
            task,
            reference=measured["facts"]["sha256"],
            output=file_sha256(output) if output else None,
            audio=file_sha256(root / task.audio),
        )

        def shelf(output: Path | None, frozen: bool) -> Shelf:
            shown = file_sha256(output) if output else None
            return Shelf(cache, self.benchmark.frames_facts(measured["facts"]["sha256"], shown, frozen))

        def score() -> tuple[Record, Arrays]:
            reference = _unpack(measured, cache.arrays(self.references[task.video]))
            audio = _audio(root / task.audio, task, reference)
            return score_clip(
                root / task.video, reference, output, task.baseline, audio, task.crossed,
                load_scorer(self.benchmark), shelf(output, task.baseline.frozen), shelf(None, False),
            )  # fmt: skip

        return {**_once(cache, key, score), "key": key}


def _indices(items: Sequence[object]) -> list[str]:
    return [str(i) for i in range(len(items))]


def _once(cache: Cache, key: str, work: Callable[[], tuple[Record, Arrays]]) -> Record:
    """The cached record, or that of doing the work now; what cannot be scored becomes a record with its
    reason.

    Work that took its process down three times running is not begun again, so that one clip cannot stop the
    rest.
    """
    record = cache.read(key)
    if record is not None:
        return record
    arrays: Arrays = {}
    if cache.attempts(key) >= CRASHES:
        record = _failed(Refusal.WORKER_CRASHED, f"took its worker down {CRASHES} times running")
    else:
        cache.begin(key)
        try:
            record, arrays = work()
        except (Refused, MediaError) as error:
            record = _failed(error.reason, str(error))
    cache.write(key, record, arrays)
    cache.end(key)
    return record


def _failed(reason: str, detail: str) -> Record:
    return {"status": "failed", "reason": str(reason), "detail": detail}


def _audio(path: Path, task: Task, reference: Reference) -> np.ndarray | None:
    """The driving audio on the clock of frame 0. None where a video has none of its own."""
    fps = reference.facts.fps
    start_s = reference.start_s if task.audio == task.video else 0.0
    try:
        audio = driving_audio(path, start_s, reference.num_frames, fps)
    except MediaError as error:
        if error.reason == Reason.NO_AUDIO and not task.crossed:
            return None
        raise Refused(Refusal.AUDIO_UNREADABLE, str(error)) from error
    return shift_audio(audio, task.baseline.audio_shift, fps)


def _pack(reference: Reference) -> tuple[Record, Arrays]:
    record = {
        "status": "scored",
        "facts": asdict(reference.facts),
        "num_frames": reference.num_frames,
        "start_s": reference.start_s,
    }
    regions = asdict(reference.regions) if reference.regions else {}
    return record, {"times": reference.times, **regions}


def _unpack(record: Record, arrays: Arrays) -> Reference:
    times = arrays.pop("times")
    regions = None
    if arrays:
        regions = Regions(**{**arrays, "eye_distance": float(arrays["eye_distance"])})  # type: ignore[arg-type]
    return Reference(FileFacts(**record["facts"]), record["num_frames"], record["start_s"], regions, times)


_scorers: dict[str, Scorer] = {}


def load_scorer(benchmark: Benchmark) -> Scorer:
    """The landmark model and the metrics' networks, once per worker process."""
    from syncdiff_data.faces import load_backend

    key = repr(benchmark.fingerprint())
    if key not in _scorers:
        _scorers.clear()
        _scorers[key] = Scorer(
            protocol=benchmark.protocol,
            families=benchmark.families,
            starts={
                name: family.load(benchmark.weights, benchmark.device)
                for name, family in benchmark.families.items()
            },
            backend=load_backend(benchmark.face_config, benchmark.weights, benchmark.device),
        )
    return _scorers[key]
