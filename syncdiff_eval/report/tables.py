"""leaderboard.md, leaderboard.csv, and the same table in a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from syncdiff_eval.report.cells import (
    apart,
    counts,
    heading,
    interval,
    number,
    plain_reason,
    published_table,
    shared,
    wins,
)
from syncdiff_eval.results import MethodResult, MetricInfo, Results, Score


def markdown(results: Results) -> str:
    """The leaderboard as GitHub Markdown."""
    ranked, real = apart(results)
    protocol = results.protocol
    parts = [
        f"# Leaderboard: {protocol.name} (version {protocol.version}), {protocol.setting}",
        f"{results.n_clips} clips. Each cell: mean, {protocol.confidence:.0%} interval over clips, clips "
        "scored / attempted, rank. Methods that cannot be told apart share a rank.",
        _markdown_table(ranked, results.metrics),
        *_markdown_wins(results),
        "Real video, for orientation; not ranked:",
        _markdown_table(real, results.metrics),
    ]
    if results.published:
        parts += ["Published elsewhere, not measured here; compare within one source and setting only:"]
        parts += [_markdown_published(results)]
    failures = [
        f"- {row.name}: {row.n_scored} of {row.n_attempted} scored; "
        + ", ".join(f"{plain_reason(reason)} {n}" for reason, n in row.failures.items())
        for row in results.methods
        if row.failures
    ]
    if failures:
        parts += ["Clips without a score:", "\n".join(failures)]
    return "\n\n".join(parts) + "\n"


def comma_separated(results: Results) -> str:
    """The leaderboard for spreadsheets: one line per method and metric, numbers with all their digits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["protocol", "setting", "method", "type", "metric", "unit", "higher_is_better", "mean", "low", "high",
         "n_scored", "n_attempted", "mean_shared", "n_shared", "rank", "reason"]
    )  # fmt: skip
    for row in results.methods:
        for metric in results.metrics:
            score = row.scores[metric.name]
            writer.writerow(
                [results.protocol.name, results.protocol.setting, row.name, row.type, metric.name, metric.unit,
                 metric.higher_is_better, score.mean, score.low, score.high, score.n_scored,
                 score.n_attempted, score.mean_shared, score.n_shared, score.rank, score.reason]
            )  # fmt: skip
    return out.getvalue()


def terminal(results: Results, console: Console) -> None:
    """Print the leaderboard."""
    ranked, real = apart(results)
    protocol = results.protocol
    console.print(f"[bold]{protocol.name}[/bold] version {protocol.version}, {protocol.setting}, "
                  f"{results.n_clips} clips; {protocol.confidence:.0%} intervals over clips")  # fmt: skip
    table = Table(show_lines=True)
    table.add_column("")
    for row in (*ranked, *real):
        table.add_column(row.name if row in ranked else f"{row.name}\n(real video)", justify="right")
    for metric in results.metrics:
        cells = [_lines(row.scores[metric.name], metric, "\n") for row in (*ranked, *real)]
        table.add_row(heading(metric), *cells)
    console.print(table)
    for row in results.methods:
        if row.failures:
            failures = ", ".join(f"{plain_reason(reason)} {n}" for reason, n in row.failures.items())
            console.print(f"{row.name}: {row.n_scored} of {row.n_attempted} scored; {failures}")


def _markdown_table(rows: Sequence[MethodResult], metrics: Sequence[MetricInfo]) -> str:
    lines = [
        "| method | type | " + " | ".join(heading(metric) for metric in metrics) + " |",
        "| --- | --- | " + " | ".join("---:" for _ in metrics) + " |",
    ]
    for row in rows:
        cells = [_lines(row.scores[metric.name], metric, "<br>") for metric in metrics]
        lines.append(f"| {row.name} | {row.type} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _markdown_published(results: Results) -> str:
    metrics, rows = published_table(results)
    lines = [
        f"| method | {' | '.join(metrics)} | setting | protocol | audio | source |",
        f"| --- | {' | '.join('---:' for _ in metrics)} | --- | --- | --- | --- |",
    ]
    for row, values in rows:
        cells = [f"{values[metric]:g}" if metric in values else "–" for metric in metrics]
        lines.append(
            f"| {row.method} | {' | '.join(cells)} | {row.dataset}, {row.setting} | {row.protocol} "
            f"| {row.audio} | {row.source}, {row.how} |"
        )
    return "\n".join(lines)


def _markdown_wins(results: Results) -> list[str]:
    table = wins(results)
    if len(table) < 2:
        return []
    lines = ["| | " + " | ".join(table) + " |", "| --- | " + " | ".join("---:" for _ in table) + " |"]
    lines += [
        f"| {name} | " + " | ".join("" if other == name else str(n) for other, n in row.items()) + " |"
        for name, row in table.items()
    ]
    return ["Metrics under which the row's method beats the column's:", "\n".join(lines)]


def _lines(score: Score, metric: MetricInfo, separator: str) -> str:
    """A cell's lines: the mean and its rank, the interval, the counts; or the reason."""
    if score.mean is None:
        return separator.join([plain_reason(score.reason or ""), counts(score)])
    rank = f" (#{score.rank})" if score.rank is not None else ""
    return separator.join(
        part
        for part in (
            number(score.mean, metric) + rank,
            interval(score, metric),
            shared(score, metric),
            counts(score),
        )
        if part
    )
