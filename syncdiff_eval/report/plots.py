"""Coordinates of the page's plots, in units of the SVG viewBox. The templates draw them.

Names are left of the plotted field, one row per method in the order of the tables, at the same height in every plot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from syncdiff_eval.methods import GROUND_TRUTH, MethodType
from syncdiff_eval.report.by_type import TypeComparison
from syncdiff_eval.report.cells import TYPES, best, frames, interval, number, split_ranked
from syncdiff_eval.report.groups import ranked_metrics
from syncdiff_eval.results import MethodResult, MetricInfo, Results, Score

WIDTH, LEFT, RIGHT, TOP, ROW, FOOT = 280, 122, 272, 18, 19, 20
LONGEST_NAME = 18
"""Characters left of the field; the whole name is in the mark's title."""
SPARK_WIDTH, SPARK_HEIGHT = 160, 30
HALF_BAR = 72
DIGIT = 6.0
"""About the width of a character below an axis."""
MOST_POINTS = 150
"""Clips drawn of one method; of more, so many quantiles."""
JITTER = 5.0
"""Points lie so far above and below the line at most."""


@dataclass(frozen=True)
class Mark:
    """A method in a forest plot: a point, its interval where there is one, and the text of its tooltip."""

    name: str
    label: str
    type: MethodType
    y: float
    x: float
    low: float | None
    high: float | None
    best: bool
    words: str
    points: str = ""
    """Of single clips: a path of dots relative to y, empty where they are not drawn."""


@dataclass(frozen=True)
class Forest:
    """One metric's plot."""

    metric: MetricInfo
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    reference: float | None
    """x of real video."""
    height: float
    description: str


def forests(results: Results) -> dict[str, Forest]:
    """By metric name, for every ranked metric: marks of the ranked methods that have a number."""
    return {metric.name: _forest(results, metric, {}) for metric in ranked_metrics(results)}


def distributions(results: Results, per_clip: pa.Table) -> list[Forest]:
    """The same with the value of every clip, for every ranked metric that has one per clip; without the
    baselines, which are so far off that the methods would share a narrow strip."""
    shown = [row for row in results.methods if row.type is MethodType.REFERENCE or not row.baseline]
    results = results.model_copy(update={"methods": shown})
    metrics = [metric for metric in ranked_metrics(results) if not metric.pooled]
    return [_forest(results, metric, clip_values(per_clip, metric.name)) for metric in metrics]


def clip_values(per_clip: pa.Table, column: str) -> dict[str, np.ndarray]:
    """method -> the values of its clips that have one, ascending: float64 [n]."""
    values = per_clip[column].to_numpy().astype(np.float64)
    methods = per_clip["method"].to_numpy()
    found = {name: np.sort(values[methods == name]) for name in dict.fromkeys(methods.tolist())}
    return {name: own[: np.isfinite(own).sum()] for name, own in found.items()}


def _forest(results: Results, metric: MetricInfo, clips: Mapping[str, np.ndarray]) -> Forest:
    """clips: method -> values of single clips to draw, ascending."""
    rows = [row for row in split_ranked(results)[0] if row.scores[metric.name].mean is not None]
    truth = next((row for row in results.methods if row.name == GROUND_TRUTH.name), None)
    real = truth.scores[metric.name].mean if truth else None
    shown = [value for row in rows for value in _extent(row.scores[metric.name])]
    for row in rows:
        shown += clips[row.name][[0, -1]].tolist() if len(clips.get(row.name, ())) else []
    low, high, ticks = axis([*shown, *([] if real is None else [real])], metric.decimals)

    def x(value: float) -> float:
        return round(LEFT + (value - low) / (high - low) * (RIGHT - LEFT), 1)

    leaders = best(results, metric)
    marks = [
        _mark(row, metric, TOP + (i + 0.5) * ROW, x, row.name in leaders, clips.get(row.name, np.empty(0)))
        for i, row in enumerate(rows)
    ]
    words = [mark.words for mark in marks]
    return Forest(
        metric,
        tuple(marks),
        tuple((x(tick), label) for tick, label in ticks),
        None if real is None else x(real),
        TOP + len(rows) * ROW + FOOT,
        "; ".join(words if real is None else [*words, f"real video: {number(real, metric)}"]),
    )


