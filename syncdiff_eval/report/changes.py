"""What changed between two reports, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from syncdiff_data.cli import for_console
from syncdiff_eval.compare import MethodChange, MetricChange, ReportComparison
from syncdiff_eval.differences import Difference
from syncdiff_eval.report.cells import heading, number, p_value, span

LISTED = 10
"""Differences and names that are listed of each kind."""


def print_comparison(found: ReportComparison, console: Console) -> None:
    """Print settings and clips that differ, methods of one report only, and a table of scores for each of both."""
    _print_differences("Settings", found.settings, console)
    _print_differences("Clips", found.clips, console)
    for report, names in (("first", found.only_a), ("second", found.only_b)):
        if names:
            console.print(f"Methods of the {report} report only: {_listed(names)}", highlight=False)
    console.print(
        f"Compared on {found.n_clips} clips that both have. Differences: second less first, with "
        f"{found.confidence:.0%} intervals; p of each difference alone, not corrected for their number.",
        highlight=False,
    )
    for method in found.methods:
        _print_method(method, console)


def _print_differences(title: str, differences: Sequence[Difference], console: Console) -> None:
    if not differences:
        console.print(f"{title}: the same")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in (title, "first", "second"):
        table.add_column(name, overflow="fold")
    for each in differences[:LISTED]:
        table.add_row(*map(for_console, (each.what, *each.brief)))
    console.print(table)
    if len(differences) > LISTED:
        console.print(f"and {len(differences) - LISTED} more\n", highlight=False)


def _print_method(method: MethodChange, console: Console) -> None:
    console.print(f"\n[bold]{for_console(method.name)}[/bold] {_files(method)}", highlight=False)
    for report, clips in (("first", method.scored_in_a), ("second", method.scored_in_b)):
        if clips:
            console.print(f"scored in the {report} report only: {_listed(clips)}", highlight=False)
    changed = [change for change in method.metrics if not change.is_same]
    if changed:
        console.print(_table(changed))
    elif method.metrics:
        console.print("all numbers are the same")
    else:
        console.print("no number in both")


def _files(method: MethodChange) -> str:
    """`40 files, 2 of them others`."""
    n = method.n_same_files + method.n_other_files
    return f"{n} file{'s' if n != 1 else ''} in both, {method.n_other_files or 'none'} changed"


def _table(changes: Sequence[MetricChange]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in ("first", "second", "difference", "p", "clips"):
        table.add_column(name, justify="right", no_wrap=True)
    for change in changes:
        table.add_row(for_console(heading(change.metric)), *map(for_console, _cells(change)))
    return table


def _cells(change: MetricChange) -> list[str]:
    metric, paired = change.metric, change.paired
    sides = [number(change.a, metric), number(change.b, metric)]
    if paired is None:
        return [*sides, number(change.b - change.a, metric, "+"), "no test", "pooled"]
    interval = span(paired.low, paired.high, metric, "+")
    difference = f"{number(paired.mean, metric, '+')} {interval}".strip()
    return [*sides, difference, p_value(paired.p), str(paired.n)]


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - LISTED
    return for_console(", ".join(names[:LISTED])) + (f" and {rest} more" if rest > 0 else "")
