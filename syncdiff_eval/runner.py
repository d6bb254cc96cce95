"""A benchmark on Ray: one plan per reference, then one per method and clip, each cached by what it depends on.

A run that was stopped goes on where it was, and the table does not depend on which worker did what. A changed file,
protocol, metric or weight file has another key. What a property of a file made fail is cached; what a disk did is not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from syncdiff_data.cli import RayOptions
from syncdiff_data.media import AudioTrack
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError
from syncdiff_data.sources.layouts import find_transcript
from syncdiff_data.stage import Context, Failure, Stage, is_transient, refuse_if_unread, run_stage
from syncdiff_data.weights import file_sha256
from syncdiff_eval.cache import Cache, FrameFeatureCache, open_run
from syncdiff_eval.records import Arrays, ClipRecord, failed_record, pack_reference, unpack_reference
from syncdiff_eval.reencode import reencode
from syncdiff_eval.scoring import (
    ClipScore,
    Reference,
    ReferenceFrames,
    Scorer,
    ScoreRequest,
    ScoringError,
    measure_reference,
    score_clip,
    shift_audio,
    strategy_of,
)
from syncdiff_eval.scoring.sound import slice_audio
from syncdiff_eval.tasks import ScoringConfig, Task, list_tasks
from syncdiff_eval.videos import sound_start

RETRIED_REASONS = frozenset({Reason.WORKER_CRASHED})
"""Cached failures that --retry-failed forgets."""


def score_methods(
    config: ScoringConfig, options: RayOptions, retry_failed: bool = False, reencode_check: bool = False
) -> tuple[list[ClipRecord], list[ClipRecord]]:
    """Score every method on every pair: one record each, in order of method, then clip.

    And those of the files that were scored, encoded once more, if `reencode_check` asks for them. Needs an open
    `ray_session`. Raises UserError for faults of the run.
    """
    videos = sorted({pair.video for pair in config.pairing.pairs})
    tasks = list_tasks(config.methods, config.pairing)
    shared = config.without_pairs()
    with open_run(config.cache, RETRIED_REASONS if retry_failed else frozenset()) as cache:
        measured = run_stage(ReferenceStage(shared, cache, config.clip_timeout), videos, options)
        unread = sum(isinstance(m, dict) and m["reason"] == Reason.READ_ERROR for m in measured)
        refuse_if_unread(unread, len(videos), "references", str(config.reference))
        references = dict(zip(videos, measured))
        score = ScoreStage(
            shared, cache, heartbeat_timeout=config.clip_timeout, plans_together=len(config.methods)
        )
        records = _score_all(score, tasks, references, options)
        again = [
            replace(task, reencoded=True)
            for task, record in zip(tasks, records)
            if reencode_check and task.has_file and record["status"] == "scored"
        ]
        return records, _score_all(replace(score, title="re-encoded"), again, references, options)


def _score_all(
    stage: ScoreStage,
    tasks: Sequence[Task],
    references: Mapping[str, str | ClipRecord],
    options: RayOptions,
) -> list[ClipRecord]:
    """The record of every task, in their order. Rows of one video follow one another, so that a worker has its frames
    for all of them. references: video -> what ReferenceStage found."""
    order = sorted(range(len(tasks)), key=lambda i: tasks[i].video)
    plans = [ScorePlan(tasks[i], references[tasks[i].video]) for i in order]
    found = dict(zip(order, run_stage(stage, plans, options)))
    return [
        {"method": task.method, "clip": task.clip, "source": task.source, **_shared_names(found[i])}
        for i, task in enumerate(tasks)
    ]


def _shared_names(record: ClipRecord) -> ClipRecord:
    """The record with its keys interned: each came with its own copies, half of the memory of a long list."""
    return {
        sys.intern(name): _shared_names(value) if isinstance(value, dict) else value
        for name, value in record.items()
    }


@dataclass(frozen=True)
class ReferenceStage(Stage[str, "str | ClipRecord"]):
    """The regions of one reference video. A result is the key of its cached record, or a failed record."""

    config: ScoringConfig
    cache: Cache
    heartbeat_timeout: float = 0
    title = "references"
    unit = "videos"

    def setup(self) -> None:
        load_scorer(self.config)

    def item_name(self, plan: str) -> str:
        return f"reference {plan}"

    def process(self, plan: str, context: Context) -> str | ClipRecord:
        path = self.config.reference / plan
        try:
            key = self.config.reference_key(_sha256(path, Reason.REFERENCE_UNREADABLE))
        except ScoringError as error:  # without its content nothing can be cached of it
            return failed_record(error.reason, str(error))
        known = self.cache.read(key)
        if known is None or (known.get("status") == "scored" and not self.cache.has_arrays(key)):
            scorer = load_scorer(self.config)
            try:
                measured = measure_reference(path, scorer, self.config.face_config, context.heartbeat)
            except MediaError as error:
                if is_transient(error):
                    raise
                self.cache.write(key, failed_record(error.reason, str(error)))
            else:
                self.cache.write(key, *pack_reference(measured))
        context.report({"videos": 1})
        return key

    def failed(self, plan: str, failure: Failure) -> str | ClipRecord:
        record = failed_record(failure.reason, failure.detail)
        if failure.reason != Reason.WORKER_CRASHED:
            return record
        key = self.config.reference_key(file_sha256(self.config.reference / plan))
        self.cache.write(key, record)
        return key


@dataclass(frozen=True)
class ScorePlan:
    """One row to score. reference: what ReferenceStage found of its video."""

    task: Task
    reference: str | ClipRecord


@dataclass(frozen=True)
class ScoreStage(Stage[ScorePlan, ClipRecord]):
    """The scores of one clip of one method."""

    config: ScoringConfig
    cache: Cache
    title: str = "scores"
    heartbeat_timeout: float = 0
    plans_together: int = 1
    unit = "rows"

    def setup(self) -> None:
        load_scorer(self.config)

    def item_name(self, plan: ScorePlan) -> str:
        return f"{self.title}: {plan.task.clip} of {plan.task.method}"

    def process(self, plan: ScorePlan, context: Context) -> ClipRecord:
        try:
            record = ClipScoring(self.config, self.cache, plan.task, plan.reference).record(context)
        except ScoringError as error:
            record = failed_record(error.reason, str(error))
        context.report({"rows": 1, record["status"]: 1})
        return record

    def failed(self, plan: ScorePlan, failure: Failure) -> ClipRecord:
        record = failed_record(failure.reason, failure.detail)
        if failure.reason == Reason.WORKER_CRASHED:
            ClipScoring(self.config, self.cache, plan.task, plan.reference).store_crash(record)
        return record


@dataclass(frozen=True)
class ClipScoring:
    """From a task to its record: what is cached, and the families that are not."""

    config: ScoringConfig
    cache: Cache
    task: Task
    reference: str | ClipRecord
    """Key of the reference's record in the cache, or a failed record."""

    def record(self, context: Context) -> ClipRecord:
        """Plain JSON with the values of all families, and `arrays`: family -> key of its arrays in the cache.
        Raises ScoringError for what lacks a file; a failure that is a property of the files is cached."""
        reference, arrays = self._reference()
        key, output, audio = self._key(reference["facts"]["sha256"])
        cached = self.cache.read(key) or {"families": {}}
        fingerprints = self.config.family_fingerprints()
        families = cached.get("families", {})
        needed = {name for name, print_ in fingerprints.items() if not self._is_whole(families.get(print_))}
        if cached.get("status") != "failed" and (needed or "status" not in cached):
            try:
                with self._file_to_score(output, context) as file:
                    request = self._request(
                        unpack_reference(reference, arrays), file, output, needed, context
                    )
                    score = score_clip(request, load_scorer(self.config))
            except (ScoringError, MediaError) as error:
                if is_transient(error):
                    raise
                cached = failed_record(error.reason, str(error))
            else:
                cached = self._merged(key, cached, score, fingerprints)
            self.cache.write(key, cached)
        return _combined(cached, fingerprints, audio)

    def _is_whole(self, family: ClipRecord | None) -> bool:
        """Whether the cached scores of a family are there, and its arrays if it has some."""
        return family is not None and (not family["arrays"] or self.cache.has_arrays(family["arrays"]))

    def store_crash(self, record: ClipRecord) -> None:
        """Cache that the clip crashed its worker, if the clip can be identified at all."""
        try:
            reference, _ = self._reference()
            self.cache.write(self._key(reference["facts"]["sha256"])[0], record)
        except (ScoringError, OSError):
            pass  # without its files' content nothing can be cached of it

    def _reference(self) -> tuple[ClipRecord, Arrays]:
        key = self.reference
        measured = key if isinstance(key, dict) else self.cache.read(key)
        if measured is None:
            raise ScoringError(Reason.REFERENCE_UNREADABLE, "its cached record is gone: run again")
        if measured["status"] == "failed":
            unexpected = measured["reason"] == Reason.UNEXPECTED_ERROR
            reason = Reason.UNEXPECTED_ERROR if unexpected else Reason.REFERENCE_UNREADABLE
            raise ScoringError(reason, measured["detail"])
        return measured, self.cache.arrays(str(key))

    def _key(self, reference_sha256: str) -> tuple[str, str | None, str | None]:
        """Of the clip's record, and the sha256 of the output and of the driving audio, None where there is none.
        Raises ScoringError where a file that is needed is missing."""
        path = self.task.output()
        output = _sha256(path, Reason.UNREADABLE) if path else None
        audio, transcript = None, None
        if self.config.takes_driving_audio(self.task):
            audio = _sha256(self.config.reference / self.task.audio, Reason.AUDIO_UNREADABLE)
            transcript = find_transcript(self.config.reference, self.task.audio)
        return self.config.clip_key(self.task, reference_sha256, output, audio, transcript), output, audio

    @contextmanager
    def _file_to_score(self, output: str | None, context: Context) -> Iterator[Path | None]:
        """The method's file, or none for a baseline; a re-encoded file exists for as long as the body runs."""
        path = self.task.output()
        if not self.task.reencoded:
            yield path
            return
        with self.cache.scratch() as again:
            reencode(path or self.config.reference / self.task.video, again, context.heartbeat)
            yield again

    def _request(
        self, reference: Reference, file: Path | None, output: str | None, needed: set[str], context: Context
    ) -> ScoreRequest:
        task, config = self.task, self.config
        audio, audio_s, transcript = None, None, None
        if config.takes_driving_audio(task):
            audio, audio_s = _driving_audio(config.reference / task.audio, task, reference)
            transcript = find_transcript(config.reference, task.audio)
        sha256 = reference.facts.sha256
        shown = config.frames_facts(sha256, output, task.baseline.frozen, task.encoder)
        return ScoreRequest(
            reference_path=config.reference / task.video,
            reference=reference,
            output=file,
            baseline=task.baseline,
            audio=audio,
            audio_s=audio_s,
            transcript=transcript,
            crossed=task.crossed,
            families=frozenset(needed),
            frame_cache=FrameFeatureCache(self.cache, shown),
            reference_frame_cache=FrameFeatureCache(
                self.cache, config.frames_facts(sha256, None, False, None)
            ),
            reference_frames=_share_frames(config.reference / task.video, reference),
            heartbeat=context.heartbeat,
        )

    def _merged(
        self, key: str, cached: ClipRecord, score: ClipScore, fingerprints: Mapping[str, str]
    ) -> ClipRecord:
        """The record of the clip with the new families added; their arrays are written first."""
        families = dict(cached["families"])
        for name, family in score.families.items():
            arrays_key = family.cached_arrays
            if family.arrays:
                arrays_key = f"{key}-{fingerprints[name]}"
                self.cache.write_arrays(arrays_key, family.arrays)
            families[fingerprints[name]] = {
                "values": dict(family.values),
                "missing": dict(family.missing),
                "arrays": arrays_key,
            }
        return {**score.record(), "families": families}


