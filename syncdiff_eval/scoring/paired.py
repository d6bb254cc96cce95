"""Paired scoring: frame i of an output against frame i of the reference, under the driving audio."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from syncdiff_data.records import MediaError
from syncdiff_data.stage import is_transient
from syncdiff_eval.metrics.base import ClipContext, FrameBatch, FrameInput, Metric, Regions
from syncdiff_eval.regions import build_regions, generated_landmarks, speaker_of
from syncdiff_eval.scoring.base import (
    ClipScore,
    Heartbeat,
    Reference,
    Scorer,
    ScoreRequest,
    applies,
    baseline_frames,
    compute_families,
    requested_families,
)
from syncdiff_eval.scoring.frame_pairs import FramePairs, TimestampOnly, check_format
from syncdiff_eval.scoring.reference_frames import ReferenceFrames
from syncdiff_eval.scoring.sound import driving_audio, sound_lag
from syncdiff_eval.videos import FileFacts, TimedFrame, frames, read_facts, sound_start

FRAMES_PER_BATCH = 8
"""Frames in memory at a time, of either side."""


class PairedScoring:
    """Regions come from the reference's speaker and are shared by all methods."""

    needs_face_backend = True
    outputs_bring_audio = False
    frames_depend_on_reference = True

    def measure_reference(
        self, path: Path, scorer: Scorer, face_config: Any, heartbeat: Heartbeat = lambda: None
    ) -> Reference:
        """Decode the reference, track its faces and lay the regions around the speaker. Raises MediaError."""
        from syncdiff_data.faces import find_tracks

        facts = read_facts(path)
        times: list[float] = []

        def images() -> Iterator[np.ndarray]:
            for time, image in frames(path):
                heartbeat()
                times.append(time)
                yield image

        tracks, _ = find_tracks(images(), scorer.backend, face_config)
        speaker = speaker_of(tracks)
        regions = None
        if speaker is not None:
            regions = build_regions(
                speaker.first_frame, speaker.landmarks, speaker.box, len(times), (facts.width, facts.height),
                scorer.protocol,
            )  # fmt: skip
        return Reference(facts, len(times), times[0], regions, np.array(times))

    def score(self, request: ScoreRequest, scorer: Scorer) -> ClipScore:
        reference = request.reference
        facts = _output_facts(request)
        check_format(reference.facts, facts, scorer.protocol)
        # Families whose columns cannot exist for this row get no metric, and cause no decoding.
        families = requested_families(request, scorer)
        wanted = [name for name in families if applies(families[name], request)]
        shared = request.reference_frames or ReferenceFrames(
            request.reference_path, reference.facts, reference.num_frames
        )
        context = _context(request, shared)
        metrics = {name: scorer.factories[name](context) for name in wanted}
        inputs = frozenset[FrameInput]().union(*(families[name].required_inputs for name in wanted))
        # Two streams of (time, image) -> pairs by index -> batches -> metrics.
        pairs = FramePairs(
            _reference_frames(request, shared, inputs),
            _output_frames(request, shared),
            reference.facts,
            facts,
            scorer.protocol,
        )
        num_frames = _update_all(metrics, pairs, inputs, reference.regions, scorer.backend, request.heartbeat)
        pairs.check_lengths(request.crossed, request.audio_s)
        return ClipScore(num_frames, facts, compute_families(metrics, families, request))


def _output_facts(request: ScoreRequest) -> FileFacts:
    """Of the output, with its sound's lag; of the reference for a baseline."""
    if request.output is None:
        return request.reference.facts
    facts = read_facts(request.output)
    if request.audio is None or not facts.has_audio:
        return facts
    fps = request.reference.facts.fps
    try:
        own = driving_audio(request.output, sound_start(request.output), request.reference.num_frames, fps)
    except MediaError as error:
        if is_transient(error):
            raise
        return facts  # the sound of a file that is scored with another one
    return replace(facts, sound_lag_s=sound_lag(own, request.audio))


def _context(request: ScoreRequest, shared: ReferenceFrames) -> ClipContext:
    """Frames are shown at the reference's times, whatever times the output declares."""
    reference = request.reference
    return ClipContext(
        fps=reference.facts.fps,
        num_frames=reference.num_frames,
        audio=request.audio,
        eye_distance=reference.regions.eye_distance if reference.regions else None,
        regions=reference.regions,
        times=reference.times - reference.times[0],
        frame_cache=request.frame_cache,
        reference_frame_cache=request.reference_frame_cache,
        once=shared.once,
        heartbeat=request.heartbeat,
        transcript=request.transcript,
        compares=not (request.crossed or request.real),
    )


def _reference_frames(
    request: ScoreRequest, shared: ReferenceFrames, inputs: frozenset[FrameInput]
) -> Iterator[TimedFrame] | Iterator[TimestampOnly]:
    """Its frames, or their times alone where no metric needs the images."""
    if "reference" in inputs:
        return shared.frames()
    return ((time, None) for time in request.reference.times.tolist())


def _output_frames(request: ScoreRequest, shared: ReferenceFrames) -> Iterator[TimedFrame]:
    if request.output is None:
        return baseline_frames(shared.frames(), request.baseline)
    return _same_area(request.output, request.reference.facts)


def _same_area(path: Path, reference: FileFacts) -> Iterator[TimedFrame]:
    """Frames of an output without the row and column that made an odd size even."""
    for time, image in frames(path):
        yield time, np.ascontiguousarray(image[: reference.height, : reference.width])


def _update_all(
    metrics: Mapping[str, Metric],
    pairs: Iterable[tuple[float, np.ndarray | None, np.ndarray]],
    inputs: frozenset[FrameInput],
    regions: Regions | None,
    backend: Any,
    heartbeat: Heartbeat,
) -> int:
    """Update every metric with every pair of frames and return their number; ScoringError where they do not pair."""
    first = 0
    iterator = iter(pairs)
    while batch := list(islice(iterator, FRAMES_PER_BATCH)):
        # B pairs -> the regions of these B frames, and the landmarks inside of them.
        here = regions.span(first, first + len(batch)) if regions else None
        generated = [image for _, _, image in batch]
        landmarks = generated_landmarks(backend, generated, here) if here and "landmarks" in inputs else None
        frame_batch = FrameBatch(
            first_frame=first,
            reference=[image for _, image, _ in batch if image is not None],
            generated=generated,
            regions=here,
            landmarks=landmarks,
            times=tuple(time for time, _, _ in batch),
        )
        for metric in metrics.values():
            metric.update(frame_batch)
        first += len(batch)
        heartbeat()
    return first
