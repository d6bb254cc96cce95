"""One clip of one method: frames paired with the reference's, every metric updated, a record or a reason.

Nothing here knows about Ray. All records are plain JSON, floats written with all their digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from syncdiff_data.media import Video, read_audio
from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS, MediaError
from syncdiff_eval.cache import FrameFeatureCache
from syncdiff_eval.methods import Baseline
from syncdiff_eval.metrics.base import (
    ClipContext,
    FrameBatch,
    FrameInput,
    KeepsArrays,
    Metric,
    MetricFactory,
    MetricFamily,
    MissingValue,
    Regions,
    Values,
    reason_inapplicable,
)
from syncdiff_eval.protocols import ProtocolDefinition
from syncdiff_eval.regions import build_regions, generated_landmarks, speaker_of
from syncdiff_eval.videos import FileFacts, frames, read_facts

FRAMES_PER_BATCH = 8
"""Frames in memory at a time, of either side."""

TimedFrame = tuple[float, np.ndarray]
Heartbeat = Callable[[], None]
"""To be called at a sign of life: who shows none for long is taken to hang."""
TimestampOnly = tuple[float, None]
"""A frame nobody looks at: its time alone."""


class ScoringError(Exception):
    """A clip that cannot be scored. `reason` is one of SCORE_FAILURE_REASONS, str(error) the detail."""

    def __init__(self, reason: Reason, detail: str):
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Reference:
    """What all methods share of one reference video."""

    facts: FileFacts
    num_frames: int
    start_s: float
    regions: Regions | None
    times: np.ndarray
    """float64 [num_frames], seconds at which each frame is shown; empty where files are scored alone."""


@dataclass(frozen=True)
class Scorer:
    """Loaded once per worker process: the protocol, the metrics that can run, and the landmark model."""

    protocol: ProtocolDefinition
    families: Mapping[str, MetricFamily]
    factories: Mapping[str, MetricFactory]
    """Only of families whose weights are there."""
    backend: Any


def measure_reference(
    path: Path, scorer: Scorer, face_config: Any, heartbeat: Heartbeat = lambda: None
) -> Reference:
    """Decode the reference, follow its faces and lay the regions around the speaker. heartbeat: called once per frame.
    Raises MediaError."""
    from syncdiff_data.faces import find_tracks

    facts = read_facts(path)
    times: list[float] = []

    def images() -> Iterator[np.ndarray]:
        for time, image in frames(path):
            heartbeat()
            times.append(time)
            yield image

    if scorer.protocol.standalone:  # no regions are needed
        video = Video(path)
        num_frames = math.ceil(video.num_frames / FPS * facts.fps)
        return Reference(facts, num_frames, video.start_s, None, np.empty(0))
    tracks, _ = find_tracks(images(), scorer.backend, face_config)
    speaker = speaker_of(tracks)
    regions = None
    if speaker is not None:
        regions = build_regions(
            speaker.first_frame, speaker.landmarks, speaker.box, len(times), (facts.width, facts.height),
            scorer.protocol,
        )  # fmt: skip
    return Reference(facts, len(times), times[0], regions, np.array(times))


def score_clip(
    reference_path: Path,
    reference: Reference,
    output: Path | None,
    baseline: Baseline,
    audio: np.ndarray | None,
    crossed: bool,
    scorer: Scorer,
    frame_cache: FrameFeatureCache | None = None,
    reference_frame_cache: FrameFeatureCache | None = None,
    heartbeat: Heartbeat = lambda: None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Score one clip and return its record and the arrays its metrics keep.

    output: the method's file, or None for a baseline made from the reference. audio: the driving audio (see
    `driving_audio`). crossed: the audio is another clip's, so that frames cannot be held against the
    reference's. frame_cache: of the frames scored; reference_frame_cache: of the reference's. heartbeat: called
    at least once per batch of frames. Raises ScoringError and MediaError.
    """
    facts = read_facts(output) if output else reference.facts
    real = output is None and not baseline.frozen
    families = {name: scorer.families[name] for name in scorer.factories}
    wanted = [name for name, family in families.items() if _has_columns(family, crossed, real)]
    if scorer.protocol.standalone:
        context = _standalone_context(
            output or reference_path, None if output else audio, baseline, frame_cache, heartbeat
        )
        metrics = {name: scorer.factories[name](context) for name in wanted}
        num_frames = context.num_frames
    else:
        _check_format(reference.facts, facts, scorer.protocol)
        compares = not (crossed or real)
        context = _paired_context(reference, audio, compares, frame_cache, reference_frame_cache, heartbeat)
        metrics = {name: scorer.factories[name](context) for name in wanted}
        required_inputs = frozenset[FrameInput]().union(*(families[name].required_inputs for name in wanted))
        ours = frames(reference_path) if "reference" in required_inputs else _times_only(reference)
        theirs = _same_area(output, reference.facts) if output else _baseline_frames(reference_path, baseline)
        paired = _Paired(ours, theirs, facts.fps, scorer.protocol)
        num_frames = _update_all(
            metrics, paired, required_inputs, reference.regions, scorer.backend, heartbeat
        )
        paired.check_lengths(crossed)
    values = _compute(metrics, families, crossed, real, heartbeat)
    return _record(facts, num_frames, values), _kept_arrays(metrics)