def _mark(
    row: MethodResult,
    metric: MetricInfo,
    y: float,
    x: Callable[[float], float],
    best: bool,
    clips: np.ndarray,
) -> Mark:
    score = row.scores[metric.name]
    assert score.mean is not None
    facts = (number(score.mean, metric), interval(score, metric), frames(row, metric))
    return Mark(
        row.name,
        row.name if len(row.name) <= LONGEST_NAME else row.name[: LONGEST_NAME - 1] + "…",
        row.type,
        y,
        x(score.mean),
        None if score.low is None else x(score.low),
        None if score.high is None else x(score.high),
        best,
        f"{row.name} ({TYPES[row.type]}): {' '.join(fact for fact in facts if fact)}",
        dots([x(value) for value in thinned(clips).tolist()]),
    )


def thinned(values: np.ndarray) -> np.ndarray:
    """Ascending float [n]: all of them, or MOST_POINTS quantiles with both ends."""
    return values if len(values) <= MOST_POINTS else np.quantile(values, np.linspace(0, 1, MOST_POINTS))


def dots(xs: Sequence[float]) -> str:
    """A path of a dot (a line of no length with round caps) at each x. Neighbours lie at different heights, in a fixed
    order that fills -JITTER to JITTER evenly."""
    golden = (math.sqrt(5) - 1) / 2
    heights = (((i + 1) * golden % 1 - 0.5) * 2 * JITTER for i in range(len(xs)))
    return "".join(f"M{x:g} {y:.1f}h0" for x, y in zip(xs, heights))


def _extent(score: Score) -> list[float]:
    return [value for value in (score.low, score.mean, score.high) if value is not None]


def axis(values: Sequence[float], decimals: int) -> tuple[float, float, list[tuple[float, str]]]:
    """Ends of an axis that holds all values with a margin, and two to five round ticks with their labels.
    Values that are all the same get a unit of their last decimal on either side."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 10.0**-decimals
    low, high = low - room, high + room
    power = math.floor(math.log10((high - low) / 4))
    steps = (
        (factor * 10.0**power, places) for factor, places in ((1, 0), (2, 0), (2.5, 1), (5, 0), (10, -1))
    )
    step, more = next((step, places) for step, places in steps if step >= (high - low) / 4 * (1 - 1e-9))
    places = max(0, more - power)
    numbers = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    ticks = [(tick, f"{tick:z.{places}f}".replace("-", "−")) for tick in numbers]
    # Some are left out where their labels would touch.
    gap = step / (high - low) * (RIGHT - LEFT)
    every = math.ceil(max(len(label) for _, label in ticks) * DIGIT / gap)
    return low, high, ticks[:: max(1, min(every, len(ticks) - 1))]


@dataclass(frozen=True)
class Bar:
    """An interval about a zero line at x = 0, from -HALF_BAR to HALF_BAR."""

    low: float
    mean: float
    high: float


def bar_of(compared: TypeComparison) -> Bar:
    """The advantage scaled so that the farther end of its interval is at the edge. Needs `compared.advantage`."""
    assert compared.advantage is not None
    scale = HALF_BAR / max(*(abs(value) for value in compared.advantage), 1e-300)
    return Bar(*(round(value * scale, 1) for value in compared.advantage))


def value_range(curves: Iterable[np.ndarray | None]) -> tuple[float, float]:
    """Lowest and highest value of all curves, so that all are drawn on one scale; (0, 1) where there are none."""
    ends = [(float(curve.min()), float(curve.max())) for curve in curves if curve is not None and len(curve)]
    if not ends:
        return 0.0, 1.0
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return (low, high) if high > low else (low, low + 1)


def sparkline(curve: np.ndarray, ends: tuple[float, float]) -> str:
    """Points of a polyline over a field of SPARK_WIDTH by SPARK_HEIGHT. Long curves are thinned by means."""
    bins = np.array_split(curve.astype(np.float64), min(len(curve), SPARK_WIDTH))
    values = np.array([part.mean() for part in bins])
    x = np.linspace(0, SPARK_WIDTH, len(values)) if len(values) > 1 else np.array([SPARK_WIDTH / 2])
    y = SPARK_HEIGHT - 1 - (values - ends[0]) / (ends[1] - ends[0]) * (SPARK_HEIGHT - 2)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y))
