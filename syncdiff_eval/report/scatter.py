"""Sync against fidelity: one point per method, with both intervals. Up and to the right is better in every panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from syncdiff_eval.methods import GROUND_TRUTH, MethodType
from syncdiff_eval.report.cells import TYPES, interval, number, split_ranked
from syncdiff_eval.report.groups import ranked_metrics
from syncdiff_eval.report.plots import LONGEST_NAME, axis
from syncdiff_eval.results import MethodResult, MetricInfo, Results, Score

WIDTH, HEIGHT = 360, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 352, 18, 262
LABEL_GAP = 12.0
"""Between the baselines of two labels."""
LETTER = 5.9
"""About the width of a label's letter."""
MARK, CENTRE = 5.0, 4.0
"""Half the width of a mark, and how far a label's baseline lies below the middle of its letters."""
STEPS = (0, -8, 8, -12, 12, -18, 18)
"""Pixels up or down that a label may be moved."""
SYNC = ("expert_confidence", "lse_c")
FIDELITY = (("ssim_face",), ("identity_dlib",), ("fid_face", "frechet_centerface"))
"""A panel each: the first of them that has numbers."""


Taken = tuple[float, float, float]
"""Left, right and baseline of what a label would overlap."""


@dataclass(frozen=True)
class Point:
    """A method. x, y: ends of its intervals, None where there is none (low <= high in pixels)."""

    name: str
    label: str
    type: MethodType
    x: float
    y: float
    x_range: tuple[float, float] | None
    y_range: tuple[float, float] | None
    label_x: float
    label_y: float
    anchor: str
    words: str


@dataclass(frozen=True)
class Scatter:
    """One panel."""

    x: MetricInfo
    y: MetricInfo
    points: tuple[Point, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    real_x: float | None
    """Of real video."""
    description: str


def scatters(results: Results) -> list[Scatter]:
    """The first sync metric with numbers against each of FIDELITY that has some; empty where one side
    is missing, or under two methods."""
    ranked = {metric.name: metric for metric in ranked_metrics(results)}
    sync = next((ranked[name] for name in SYNC if name in ranked), None)
    if sync is None:
        return []
    fidelity = [next((ranked[name] for name in names if name in ranked), None) for names in FIDELITY]
    panels = [_scatter(results, sync, metric) for metric in fidelity if metric is not None]
    return [panel for panel in panels if len(panel.points) > 1]


def _scatter(results: Results, x: MetricInfo, y: MetricInfo) -> Scatter:
    rows = [
        row
        for row in split_ranked(results)[0]
        if not row.baseline and row.scores[x.name].mean is not None and row.scores[y.name].mean is not None
    ]
    if not rows:
        return Scatter(x, y, (), (), (), None, "")
    real = next((row.scores[x.name].mean for row in results.methods if row.name == GROUND_TRUTH.name), None)
    x_values = [*_extents(rows, x), *([] if real is None else [real])]
    across, x_ticks = _scale(x_values, x, LEFT, RIGHT)
    up, y_ticks = _scale(_extents(rows, y), y, BOTTOM, TOP)
    places = [(across(_mean(row, x)), up(_mean(row, y))) for row in rows]
    labels = label_places(places, [_label(row.name) for row in rows])
    points = [
        Point(
            name=row.name,
            label=_label(row.name),
            type=row.type,
            x=place[0],
            y=place[1],
            x_range=_range(row.scores[x.name], across),
            y_range=_range(row.scores[y.name], up),
            label_x=left,
            label_y=baseline,
            anchor=anchor,
            words=_words(row, x, y),
        )
        for row, place, (left, baseline, anchor) in zip(rows, places, labels)
    ]
    return Scatter(
        x, y, tuple(points), x_ticks, y_ticks, None if real is None else across(real),
        "; ".join(point.words for point in points),
    )  # fmt: skip


def _scale(
    values: Sequence[float], metric: MetricInfo, worst: float, best: float
) -> tuple[Callable[[float], float], tuple[tuple[float, str], ...]]:
    """Values to pixels, the better end at `best`, and the ticks."""
    low, high, ticks = axis(values, metric.decimals)
    if not metric.higher_is_better:
        worst, best = best, worst

    def place(value: float) -> float:
        return round(worst + (value - low) / (high - low) * (best - worst), 1)

    return place, tuple((place(tick), label) for tick, label in ticks)


def label_places(
    places: Sequence[tuple[float, float]], labels: Sequence[str]
) -> list[tuple[float, float, str]]:
    """Where each point's label begins or ends (x, baseline, SVG's text-anchor): beside the point, right rather than
    left, over no other label and, where there is room, over no point."""
    found: dict[int, tuple[float, float, str]] = {}
    points = [(x - MARK, x + MARK, y + CENTRE) for x, y in places]
    taken: list[Taken] = []
    for i in sorted(range(len(places)), key=lambda i: places[i][1]):
        x, y = places[i]
        wide = len(labels[i]) * LETTER
        sides = [(x + 8, "start"), (x - 8 - wide, "end")]
        if x + 8 + wide > RIGHT:
            sides.reverse()
        tries = [(left, y + CENTRE + step, anchor) for step in STEPS for left, anchor in sides]
        others = [*taken, *points[:i], *points[i + 1 :]]
        free = (each for each in tries if _is_free(each[0], each[0] + wide, each[1], others))
        left, anchor = sides[0]
        left, baseline, anchor = next(free, (left, _free(y + CENTRE, left, left + wide, taken), anchor))
        taken.append((left, left + wide, baseline))
        found[i] = (left if anchor == "start" else left + wide, baseline, anchor)
    return [found[i] for i in range(len(places))]


def _is_free(left: float, right: float, baseline: float, taken: Sequence[Taken]) -> bool:
    if left < LEFT or right > RIGHT + 8:
        return False
    return all(right <= a or b <= left or abs(baseline - other) >= LABEL_GAP for a, b, other in taken)


def _free(wanted: float, left: float, right: float, taken: Sequence[Taken]) -> float:
    """The baseline nearest to `wanted` that is LABEL_GAP from every label beside or over this one."""
    near = [baseline for a, b, baseline in taken if a < right and left < b]
    tries = [wanted, *(baseline + step for baseline in near for step in (-LABEL_GAP, LABEL_GAP))]
    free = [y for y in tries if all(abs(y - other) >= LABEL_GAP - 1e-6 for other in near)]
    return min(free, key=lambda y: abs(y - wanted))


def _extents(rows: Sequence[MethodResult], metric: MetricInfo) -> list[float]:
    scores = [row.scores[metric.name] for row in rows]
    return [v for score in scores for v in (score.low, score.mean, score.high) if v is not None]


def _mean(row: MethodResult, metric: MetricInfo) -> float:
    mean = row.scores[metric.name].mean
    assert mean is not None
    return mean


def _range(score: Score, place: Callable[[float], float]) -> tuple[float, float] | None:
    if score.low is None or score.high is None:
        return None
    ends = sorted((place(score.low), place(score.high)))
    return ends[0], ends[1]


def _label(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _words(row: MethodResult, x: MetricInfo, y: MetricInfo) -> str:
    cells = (
        f"{m.title} {number(row.scores[m.name].mean, m)} {interval(row.scores[m.name], m)}" for m in (x, y)
    )
    return f"{row.name} ({TYPES[row.type]}): {', '.join(cell.strip() for cell in cells)}"
