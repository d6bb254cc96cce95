"""What both strategies share: the request, the loaded metrics, and the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_eval.cache import FrameFeatureCache
from syncdiff_eval.methods import Baseline
from syncdiff_eval.metrics.base import (
    CachesArrays,
    KeepsArrays,
    Metric,
    MetricFactory,
    MetricFamily,
    MissingValue,
    Regions,
    finite,
    reason_inapplicable,
)
from syncdiff_eval.protocols import ProtocolDefinition
from syncdiff_eval.scoring.reference_frames import ReferenceFrames
from syncdiff_eval.videos import FileFacts, TimedFrame

Heartbeat = Callable[[], None]
"""Called whenever the work advances; a worker that sends none for long is ended."""


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
    """float64 [num_frames], seconds at which each frame is shown; empty under standalone protocols."""


@dataclass(frozen=True)
class Scorer:
    """Loaded once per worker process: the protocol, the metrics that can run, and the landmark model."""

    protocol: ProtocolDefinition
    families: Mapping[str, MetricFamily]
    factories: Mapping[str, MetricFactory]
    """Only of families whose weights are there."""
    backend: Any


@dataclass(frozen=True)
class ScoreRequest:
    """One clip of one method."""

    reference_path: Path
    reference: Reference
    output: Path | None = None
    """The method's file, or None for a baseline made from the reference."""
    baseline: Baseline = field(default_factory=Baseline)
    audio: np.ndarray | None = None
    """The driving audio (see `driving_audio`), int16 [N], 16 kHz mono, sample 0 at the time of frame 0."""
    audio_s: float | None = None
    """Seconds that the driving audio's file lasts from there on; None where that is not known."""
    transcript: str | None = None
    """The words of the driving audio; None where they are not known."""
    crossed: bool = False
    """The audio is another clip's, so that frames cannot be compared with the reference's."""
    families: frozenset[str] | None = None
    """Score only these families; None: all of the scorer's."""
    frame_cache: FrameFeatureCache | None = None
    """Of the frames that are scored."""
    reference_frame_cache: FrameFeatureCache | None = None
    reference_frames: ReferenceFrames | None = None
    """Shared with other rows of the same reference; None: with none."""
    heartbeat: Heartbeat = field(default=lambda: None)

    @property
    def real(self) -> bool:
        """Whether the frames are the reference's own."""
        return self.output is None and not self.baseline.frozen


@dataclass(frozen=True)
class FamilyScore:
    """The numbers of one family of metrics for one clip."""

    values: Mapping[str, float]
    missing: Mapping[str, str]
    """Column -> reason, one of MISSING_VALUE_REASONS."""
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What the metric keeps beside its numbers."""
    cached_arrays: str | None = None
    """Key of the cache's entry that holds the arrays already; `arrays` is then empty."""


@dataclass(frozen=True)
class ClipScore:
    """Everything that scoring one clip gives."""

    num_frames: int
    facts: FileFacts
    families: Mapping[str, FamilyScore]

    @property
    def values(self) -> dict[str, float]:
        return {name: value for family in self.families.values() for name, value in family.values.items()}

    @property
    def missing(self) -> dict[str, str]:
        return {name: reason for family in self.families.values() for name, reason in family.missing.items()}

    def record(self) -> dict[str, Any]:
        """The plain JSON of a scored clip, without its families."""
        return {
            "status": "scored",
            "reason": None,
            "detail": None,
            "num_frames": self.num_frames,
            "facts": asdict(self.facts),
        }


class ScoringStrategy(Protocol):
    """How the protocols of one kind measure references and score clips."""

    needs_face_backend: bool
    outputs_bring_audio: bool
    """A method's file is scored with its own sound; baselines always take the driving audio."""
    frames_depend_on_reference: bool
    """What a metric makes of an output's frames depends on the reference's regions too."""

    def measure_reference(
        self, path: Path, scorer: Scorer, face_config: Any, heartbeat: Heartbeat = lambda: None
    ) -> Reference: ...

    def score(self, request: ScoreRequest, scorer: Scorer) -> ClipScore: ...


def requested_families(request: ScoreRequest, scorer: Scorer) -> dict[str, MetricFamily]:
    """The families to score, those without a column that can exist for such a row included."""
    return {
        name: scorer.families[name]
        for name in scorer.factories
        if request.families is None or name in request.families
    }


def applies(family: MetricFamily, request: ScoreRequest) -> bool:
    """Whether any of the family's numbers can exist for such a row."""
    return any(
        reason_inapplicable(column, request.crossed, request.real) is None for column in family.columns
    )


def compute_families(
    metrics: Mapping[str, Metric], families: Mapping[str, MetricFamily], request: ScoreRequest
) -> dict[str, FamilyScore]:
    """metrics: the updated ones; families that lack one do not apply to the row."""
    scores = {}
    for name, family in families.items():
        request.heartbeat()
        metric = metrics.get(name)
        computed = metric.compute() if metric else {}
        values, missing = {}, {}
        for column in family.columns:
            if column.pooled:
                continue
            reason = reason_inapplicable(column, request.crossed, request.real)
            value = MissingValue(reason) if reason else finite(computed[column.name])
            if isinstance(value, MissingValue):
                missing[column.name] = str(value.reason)
            else:
                values[column.name] = value
        key = metric.cached_arrays() if isinstance(metric, CachesArrays) else None
        arrays: Mapping[str, np.ndarray] = (
            metric.arrays() if key is None and isinstance(metric, KeepsArrays) else {}
        )
        scores[name] = FamilyScore(values, missing, arrays, key)
    return scores


def baseline_frames(reference: Iterable[TimedFrame], baseline: Baseline) -> Iterator[TimedFrame]:
    """The reference's frames as the baseline shows them."""
    first: np.ndarray | None = None
    for time, image in reference:
        first = image if first is None else first
        yield time, first if baseline.frozen else image
