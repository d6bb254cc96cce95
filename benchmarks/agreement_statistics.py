"""What metric_agreement.py computes from columns of scores. M methods or other rows, C clips, R resamples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from syncdiff_eval.statistics import Inference, paired_difference

IDEALS = {
    "expert_offset": 0.0,
    "mouth_audio_lag": 0.0,
    "opening_spread": 1.0,
    "opening_speed": 1.0,
    "sharpness_mouth": 1.0,
    "closure_gap": 0.0,
    "silent_motion_excess": 0.0,
}
"""What a number without a better direction is for real video."""
INFERENCE = Inference(resamples=10_000, confidence=0.95, seed=0)
LEAST_ROWS = 4
"""Of a rank correlation."""


def goodness(values: np.ndarray, name: str, higher_is_better: bool | None) -> np.ndarray:
    """The values of a metric such that higher is better: its distance from IDEALS turned round, or its direction.
    A number with neither stays as it is."""
    if name in IDEALS:
        return -np.abs(values - IDEALS[name])
    return -values if higher_is_better is False else values


def resampled_means(values: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """float [M, C], NaN where a clip has no value, and clips drawn int [R, C] -> float64 [1 + R, M]: the means over
    all clips first, then over each draw. NaN where a method has none."""
    every = np.concatenate([np.arange(values.shape[1])[None], draws])
    drawn = values[:, every]  # [M, 1 + R, C]
    known = np.isfinite(drawn)
    count = known.sum(axis=-1)
    total = np.where(known, drawn, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).T


def rank_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rho of each row of float [N, M] with that of b, [N, M] or [M]: float64 [N].

    Methods that are NaN in the first row of either side are left out; NaN under LEAST_ROWS methods, in rows with
    another NaN, and where one side does not vary.
    """
    b = np.broadcast_to(b, a.shape)
    rows = np.isfinite(a[0]) & np.isfinite(b[0])
    if rows.sum() < LEAST_ROWS:
        return np.full(len(a), np.nan)
    a, b = a[:, rows], b[:, rows]
    whole = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    ranks = [stats.rankdata(side, axis=1) - (rows.sum() + 1) / 2 for side in (a, b)]
    norm = np.sqrt((ranks[0] ** 2).sum(axis=1) * (ranks[1] ** 2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = (ranks[0] * ranks[1]).sum(axis=1) / norm
    return np.where(whole & (norm > 0), rho, np.nan)


@dataclass(frozen=True)
class Interval:
    """A number with the 2.5th and 97.5th percentile of its resamples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def interval(values: np.ndarray) -> Interval | None:
    """Of float [1 + R], the number itself first; None where it is NaN, or half of the resamples are."""
    if not np.isfinite(values[0]) or np.isfinite(values[1:]).mean() < 0.5:
        return None
    low, high = np.nanpercentile(values[1:], (2.5, 97.5))
    return Interval(float(values[0]), float(low), float(high))


@dataclass(frozen=True)
class Separation:
    """How well a metric tells real clips from degraded ones.

    auc: probability that a real clip scores better than a degraded one; None for a pooled metric. p: of no difference,
    paired by clip. real, degraded: means. n: clips that have both values.
    """

    auc: float | None
    p: float | None
    real: float
    degraded: float
    n: int

    def __str__(self) -> str:
        chance = "" if self.p is None else "<0.001" if self.p < 0.001 else f"{self.p:.3f}"
        return f"{chance}" if self.auc is None else f"{self.auc:.2f} ({chance or '–'})"


def separation(real: np.ndarray, degraded: np.ndarray) -> Separation | None:
    """Of float [C] twice, higher is better, NaN where a clip has no value; None without a clip that has both."""
    both = np.isfinite(real) & np.isfinite(degraded)
    if not both.any():
        return None
    real, degraded = real[both], degraded[both]
    above = np.sign(real[:, None] - degraded[None, :])
    difference = paired_difference(real, degraded, [str(i) for i in range(len(real))], INFERENCE)
    return Separation(
        auc=float((above.mean() + 1) / 2),
        p=difference.p if difference else None,
        real=float(real.mean()),
        degraded=float(degraded.mean()),
        n=len(real),
    )


def pooled_separation(real: np.ndarray, degraded: np.ndarray) -> Separation:
    """Of the goodness of two sets of clips, float [1 + R] each: p is twice the share of resamples in which the
    degraded set is no worse, never under 2 / (1 + R)."""
    no_worse = (1 + (degraded[1:] >= real[1:]).sum()) / len(real)
    return Separation(None, float(min(1.0, 2 * no_worse)), float(real[0]), float(degraded[0]), 0)


def closest(
    name: str, correlations: Mapping[tuple[str, str], float], families: Mapping[str, str]
) -> tuple[str, float]:
    """The metric of another family that agrees most with this one, and their rho; ("", NaN) where none is known."""
    found = [
        (rho, other)
        for (one, other), rho in correlations.items()
        if one == name and families[one] != families[other] and np.isfinite(rho)
    ]
    rho, other = max(found, default=(float("nan"), ""))
    return other, rho


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; None is a dash."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    lines += ["| " + " | ".join("–" if cell is None else str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