def driving_audio(path: Path, start_s: float, num_frames: int, fps: float) -> np.ndarray:
    """int16 [N], 16 kHz mono, of at least num_frames / fps seconds from start_s on (`sound_start` where the sound is
    another file's). Raises MediaError."""
    return read_audio(path, start_s, int(np.ceil(num_frames / fps * FPS)))


def shift_audio(audio: np.ndarray, frames_late: int, fps: float) -> np.ndarray:
    """The same sound k frames later (earlier where negative), silence in the gap, the same length."""
    samples = round(frames_late * 16_000 / fps)
    shifted = np.zeros_like(audio)
    if samples >= 0:
        shifted[samples:] = audio[: max(0, len(audio) - samples)]
    else:
        shifted[:samples] = audio[-samples:]
    return shifted


def _has_columns(family: MetricFamily, crossed: bool, real: bool) -> bool:
    """Whether any of its numbers can exist for such a row."""
    return any(reason_inapplicable(column, crossed, real) is None for column in family.columns)


def _standalone_context(
    path: Path,
    audio: np.ndarray | None,
    baseline: Baseline,
    frame_cache: FrameFeatureCache | None,
    heartbeat: Heartbeat = lambda: None,
) -> ClipContext:
    """The file on its own clock, with its own sound where `audio` is None."""
    video = Video(path)
    sound = _sound_of(video) if audio is None else audio
    return ClipContext(
        FPS,
        video.num_frames,
        sound,
        None,
        video=video,
        frozen=baseline.frozen,
        frame_cache=frame_cache,
        heartbeat=heartbeat,
    )


def _sound_of(video: Video) -> np.ndarray | None:
    """None where there is no audio stream, or none that holds a sound."""
    try:
        return read_audio(video.path, video.start_s, video.num_frames)
    except MediaError as error:
        if error.reason != Reason.NO_AUDIO:
            raise
        return None


def _paired_context(
    reference: Reference,
    audio: np.ndarray | None,
    compares: bool,
    frame_cache: FrameFeatureCache | None,
    reference_frame_cache: FrameFeatureCache | None,
    heartbeat: Heartbeat,
) -> ClipContext:
    """Frames that pair with the reference's, shown at its times, under the driving audio."""
    return ClipContext(
        fps=reference.facts.fps,
        num_frames=reference.num_frames,
        audio=audio,
        eye_distance=reference.regions.eye_distance if reference.regions else None,
        regions=reference.regions,
        times=reference.times - reference.times[0],
        frame_cache=frame_cache,
        reference_frame_cache=reference_frame_cache,
        heartbeat=heartbeat,
        compares=compares,
    )


def _update_all(
    metrics: Mapping[str, Metric],
    paired: Iterable[tuple[float, np.ndarray | None, np.ndarray]],
    required_inputs: frozenset[FrameInput],
    regions: Regions | None,
    backend: Any,
    heartbeat: Heartbeat,
) -> int:
    """Feed every paired frame to every metric and return their number; ScoringError where they do not pair."""
    first = 0
    pairs = iter(paired)
    while batch := list(islice(pairs, FRAMES_PER_BATCH)):
        here = regions.span(first, first + len(batch)) if regions else None
        generated = [image for _, _, image in batch]
        landmarks = (
            generated_landmarks(backend, generated, here) if here and "landmarks" in required_inputs else None
        )
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


