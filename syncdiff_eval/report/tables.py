"""leaderboard.md, leaderboard.csv, and the same table in a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from syncdiff_data.cli import for_console
from syncdiff_data.tables import plain_cell
from syncdiff_eval.report import reencoded
from syncdiff_eval.report.by_type import DIFFUSION, GAN, TypeComparison, type_comparisons
from syncdiff_eval.report.cells import (
    TYPES,
    clips_and_sources,
    comparison_mean,
    counts,
    frames,
    heading,
    interval,
    number,
    p_value,
    plain_reason,
    published_tables,
    shared,
    span,
    split_ranked,
    win_matrix,
)
from syncdiff_eval.report.groups import Group, groups
from syncdiff_eval.report.warnings import warnings
from syncdiff_eval.results import MethodResult, MetricInfo, Results


def markdown(results: Results) -> str:
    """The leaderboard as GitHub Markdown, one table per group of metrics."""
    protocol = results.protocol
    notes = warnings(results)
    parts = [
        f"# Leaderboard: {protocol.name} (version {protocol.version}), {protocol.setting}",
        f"{clips_and_sources(results)}. Each cell: mean, {protocol.confidence:.0%} interval over sources, clips "
        "scored / attempted, rank. Methods without a significant difference share a rank. Baselines and real video "
        "are not ranked.",
        *(["> **Warnings**\n>\n" + "\n".join(f"> - {note}" for note in notes)] if notes else []),
        *(part for group in groups(results) for part in _markdown_group(results, group)),
        *_markdown_types(type_comparisons(results)),
        *_markdown_win_matrix(results),
        *_markdown_reencoded(results),
    ]
    if results.published:
        parts += ["## Published numbers", "Not measured here; compare within one table only."]
        parts += _markdown_published(results)
    return "\n\n".join(parts) + "\n"


def comma_separated(results: Results) -> str:
    """The leaderboard for spreadsheets: one line per method and metric, numbers with all their digits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["protocol", "setting", "method", "type", "metric", "unit", "higher_is_better", "mean", "low", "high",
         "n_scored", "n_attempted", "mean_shared", "n_shared", "low_coverage", "rank", "reason"]
    )  # fmt: skip
    for row in results.methods:
        for metric in results.metrics:
            score = row.scores[metric.name]
            cells = [
                results.protocol.name, results.protocol.setting, row.name, row.type, metric.name, metric.unit,
                metric.higher_is_better, score.mean, score.low, score.high, score.n_scored, score.n_attempted,
                score.mean_shared, score.n_shared, score.low_coverage, score.rank, score.reason,
            ]  # fmt: skip
            writer.writerow([plain_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return out.getvalue()


def terminal(results: Results, console: Console) -> None:
    """Print the leaderboard, each group in as many tables as fit the width."""
    protocol = results.protocol
    console.print(f"[bold]{for_console(protocol.name)}[/bold] version {protocol.version}, {protocol.setting}, "
                  f"{clips_and_sources(results)}; {protocol.confidence:.0%} intervals over sources")  # fmt: skip
    for warning in warnings(results):
        console.print(f"[yellow]![/yellow] {for_console(warning)}", highlight=False)
    columns = max(1, (console.width - 24) // 21)
    for group in groups(results):
        console.print(f"\n[bold]{group.title}[/bold] {group.question}")
        for titles, reason in group.unavailable:
            console.print(f"{for_console(titles)}: {for_console(reason)}")
        for metrics in (group.metrics[i : i + columns] for i in range(0, len(group.metrics), columns)):
            console.print(_terminal_table(results, metrics))
    if results.reencoding:
        console.print(
            f"\n[bold]{reencoded.TITLE}[/bold]", *map(for_console, reencoded.notes(results)), sep="\n"
        )
        for first in range(0, len(results.reencoding), columns):
            console.print(_terminal_reencoded(results, first, first + columns))


def _terminal_table(results: Results, metrics: Sequence[MetricInfo]) -> Table:
    ranked, real = split_ranked(results)
    table = Table(box=SIMPLE_HEAD, show_lines=False, pad_edge=False)
    table.add_column("")
    for metric in metrics:
        table.add_column(for_console(heading(metric)), justify="right")
    for row in (*ranked, *real):
        lines = [for_console(_lines(row, metric, "\n")) for metric in metrics]
        table.add_row(
            f"{for_console(row.name)}\n[dim]{TYPES[row.type]}[/dim]",
            *lines,
            end_section=bool(ranked) and row is ranked[-1],
        )
    return table


def _terminal_reencoded(results: Results, start: int, stop: int) -> Table:
    """Methods `start` to `stop` - 1."""
    table = Table(box=SIMPLE_HEAD, show_lines=False, pad_edge=False)
    head, *rows = reencoded.table(results, "\n")
    for name in (head[0], *head[1:][start:stop]):
        table.add_column(for_console(name), justify="right" if name else "left")
    for metric, *cells in rows:
        table.add_row(*map(for_console, (metric, *cells[start:stop])))
    return table


def _markdown_reencoded(results: Results) -> list[str]:
    if not results.reencoding:
        return []
    head, *rows = reencoded.table(results, "<br>")
    return [f"## {reencoded.TITLE}", *reencoded.notes(results), _markdown_table(head, rows, 1)]


def _markdown_group(results: Results, group: Group) -> list[str]:
    parts = [f"## {group.title}"]
    parts += [f"{titles}: `{reason}`" for titles, reason in group.unavailable]
    if group.metrics:
        rows = [row for part in split_ranked(results) for row in part]
        cells = [
            [row.name, TYPES[row.type], *(_lines(row, m, "<br>") for m in group.metrics)] for row in rows
        ]
        parts.append(_markdown_table(["method", "type", *map(heading, group.metrics)], cells, 2))
    return parts


def _markdown_types(found: Sequence[TypeComparison]) -> list[str]:
    if not found:
        return []
    return [
        "## GAN and diffusion",
        "The best method of each type under each metric; difference: diffusion minus GAN on the clips both have.",
        _markdown_table(
            ["metric", "best GAN", "best diffusion", "difference", "p (Holm)", "better"],
            [_type_cells(compared) for compared in found],
            1,
        ),
    ]


def _type_cells(compared: TypeComparison) -> list[str]:
    best = [
        f"{number(comparison_mean(row, compared.metric), compared.metric)}<br>{row.name}"
        for row in (compared.best[GAN], compared.best[DIFFUSION])
    ]
    if compared.difference is None:
        return [heading(compared.metric), *best, "one number per method", "", ""]
    difference = number(compared.difference, compared.metric, "+")
    verdict = TYPES[compared.winner] if compared.winner else "not significant"
    if compared.p_holm is None:
        verdict = ""
    interval = span(compared.low, compared.high, compared.metric, "+")
    return [heading(compared.metric), *best, f"{difference}<br>{interval}", p_value(compared.p_holm), verdict]


def _markdown_win_matrix(results: Results) -> list[str]:
    table = win_matrix(results)
    if len(table) < 2:
        return []
    rows = [
        [name, *("" if other == name else str(n) for other, n in row.items())] for name, row in table.items()
    ]
    return [
        "## Win matrix",
        "Number of metrics under which the row's method is significantly better than the column's.",
        _markdown_table(["", *table], rows, 1),
    ]


def _markdown_published(results: Results) -> list[str]:
    parts = []
    for table in published_tables(results):
        facts = table.facts
        parts.append(
            f"{facts.dataset}, {facts.setting}. {facts.source}, {table.how}; protocol {facts.protocol}, audio "
            f"{facts.audio}."
        )
        lines = [[row.method, TYPES[row.type], *cells] for row, cells in table.rows]
        parts.append(_markdown_table(["method", "type", *table.metrics], lines, 2))
    return parts


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """words: columns that hold text, from the left; the others are aligned as numbers."""
    rule = ["---" if i < words else "---:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _lines(row: MethodResult, metric: MetricInfo, separator: str) -> str:
    """A cell's lines: the mean and its rank, the interval, the counts; or the reason."""
    score = row.scores[metric.name]
    if score.mean is None:
        return separator.join([plain_reason(score.reason or ""), counts(score)])
    rank = f" (#{score.rank})" if score.rank is not None else ""
    lines = (
        number(score.mean, metric) + rank,
        interval(score, metric),
        shared(score, metric),
        frames(row, metric),
        counts(score),
    )
    return separator.join(line for line in lines if line)
