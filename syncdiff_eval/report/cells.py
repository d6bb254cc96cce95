"""Numbers as people read them, the same in the terminal, in Markdown and on the page."""

from __future__ import annotations

from syncdiff_eval.methods import MethodType
from syncdiff_eval.results import MethodResult, MetricInfo, PublishedNumber, Results, Score

ARROWS = {True: "↑", False: "↓", None: ""}


def heading(metric: MetricInfo) -> str:
    """Title, unit and the direction that is better: `PSNR face (dB) ↑`."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.title}{unit} {ARROWS[metric.higher_is_better]}".strip()


def number(value: float | None, metric: MetricInfo) -> str:
    """With the metric's decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.{metric.decimals}f}"


def interval(score: Score, metric: MetricInfo) -> str:
    """`[31.20, 33.05]`, empty where there is none."""
    if score.low is None or score.high is None:
        return ""
    return f"[{number(score.low, metric)}, {number(score.high, metric)}]"


def counts(score: Score) -> str:
    """Clips scored over clips attempted."""
    return f"{score.n_scored}/{score.n_attempted}"


def shared(score: Score, metric: MetricInfo) -> str:
    """The mean over the clips all ranked methods share, where those are not simply the clips scored."""
    if score.n_shared in (0, score.n_scored):
        return ""
    return f"{number(score.mean_shared, metric)} on {score.n_shared} shared"


def wins(results: Results) -> dict[str, dict[str, int]]:
    """winner -> loser -> number of metrics under which the difference is significant; ranked methods only."""
    names = [row.name for row in apart(results)[0]]
    table = {a: dict.fromkeys(names, 0) for a in names}
    for comparison in results.comparisons:
        if comparison.winner:
            loser = comparison.b if comparison.winner == comparison.a else comparison.a
            table[comparison.winner][loser] += 1
    return table


def published_table(results: Results) -> tuple[list[str], list[tuple[PublishedNumber, dict[str, float]]]]:
    """Metrics that occur, and one row per method and setting: any of its numbers, and all of them by metric."""
    rows: dict[tuple[str, ...], tuple[PublishedNumber, dict[str, float]]] = {}
    for number in results.published:
        key = (number.source, number.setting, number.method, number.protocol)
        rows.setdefault(key, (number, {}))[1][number.metric] = number.value
    return sorted({number.metric for number in results.published}), list(rows.values())


def plain_reason(reason: str) -> str:
    """A reason without underscores; a sentence stays as it is."""
    return reason if " " in reason else reason.replace("_", " ")


def apart(results: Results) -> tuple[list[MethodResult], list[MethodResult]]:
    """The ranked methods, and real video, which is printed apart."""
    real = [row for row in results.methods if row.type is MethodType.REFERENCE]
    return [row for row in results.methods if row.type is not MethodType.REFERENCE], real
