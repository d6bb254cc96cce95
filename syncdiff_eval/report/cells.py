"""Numbers formatted as text, the same in the terminal, in Markdown and on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from syncdiff_eval.methods import MethodType
from syncdiff_eval.report.groups import groups, ordering_metric
from syncdiff_eval.results import MethodResult, MetricInfo, PublishedNumber, Results, Score

ARROWS = {True: "\u00a0↑", False: "\u00a0↓", None: ""}
"""After a no-break space."""
TYPES = {
    MethodType.GAN: "GAN",
    MethodType.DIFFUSION: "diffusion",
    MethodType.OTHER: "other",
    MethodType.REFERENCE: "real video",
}
_PUBLISHED = {"lse_c": ("LSE-C", True), "lse_d": ("LSE-D", False), "fid": ("FID", False), "psnr": ("PSNR", True),
              "ssim": ("SSIM", True), "lmd": ("LMD", False)}  # fmt: skip


def heading(metric: MetricInfo) -> str:
    """Title, unit and the direction that is better: `PSNR face (dB) ↑`."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.title}{unit}{ARROWS[metric.higher_is_better]}"


def short_heading(metric: MetricInfo) -> str:
    """The same without the unit."""
    return f"{metric.title}{ARROWS[metric.higher_is_better]}"


def number(value: float | None, metric: MetricInfo, sign: str = "") -> str:
    """With the metric's decimals and a true minus; a dash where there is none. sign: `+` prints both signs."""
    return "–" if value is None else f"{value:{sign}z.{metric.decimals}f}".replace("-", "−")


def span(low: float | None, high: float | None, metric: MetricInfo, sign: str = "") -> str:
    """`[31.20, 33.05]`, empty where there is none."""
    if low is None or high is None:
        return ""
    return f"[{number(low, metric, sign)}, {number(high, metric, sign)}]"


def interval(score: Score, metric: MetricInfo) -> str:
    """The interval of a mean."""
    return span(score.low, score.high, metric)


def counts(score: Score) -> str:
    """Clips scored over clips attempted."""
    return f"{score.n_scored}/{score.n_attempted}"


def shared(score: Score, metric: MetricInfo) -> str:
    """The mean over the clips all ranked methods share, where those are not simply the clips scored; `low coverage`
    where the method is held to no shared clips."""
    if score.low_coverage:
        return "low coverage"
    if score.n_shared in (0, score.n_scored):
        return ""
    return f"{number(score.mean_shared, metric)} on {score.n_shared} shared"


def clips_and_sources(results: Results) -> str:
    """`40 clips`, or `40 clips of 12 sources` where some share their video or speaker."""
    clips = f"{results.n_clips} clip{'s' if results.n_clips != 1 else ''}"
    if results.n_sources == results.n_clips:
        return clips
    return f"{clips} of {results.n_sources} source{'s' if results.n_sources != 1 else ''}"


def frames(row: MethodResult, metric: MetricInfo) -> str:
    """`1,024 frames` under a pooled metric, else empty."""
    counted = row.scores.get(f"{metric.name}_frames") if metric.pooled else None
    return f"{counted.mean:,.0f} frames" if counted and counted.mean is not None else ""


def p_value(p: float | None) -> str:
    if p is None:
        return "no test"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def plain_reason(reason: str) -> str:
    """A reason without underscores; a sentence stays as it is."""
    return reason if " " in reason else reason.replace("_", " ")


def failures(failed: dict[str, int]) -> str:
    """`missing output 3, unreadable 1`."""
    return ", ".join(f"{plain_reason(reason)} {n}" for reason, n in failed.items())


