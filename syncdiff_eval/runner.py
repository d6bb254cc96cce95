"""A benchmark on Ray: one task per reference, then one per method and clip, each cached by what it depends
on.

Every task leaves one record in the cache and is then never done again. So a run that was stopped, or whose
workers were killed, goes on where it was, and the table does not depend on who did what. A changed file,
protocol, metric or weight file has another key. Cached failures are final, except for lost workers with
`retry_failed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from syncdiff_data.cli import RayOptions
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError
from syncdiff_data.stage import ReportProgress, run_plans
from syncdiff_data.stage.heartbeat import Watchdog
from syncdiff_data.weights import file_sha256
from syncdiff_eval.cache import Cache, FrameFeatureCache, open_run
from syncdiff_eval.metrics.base import Regions
from syncdiff_eval.reencode import reencode
from syncdiff_eval.scoring import (
    Heartbeat,
    Reference,
    Scorer,
    ScoringError,
    driving_audio,
    measure_reference,
    score_clip,
    shift_audio,
)
from syncdiff_eval.tasks import Benchmark, Task, list_tasks
from syncdiff_eval.videos import FileFacts, sound_start

CRASHES = 3
"""Times in a row a task may take its worker down before its clip counts as failed."""

Arrays = dict[str, np.ndarray]
Record = dict[str, Any]


def run_benchmark(
    benchmark: Benchmark, options: RayOptions, retry_failed: bool = False, reencode_check: bool = False
) -> tuple[list[Record], list[Record]]:
    """Score every method on every pair: one record each, in order of method, then clip.

    And those of the files that were scored, encoded once more, if `reencode_check` asks for them. Needs an open
    `ray_session`.
    """
    videos = sorted({pair.video for pair in benchmark.pairing.pairs})
    tasks = list_tasks(benchmark.methods, benchmark.pairing)
    retry = {Reason.WORKER_CRASHED} if retry_failed else set()
    with open_run(benchmark.cache, retry) as cache:
        measure = _Measure(benchmark, cache, videos)
        found = run_plans(measure, _indices(videos), options, "references", len(videos), "videos")
        references = {row["video"]: row["key"] for row in found}
        records = _score_all(_Score(benchmark, cache, "scores", tasks, references), options)
        again = [
            replace(task, reencoded=True)
            for task, record in zip(tasks, records)
            if reencode_check and task.has_file and record["status"] == "scored"
        ]
        return records, _score_all(_Score(benchmark, cache, "re-encoded", again, references), options)


def _score_all(score: _Score, options: RayOptions) -> list[Record]:
    """The record of every task, in their order."""
    if not score.tasks:
        return []
    done = run_plans(score, _indices(score.tasks), options, score.title, len(score.tasks), "rows")
    records = {row["index"]: row["record"] for row in done}
    return [{"method": task.method, "clip": task.clip, **records[i]} for i, task in enumerate(score.tasks)]


@dataclass(frozen=True)
class _Measure:
    """Work of the first pass: the regions of one reference."""

    benchmark: Benchmark
    cache: Cache
    videos: Sequence[str]

    def __call__(self, plan: str, report: ReportProgress) -> Record:
        video = self.videos[int(plan)]
        path = self.benchmark.reference / video

        def measure(scorer: Scorer, heartbeat: Heartbeat) -> tuple[Record, Arrays]:
            return _pack(measure_reference(path, scorer, self.benchmark.face_config, heartbeat))

        try:
            key = self.benchmark.reference_key(_content(path, Reason.REFERENCE_UNREADABLE))
        except ScoringError:  # without its content nothing can be kept of it
            return {"video": video, "key": None}
        _once(self.benchmark, self.cache, key, f"reference-{plan}", measure)
        report(int(plan), {"videos": 1})
        return {"video": video, "key": key}


@dataclass(frozen=True)
class _Score:
    """Work of the second pass: one clip of one method. references: video -> key of its measured regions, None where
    the file cannot be read at all."""

    benchmark: Benchmark
    cache: Cache
    title: str
    tasks: Sequence[Task]
    references: Mapping[str, str | None]

    def __call__(self, plan: str, report: ReportProgress) -> Record:
        index = int(plan)
        record = self._record(self.tasks[index], f"{self.title}-{plan}")
        report(index, {"rows": 1, record["status"]: 1})
        return {"index": index, "record": record}

    def _record(self, task: Task, name: str) -> Record:
        root, video = self.benchmark.reference, self.benchmark.reference / task.video
        reference_key = self.references[task.video]
        driven = self.benchmark.takes_driving_audio(task)
        try:
            output = task.output()
            if reference_key is None:
                raise ScoringError(Reason.REFERENCE_UNREADABLE, "cannot be read")
            output_hash = _content(output, Reason.UNREADABLE) if output else None
            audio_hash = _content(root / task.audio, Reason.AUDIO_UNREADABLE) if driven else None
        except ScoringError as refused:
            return _failed(refused.reason, str(refused))
        measured = self.cache.read(reference_key)
        if measured is None or measured["status"] == "failed":
            return _failed(
                Reason.REFERENCE_UNREADABLE, measured["detail"] if measured else "its record is gone"
            )
        hashes = measured["facts"]["sha256"], output_hash
        key = self.benchmark.score_key(task, *hashes, audio_hash)
        frames_of = self.benchmark.frames_facts
        frame_cache = FrameFeatureCache(self.cache, frames_of(*hashes, task.baseline.frozen, task.encoder))
        reference_frame_cache = FrameFeatureCache(self.cache, frames_of(hashes[0], None, False, None))

        def score(scorer: Scorer, heartbeat: Heartbeat) -> tuple[Record, Arrays]:
            reference = _unpack(measured, self.cache.arrays(reference_key))
            audio = _audio(root / task.audio, task, reference) if driven else None
            with _file_to_score(task, output, video, self.cache, heartbeat) as file:
                return score_clip(
                    video, reference, file, task.baseline, audio, task.crossed, scorer, frame_cache,
                    reference_frame_cache, heartbeat,
                )  # fmt: skip

        return {**_once(self.benchmark, self.cache, key, name, score), "key": key}


@contextmanager
def _file_to_score(
    task: Task, output: Path | None, video: Path, cache: Cache, heartbeat: Heartbeat
) -> Iterator[Path | None]:
    """The method's file, or none for a baseline; what is re-encoded lies there for as long as the body runs."""
    if not task.reencoded:
        yield output
        return
    with cache.scratch() as again:
        reencode(output or video, again, heartbeat)
        yield again


