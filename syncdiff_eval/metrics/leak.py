"""The leak test: how much of the source's own mouth motion is left where another sound drives the video?

KeySync's LipLeak (Bigata et al. 2025, arXiv:2505.00497) asks how a generated mouth moves when silence is fed. It has no
public code, and it does not weigh in how much the source's mouth moved. These numbers do. They need crossed pairs:
silence, or another clip's sound. Every one is 0 where nothing leaks and 1 where the source's frames are copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS
from syncdiff_eval.metrics.base import (
    ClipContext,
    Column,
    FrameBatch,
    MetricFactory,
    MetricFamily,
    MissingValue,
    ReportGroup,
    Values,
)
from syncdiff_eval.metrics.landmarks import mouth_opening, why_still
from syncdiff_eval.metrics.mouth_audio import is_silent
from syncdiff_eval.metrics.sums import PairSums, WholeClip
from syncdiff_eval.networks.mouth_crops import Mouths

if TYPE_CHECKING:
    from syncdiff_eval.networks.lip_reader import LipReader

MIN_SECONDS = 1.0
"""Of frames with a face: less says little of how a mouth moves."""
EDGE = 2
"""Frames at either end whose lip features see beyond the clip: they depend on where it ends, on both sides alike."""


def motion_ratio(source: np.ndarray, generated: np.ndarray) -> float:
    """Standard deviation of the generated mouth's opening over that of the source's: float [T] each.

    Under silent sound: 0 for a quiet mouth, 1 for one that moves as much as the source's does.
    """
    return _ratio(_sums(source[:, None], generated[:, None]))


def shared_motion(source: np.ndarray, generated: np.ndarray) -> float:
    """How much of the motion of generated is the source's, -1 to 1: float [T, K] each, a row for each frame.

    The correlation over time, times the ratio of the spreads where the generated side moves less: what hardly moves
    leaks little, even if its jitter follows the source. 1 for a copy, 0 for a still mouth or an uncorrelated one.
    """
    return _shared(_sums(source, generated))


def _sums(source: np.ndarray, generated: np.ndarray) -> PairSums:
    sums = PairSums(source.shape[1])
    sums.add(source, generated)
    return sums


def _ratio(sums: PairSums) -> float:
    source, generated = (float(variance.sum()) for variance in sums.variances())
    return float(np.sqrt(generated / source)) if source else 0.0


def _shared(sums: PairSums) -> float:
    source, generated = (float(variance.sum()) for variance in sums.variances())
    scale = np.sqrt(source * max(source, generated))
    return float(np.clip(sums.covariance().sum() / scale, -1, 1)) if scale else 0.0


class Leak:
    """Generated and source mouth opening, from landmarks."""

    def __init__(self, context: ClipContext):
        self._why_not = why_still(context)
        self._eye_distance = context.eye_distance
        self._fewest = MIN_SECONDS * context.fps
        self._silent = context.audio is not None and is_silent(context.audio, context.fps, context.num_frames)
        self._openings = PairSums()

    def update(self, batch: FrameBatch) -> None:
        if batch.regions is None or batch.landmarks is None or self._eye_distance is None:
            return
        present = batch.regions.present
        source, generated = (
            mouth_opening(landmarks[present])[:, None] / self._eye_distance
            for landmarks in (batch.regions.landmarks, batch.landmarks)
        )
        self._openings.add(source, generated)

    def merge(self, other: Leak) -> None:
        self._openings.merge(other._openings)

    def compute(self) -> Values:
        why_not = self._why_not
        if why_not is None and self._openings.n[0] < self._fewest:
            why_not = Reason.TOO_SHORT_FOR_LEAK
        if why_not is not None:
            return {column.name: MissingValue(why_not) for column in LEAK.columns}
        return {
            "leak_motion": _ratio(self._openings) if self._silent else MissingValue(Reason.SOUND_NOT_SILENT),
            "leak_corr": _shared(self._openings),
        }


class LipLeak(WholeClip):
    """Generated and source lips as AV-HuBERT's lip reader sees them, frame by frame.

    Not the transformer's output that AVS compares: near a clip's ends it depends on the position in time more than on
    the lips, on both sides alike, so that an unrelated mouth, or a frozen one, would correlate with the source.
    """

    def __init__(self, context: ClipContext, reader: LipReader):
        super().__init__()
        self._context = context
        self._reader = reader
        self._mouths = Mouths(context, with_reference=True)

    def update(self, batch: FrameBatch) -> None:
        self._mouths.update(batch)

    def _own(self) -> Values:
        return {"leak_avs": self._leak()}

    def _leak(self) -> float | MissingValue:
        mouths, why_not = self._mouths.finish(), why_still(self._context)
        if why_not is not None:
            return MissingValue(why_not)
        if isinstance(mouths, MissingValue):
            return mouths
        if mouths.shape[1] < MIN_SECONDS * FPS:
            return MissingValue(Reason.TOO_SHORT_FOR_LEAK)
        caches = (self._context.frame_cache, self._context.reference_frame_cache)
        generated, source = (
            self._reader.lip_features(side, frame_cache, self._context.heartbeat)
            for side, frame_cache in zip(mouths, caches)
        )
        return shared_motion(source[EDGE:-EDGE], generated[EDGE:-EDGE])


def _load(weights: Mapping[str, Path], device: str) -> MetricFactory:
    del weights, device
    return Leak


def _load_reader(weights: Mapping[str, Path], device: str) -> MetricFactory:
    from syncdiff_eval.networks.lip_reader import load_reader

    reader = load_reader(weights["avhubert-base"], device)
    return lambda context: LipLeak(context, reader)


LEAK = MetricFamily(
    name="leak",
    group=ReportGroup.LEAK,
    columns=(
        Column("leak_motion", "Leak: motion in silence", "", False, 3, crossed_only=True),
        Column("leak_corr", "Leak: opening of the source's mouth", "", False, 3, crossed_only=True),
    ),
    version=1,
    load=_load,
    required_inputs=frozenset({"landmarks"}),
)
LEAK_AVS = MetricFamily(
    name="leak-avs",
    group=ReportGroup.LEAK,
    columns=(Column("leak_avs", "Leak: the source's lips", "", False, 3, crossed_only=True),),
    version=1,
    load=_load_reader,
    weights=("avhubert-base",),
    required_inputs=frozenset({"reference"}),
)