def split_ranked(results: Results) -> tuple[list[MethodResult], list[MethodResult]]:
    """The methods and the rows of real video.

    Methods: best first by their rank and mean under the ordering metric, then those without a rank there."""
    real = [row for row in results.methods if row.type is MethodType.REFERENCE]
    ranked = [row for row in results.methods if row.type is not MethodType.REFERENCE]
    metric = ordering_metric(results)
    if metric is None:
        return ranked, real
    sign = -1 if metric.higher_is_better else 1

    def place(row: MethodResult) -> tuple[float, float]:
        value, rank = comparison_mean(row, metric), row.scores[metric.name].rank
        return math.inf if rank is None else rank, math.inf if value is None else sign * value

    return sorted(ranked, key=place), real


def comparison_mean(row: MethodResult, metric: MetricInfo) -> float | None:
    """The mean that methods are compared by: on shared clips where there is one, else over the clips scored."""
    score = row.scores[metric.name]
    return score.mean if score.mean_shared is None else score.mean_shared


def best(results: Results, metric: MetricInfo) -> set[str]:
    """Names of the methods of rank 1, none where all share it."""
    found = {row.name: row.scores[metric.name].rank for row in results.methods}
    ranks = {name: rank for name, rank in found.items() if rank is not None}
    return {name for name, rank in ranks.items() if rank == 1} if len(set(ranks.values())) > 1 else set()


def sortable_metrics(results: Results) -> list[MetricInfo]:
    """Metrics under which two methods or more have a number, in the order of their tables."""
    rows = split_ranked(results)[0]
    shown = [metric for group in groups(results) for metric in group.metrics]
    return [m for m in shown if sum(row.scores[m.name].mean is not None for row in rows) > 1]


def with_numbers(rows: Sequence[MethodResult], metrics: Sequence[MetricInfo]) -> list[MethodResult]:
    """The rows that have a number under one of the metrics."""
    return [row for row in rows if any(row.scores[metric.name].mean is not None for metric in metrics)]


def win_matrix(results: Results) -> dict[str, dict[str, int]]:
    """Win matrix: winner -> loser -> number of metrics with a significant difference; ranked methods only. Empty where
    no pair was tested."""
    if all(comparison.p_holm is None for comparison in results.comparisons):
        return {}
    names = [row.name for row in split_ranked(results)[0] if not row.baseline]
    table = {a: dict.fromkeys(names, 0) for a in names}
    for comparison in results.comparisons:
        if comparison.winner:
            loser = comparison.b if comparison.winner == comparison.a else comparison.a
            table[comparison.winner][loser] += 1
    return table


@dataclass(frozen=True)
class PublishedTable:
    """Numbers of one source, setting, protocol and audio; only numbers of one table are comparable."""

    facts: PublishedNumber
    """Any of them."""
    how: str
    """Where in the source each was found, and who quotes it."""
    metrics: list[str]
    """Headings."""
    rows: list[tuple[PublishedNumber, list[str]]]
    """Per method any of its numbers, and a cell for each metric."""


def published_tables(results: Results) -> list[PublishedTable]:
    """In the order of the numbers."""
    found: dict[tuple[str, ...], list[PublishedNumber]] = {}
    for each in results.published:
        found.setdefault((each.source, each.setting, each.protocol, each.audio), []).append(each)
    return [_published_table(numbers) for numbers in found.values()]


def _published_table(numbers: list[PublishedNumber]) -> PublishedTable:
    metrics = [name for name in _PUBLISHED if any(each.metric == name for each in numbers)]
    rows: dict[str, tuple[PublishedNumber, list[str]]] = {}
    for each in numbers:
        _, cells = rows.setdefault(each.method, (each, ["–"] * len(metrics)))
        cells[metrics.index(each.metric)] = f"{each.value:g}"
    how = "; ".join(dict.fromkeys(each.how for each in numbers))
    if any(each.quality == "secondhand" for each in numbers):
        how += " (second-hand)"
    headings = [f"{title}{ARROWS[better]}" for title, better in (_PUBLISHED[name] for name in metrics)]
    return PublishedTable(numbers[0], how, headings, list(rows.values()))