class _Paired:
    """Frames of both videos by index over the shorter length, their times held to the protocol's clock."""

    def __init__(
        self,
        reference: Iterator[TimedFrame] | Iterator[TimestampOnly],
        generated: Iterator[TimedFrame],
        fps: float,
        protocol: ProtocolDefinition,
    ):
        self.both = zip_longest(reference, generated)
        self.lengths = [0, 0]
        self.half_frame = 0.5 / fps
        self.protocol = protocol

    def __iter__(self) -> Iterator[tuple[float, np.ndarray | None, np.ndarray]]:
        """Seconds since the reference's first frame, its image if decoded, and the generated one."""
        starts: tuple[float, float] | None = None
        for ours, theirs in self.both:
            self.lengths[0] += ours is not None
            self.lengths[1] += theirs is not None
            if ours is None or theirs is None:
                continue
            starts = starts or (ours[0], theirs[0])
            self._check_times(ours[0] - starts[0], theirs[0] - starts[1])
            yield ours[0] - starts[0], ours[1], theirs[1]

    def _check_times(self, ours: float, theirs: float) -> None:
        if self.protocol.clock == "same" and abs(ours - theirs) > self.half_frame:
            frame = min(self.lengths) - 1
            raise ScoringError(
                Reason.FRAME_TIMES_DIFFER,
                f"frame {frame} is shown at {ours:.3f} s in the reference and {theirs:.3f} s in the output",
            )

    def check_lengths(self, crossed: bool) -> None:
        """Outputs driven by another clip's audio are as long as that audio: only the common part counts."""
        ours, theirs = self.lengths
        if theirs == 0:
            raise MediaError(Reason.UNREADABLE, "the video stream holds no frame that decodes")
        if not crossed and abs(ours - theirs) > self.protocol.max_length_gap:
            raise ScoringError(
                Reason.LENGTH_MISMATCH,
                f"{theirs} frames for {ours} of the reference; {self.protocol.max_length_gap} may differ",
            )


def _check_format(reference: FileFacts, output: FileFacts, protocol: ProtocolDefinition) -> None:
    if not (_same_side(reference.width, output.width) and _same_side(reference.height, output.height)):
        raise ScoringError(
            Reason.SIZE_MISMATCH,
            f"{output.width}x{output.height}, the reference has {reference.width}x{reference.height}",
        )
    if protocol.clock == "same" and abs(output.fps / reference.fps - 1) > protocol.fps_tolerance:
        raise ScoringError(
            Reason.FPS_MISMATCH, f"{output.fps:.3f} frames per second, the reference has {reference.fps:.3f}"
        )


def _times_only(reference: Reference) -> Iterator[TimestampOnly]:
    for time in reference.times.tolist():
        yield time, None


def _same_side(reference: int, output: int) -> bool:
    """Codecs hold even sizes only, so that writers lengthen an odd side by one pixel, right or below."""
    return output == reference + reference % 2 or output == reference


def _same_area(path: Path, reference: FileFacts) -> Iterator[TimedFrame]:
    """Frames of an output without the row and column that made an odd size even."""
    for time, image in frames(path):
        yield time, np.ascontiguousarray(image[: reference.height, : reference.width])


def _baseline_frames(path: Path, baseline: Baseline) -> Iterator[TimedFrame]:
    first: np.ndarray | None = None
    for time, image in frames(path):
        first = image if first is None else first
        yield time, first if baseline.frozen else image


def _compute(
    metrics: Mapping[str, Metric],
    families: Mapping[str, MetricFamily],
    crossed: bool,
    real: bool,
    heartbeat: Heartbeat,
) -> Values:
    """Values of every column that can exist, or why it does not."""
    values: Values = {}
    for name, family in families.items():
        heartbeat()
        computed = metrics[name].compute() if name in metrics else {}
        for column in family.columns:
            if not column.pooled:
                reason = reason_inapplicable(column, crossed, real)
                values[column.name] = MissingValue(reason) if reason else computed[column.name]
    return values


def _record(facts: FileFacts, num_frames: int, values: Values) -> dict[str, Any]:
    return {
        "status": "scored",
        "reason": None,
        "detail": None,
        "num_frames": num_frames,
        "values": {name: value for name, value in values.items() if not isinstance(value, MissingValue)},
        "missing": {
            name: str(value.reason) for name, value in values.items() if isinstance(value, MissingValue)
        },
        "facts": asdict(facts),
    }


def _kept_arrays(metrics: Mapping[str, Metric]) -> dict[str, np.ndarray]:
    """What metrics keep of this clip, as `family/array`."""
    return {
        f"{name}/{key}": value
        for name, metric in metrics.items()
        if isinstance(metric, KeepsArrays)
        for key, value in metric.arrays().items()
    }
