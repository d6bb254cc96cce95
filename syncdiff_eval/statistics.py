"""Bootstrap intervals, paired comparisons of methods, Holm's correction and rank groups.

The clip is the unit of resampling, since frames of one clip are not independent. Every call seeds its own generator
from the protocol, so a result does not depend on earlier calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Bootstrap:
    """resamples, confidence (0 to 1) and seed of every interval and test."""

    resamples: int
    confidence: float
    seed: int


def mean_interval(values: np.ndarray, bootstrap: Bootstrap) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean of float64 [n] (scipy.stats.bootstrap); None for n < 2."""
    if len(values) < 2:
        return None
    if not np.ptp(values):
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=bootstrap.resamples,
        confidence_level=bootstrap.confidence,
        method="percentile",
        batch=_batch(len(values)),
        rng=np.random.default_rng(bootstrap.seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over the n clips both have, its interval and the p value of a true mean of zero."""

    mean: float
    low: float
    high: float
    p: float
    n: int


def paired_difference(a: np.ndarray, b: np.ndarray, bootstrap: Bootstrap) -> PairedDifference | None:
    """Paired bootstrap of two float64 [n] on the same clips; None for n < 2.

    p is two-sided: the share of resampled means, moved to a true difference of zero, that lie at least as far
    from zero as the one observed, with one added to both counts (Efron and Tibshirani 1993, section 16.4;
    Davison and Hinkley 1997, equation 4.11). On few clips the bootstrap's p is too small, so p is at least
    2^(1 - n), the sign test's p for n differences of one sign: under 6 clips nothing is significant at 5 %.
    """
    if len(a) < 2:
        return None
    differences = a - b
    observed = float(differences.mean())
    means = _resampled_means(differences, bootstrap)  # float64 [resamples]
    tail = (1 - bootstrap.confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    # Rounding must not exclude values that are equal in exact arithmetic.
    tolerance = 1e-12 * max(1.0, float(np.abs(differences).max()))
    extreme = int(np.sum(np.abs(means - observed) >= abs(observed) - tolerance))
    p = max((extreme + 1) / (bootstrap.resamples + 1), 2.0 ** (1 - len(a)))
    return PairedDifference(observed, float(low), float(high), p, len(differences))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values of one family of tests by Holm's step-down procedure (Holm 1979), in the given
    order."""
    adjusted = [1.0] * len(p)
    running = 0.0
    for step, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, min(1.0, (len(p) - step) * p[i]))
        adjusted[i] = running
    return adjusted


def rank_groups(
    means: Mapping[str, float], wins: set[tuple[str, str]], higher_is_better: bool
) -> dict[str, int]:
    """Rank of every method; methods without a significant difference share one.

    means: by method. wins: (winner, loser) of every significant difference. Sorted by mean, a new group begins only
    where every method above wins against every method from there on, as in the WMT's clusters (Koehn 2012). The rank
    is the place of the group's first method.
    """
    order = sorted(means, key=lambda name: (-means[name] if higher_is_better else means[name], name))
    ranks, rank = {}, 1
    for place, name in enumerate(order):
        above, below = order[:place], order[place:]
        if place and all((better, worse) in wins for better in above for worse in below):
            rank = place + 1
        ranks[name] = rank
    return ranks


def _resampled_means(values: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """Means of `resamples` draws of n clips with replacement, float64 [resamples]."""
    rng = np.random.default_rng(bootstrap.seed)
    n, batch = len(values), _batch(len(values))
    sizes = [min(batch, bootstrap.resamples - done) for done in range(0, bootstrap.resamples, batch)]
    return np.concatenate([values[rng.integers(0, n, (size, n))].mean(axis=1) for size in sizes])


def _batch(n: int) -> int:
    """Resamples drawn at a time: at most about 32 MB of indices."""
    return max(1, 4_000_000 // n)
