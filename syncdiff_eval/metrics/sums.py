"""Mergeable sums behind a correlation, and the mean over clips whose states cannot be summed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from syncdiff_eval.metrics.base import MissingValue, Values


class PairSums:
    """Float64 sums of x, y and their products for K correlations side by side: Pearson's r of parts seen one
    by one.

    A variance is a difference of sums here; it counts as zero below 1e-12 of the mean square.
    """

    def __init__(self, columns: int = 1):
        self.n = np.zeros(columns)
        self.moments = np.zeros((5, columns))

    def add(self, x: np.ndarray, y: np.ndarray, keep: np.ndarray | None = None) -> None:
        """Add pairs x, y [n, K]; keep, bool [n, K], leaves the others out."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        weight = np.ones(x.shape) if keep is None else keep.astype(np.float64)
        self.n += weight.sum(axis=0)
        self.moments += (np.stack([x, y, x * x, y * y, x * y]) * weight).sum(axis=1)

    def merge(self, other: PairSums) -> None:
        self.n += other.n
        self.moments += other.moments

    def variances(self) -> tuple[np.ndarray, np.ndarray]:
        """Of x and of y, [K] each; 0 where constant."""
        n = np.maximum(self.n, 1)
        squares = self.moments[2:4] / n
        spread = squares - (self.moments[:2] / n) ** 2
        spread = np.where(spread > 1e-12 * squares, spread, 0.0)
        return spread[0], spread[1]

    def covariance(self) -> np.ndarray:
        """Of x with y, [K]."""
        n = np.maximum(self.n, 1)
        products: np.ndarray = self.moments[4] / n - self.moments[0] * self.moments[1] / n**2
        return products

    def correlation(self) -> np.ndarray:
        """Pearson's r [K]; 0 where either side is constant."""
        variance_x, variance_y = self.variances()
        scale = np.sqrt(variance_x * variance_y)
        known = scale > 0
        return np.where(known, np.clip(self.covariance() / np.where(known, scale, 1), -1, 1), 0.0)


class WholeClip:
    """A metric that reads a clip as one: parts of it cannot be read apart and put together, so merging adds clips."""

    def __init__(self) -> None:
        self._others: list[Values] = []

    def _own(self) -> Values:
        """Of this clip alone."""
        raise NotImplementedError

    def merge(self, other: WholeClip) -> None:
        self._others += [other._own(), *other._others]

    def compute(self) -> Values:
        """Of the clip; over several, the mean of those that have a value."""
        return mean_of_clips([self._own(), *self._others])


def mean_of_clips(clips: Sequence[Values]) -> Values:
    """Of each column, the mean over the clips that have a value; where none has, the first clip's reason."""
    means: Values = {}
    for name, first in clips[0].items():
        scored = [value for clip in clips if not isinstance(value := clip[name], MissingValue)]
        means[name] = float(np.mean(scored)) if scored else first
    return means