def _content(path: Path, reason: Reason) -> str:
    """sha256 of a file. Raises ScoringError where the disk does not give it."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise ScoringError(reason, f"cannot be read: {error.strerror}") from error


def _indices(items: Sequence[object]) -> list[str]:
    return [str(i) for i in range(len(items))]


def _once(
    benchmark: Benchmark,
    cache: Cache,
    key: str,
    name: str,
    work: Callable[[Scorer, Heartbeat], tuple[Record, Arrays]],
) -> Record:
    """The cached record, or that of doing the work now; what cannot be scored becomes a record with its
    reason. name: of the task within this run, whose crashes are counted.

    Work that took its process down three times running is not begun again, so that one clip cannot stop the
    rest. Work that hangs has its process ended; the loading of networks is not on that clock.
    """
    record = cache.read(key)
    if record is not None:
        return record
    arrays: Arrays = {}
    if cache.attempts(name) >= CRASHES:
        record = _failed(Reason.WORKER_CRASHED, f"took its worker down {CRASHES} times running")
    else:
        cache.begin(name)
        scorer = load_scorer(benchmark)
        try:
            with Watchdog(benchmark.clip_timeout) as watchdog:
                record, arrays = work(scorer, watchdog.heartbeat)
        except (ScoringError, MediaError) as error:
            record = _failed(error.reason, str(error))
    cache.write(key, record, arrays)
    cache.end(name)
    return record


def _failed(reason: Reason, detail: str) -> Record:
    return {"status": "failed", "reason": str(reason), "detail": detail}


def _audio(path: Path, task: Task, reference: Reference) -> np.ndarray | None:
    """The driving audio on the clock of frame 0. None where a video has none of its own."""
    fps = reference.facts.fps
    try:
        start_s = reference.start_s if task.audio == task.video else sound_start(path)
        audio = driving_audio(path, start_s, reference.num_frames, fps)
    except MediaError as error:
        if error.reason == Reason.NO_AUDIO and not task.crossed:
            return None
        raise ScoringError(Reason.AUDIO_UNREADABLE, str(error)) from error
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
            factories={
                name: family.load(benchmark.weights, benchmark.device)
                for name, family in benchmark.families.items()
            },
            backend=None
            if benchmark.protocol.standalone
            else load_backend(benchmark.face_config, benchmark.weights, benchmark.device),
        )
    return _scorers[key]