def _sha256(path: Path, reason: Reason) -> str:
    """Of a file's content. ScoringError for a broken link or a file that may not be read; what a disk or mount does
    for a while is raised as it is."""
    try:
        return file_sha256(path)
    except OSError as error:
        if is_transient(error) and not (path.is_symlink() and not path.exists()):
            raise
        raise ScoringError(reason, f"cannot be read: {error.strerror}") from error


def _combined(cached: ClipRecord, fingerprints: Mapping[str, str], audio: str | None) -> ClipRecord:
    """The values of the families of this benchmark, in their order. audio: sha256 of the driving audio."""
    if cached["status"] == "failed":
        return cached
    record = {name: value for name, value in cached.items() if name != "families"} | {"audio_sha256": audio}
    found = {name: cached["families"][print_] for name, print_ in fingerprints.items()}
    record["values"] = {k: v for family in found.values() for k, v in family["values"].items()}
    record["missing"] = {k: v for family in found.values() for k, v in family["missing"].items()}
    record["arrays"] = {name: family["arrays"] for name, family in found.items() if family["arrays"]}
    return record


def _driving_audio(path: Path, task: Task, reference: Reference) -> tuple[np.ndarray | None, float | None]:
    """int16 [N] on the clock of frame 0, and the seconds the file lasts from there. None where a video has no sound
    of its own."""
    fps = reference.facts.fps
    try:
        start_s = reference.start_s if task.audio == task.video else sound_start(path)
        track = AudioTrack(path)
    except MediaError as error:
        if is_transient(error):
            raise
        if error.reason == Reason.NO_AUDIO and not task.crossed:
            return None, None
        raise ScoringError(Reason.AUDIO_UNREADABLE, str(error)) from error
    audio = slice_audio(track, start_s, reference.num_frames, fps)
    return shift_audio(audio, task.baseline.audio_shift, fps), track.end_s - start_s


_reference_frames: dict[tuple[Path, str], ReferenceFrames] = {}  # At most one.


def _share_frames(path: Path, reference: Reference) -> ReferenceFrames:
    """Those that the row before left in this worker, if it was of the same reference."""
    key = (path, reference.facts.sha256)
    if key not in _reference_frames:
        _reference_frames.clear()
        _reference_frames[key] = ReferenceFrames(path, reference.facts, reference.num_frames)
    return _reference_frames[key]


_scorers: dict[str, Scorer] = {}  # At most one.


def load_scorer(config: ScoringConfig) -> Scorer:
    """The landmark model and the metrics' networks, once per worker process."""
    from syncdiff_data.faces import load_backend

    key = repr(config.fingerprint())
    if key not in _scorers:
        _scorers.clear()
        needs_backend = strategy_of(config.protocol).needs_face_backend
        _scorers[key] = Scorer(
            protocol=config.protocol,
            families=config.families,
            factories={
                name: family.load(config.weights, config.device) for name, family in config.families.items()
            },
            backend=load_backend(config.face_config, config.weights, config.device)
            if needs_backend
            else None,
        )
    return _scorers[key]
