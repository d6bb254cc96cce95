"""Does the mouth open when the sound is loud? A sync number that needs no weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_data.records import SAMPLE_RATE
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
from syncdiff_eval.metrics.landmarks import mouth_opening
from syncdiff_eval.metrics.sums import PairSums

MAX_LAG = 10
"""Frames by which the sound is moved either way in search of the best fit."""
LEAST_FRAMES = 50
"""With a face, for a best lag. The best of 21 lags of an unrelated mouth has r = 0.4 on 30 frames, 0.3 on 50."""
SILENCE_DB = 20.0
"""Level, in dB over one quantisation step of 16-bit sound, under which everything counts as equally
silent."""


def loudness(audio: np.ndarray, fps: float, num_frames: int, times: np.ndarray | None = None) -> np.ndarray:
    """RMS level while each frame is shown: int16 [N] at 16 kHz to float64 [num_frames], dB, at least
    SILENCE_DB.

    Frame i covers the samples from i / fps to (i + 1) / fps; what lies beyond the sound's end is silent. times: float64
    [num_frames], seconds at which frames of a variable rate are shown; each lasts until the next, the last 1 / fps.
    """
    shown = np.arange(num_frames) / fps if times is None else times
    edges = np.round(np.append(shown, shown[-1] + 1 / fps) * SAMPLE_RATE).astype(np.int64)
    energy = np.concatenate([[0.0], np.cumsum(audio.astype(np.float64) ** 2)])
    totals = np.diff(energy[np.minimum(edges, len(audio))])
    mean_square = totals / np.maximum(np.diff(edges), 1)
    return np.maximum(10 * np.log10(np.maximum(mean_square, 1e-9)), SILENCE_DB)


def is_silent(audio: np.ndarray, fps: float, num_frames: int) -> bool:
    """Whether the sound stays at SILENCE_DB or below while every frame is shown; arguments as in `loudness`."""
    return bool(loudness(audio, fps, num_frames).max() <= SILENCE_DB)


def lagged_correlation(opening: np.ndarray, level: np.ndarray, max_lag: int = MAX_LAG) -> np.ndarray:
    """Pearson's r of two float [T] at lags -max_lag..max_lag, float64 [2 * max_lag + 1].

    Entry max_lag + k holds the fit of opening[t] with level[t + k]: a peak at k > 0 says that the sound comes
    k frames after the mouth. 0 where either side is constant, NaN at lags where under half of the frames overlap.
    """
    sums = PairSums(2 * max_lag + 1)
    sums.add(*_lagged(opening, level, 0, max_lag))
    return overlapping(sums)


def overlapping(sums: PairSums) -> np.ndarray:
    """Pearson's r at each lag, float64 [2 * max_lag + 1]; NaN where under half of the frames of lag 0 overlap, since a
    few pairs correlate by chance."""
    return np.where(2 * sums.n >= sums.n[len(sums.n) // 2], sums.correlation(), np.nan)


def _lagged(
    opening: np.ndarray, level: np.ndarray, first_frame: int, max_lag: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Openings of the frames from first_frame on beside the level at every lag, and where that level
    exists."""
    lags = np.arange(-max_lag, max_lag + 1)
    frames = first_frame + np.arange(len(opening))[:, None] + lags[None, :]
    inside = (frames >= 0) & (frames < len(level))
    shifted = level[np.clip(frames, 0, len(level) - 1)]
    return np.broadcast_to(opening[:, None], frames.shape), shifted, inside


class MouthAudio:
    """Correlation of mouth opening and loudness at lag 0, its maximum over the lags, and that lag in frames.

    The maximum is over lags at which at least half of the frames overlap, and needs LEAST_FRAMES frames. A mouth that
    does not move scores 0 and has no lag; silent sound leaves all of it undefined, for every method alike.
    """

    def __init__(self, context: ClipContext):
        self.eye_distance = context.eye_distance
        self.level = None
        if context.audio is not None:
            self.level = loudness(context.audio, context.fps, context.num_frames, context.times) / 100
        self.sums = PairSums(2 * MAX_LAG + 1)

    def update(self, batch: FrameBatch) -> None:
        if (
            batch.regions is None
            or batch.landmarks is None
            or self.eye_distance is None
            or self.level is None
        ):
            return
        present = batch.regions.present
        opening = np.zeros(len(present))
        opening[present] = mouth_opening(batch.landmarks[present]) / self.eye_distance
        x, y, inside = _lagged(opening, self.level, batch.first_frame, MAX_LAG)
        self.sums.add(x, y, inside & present[:, None])

    def merge(self, other: MouthAudio) -> None:
        self.sums.merge(other.sums)

    def compute(self) -> Values:
        reason = self._why_not()
        if reason is not None:
            return {column.name: MissingValue(reason) for column in MOUTH_AUDIO.columns}
        curve = overlapping(self.sums)
        at_zero = float(curve[MAX_LAG])
        if self.sums.n[MAX_LAG] < LEAST_FRAMES:
            too_short = MissingValue(Reason.TOO_SHORT_FOR_LAG)
            return {"mouth_audio_corr": at_zero, "mouth_audio_peak": too_short, "mouth_audio_lag": too_short}
        best = int(np.nanargmax(curve))
        moves = bool(np.nanmax(np.abs(curve)) > 0)
        return {
            "mouth_audio_corr": at_zero,
            "mouth_audio_peak": float(curve[best]),
            "mouth_audio_lag": float(best - MAX_LAG) if moves else MissingValue(Reason.MOUTH_STILL),
        }

    def _why_not(self) -> Reason | None:
        if self.level is None:
            return Reason.NO_AUDIO
        if not np.ptp(self.level):
            return Reason.SILENT_AUDIO
        if not self.sums.n[MAX_LAG]:
            return Reason.NO_FACE
        return None


def _load(weights: Mapping[str, Path], device: str) -> MetricFactory:
    del weights, device
    return MouthAudio


MOUTH_AUDIO = MetricFamily(
    name="mouth_audio",
    group=ReportGroup.MOUTH_AUDIO,
    columns=(
        Column("mouth_audio_corr", "Mouth-audio corr.", "", True, 3),
        Column("mouth_audio_peak", "Mouth-audio corr., best lag", "", True, 3),
        Column("mouth_audio_lag", "Mouth-audio lag", "frames", None, 1),
    ),
    version=3,
    load=_load,
    required_inputs=frozenset({"landmarks"}),
)
