"""Changes of the metrics when files are re-encoded once, as cells for Markdown and the terminal."""

from __future__ import annotations

from syncdiff_eval.report.cells import failures, heading, number, plain_reason
from syncdiff_eval.results import MetricInfo, Reencoding, Results, Shift

TITLE = "Re-encoded once"


def notes(results: Results) -> list[str]:
    """Description of the table, and the files without a score after re-encoding."""
    encoder = results.reencoding[0].encoder
    return [
        f"Every file re-encoded once with {encoder} and scored again. Each cell: mean change, mean and largest "
        "absolute change, clips. Smaller differences between methods may come from encoding. These numbers do not "
        "enter the means above.",
        *(
            f"{row.method}: {failures(row.failures)} of {row.n_attempted} once re-encoded."
            for row in results.reencoding
            if row.failures
        ),
    ]


def table(results: Results, separator: str) -> list[list[str]]:
    """A line of headings, then one per metric that ran on some file or lacks its weights; lines within a cell are
    joined by `separator`."""
    metrics = [
        metric
        for metric in results.metrics
        if not metric.pooled
        and (metric.not_available or any(row.shifts[metric.name].n_reencoded for row in results.reencoding))
    ]
    return [
        ["", *(row.method for row in results.reencoding)],
        *(
            [heading(metric), *(separator.join(_lines(row, metric)) for row in results.reencoding)]
            for metric in metrics
        ),
    ]


def _lines(row: Reencoding, metric: MetricInfo) -> list[str]:
    shift: Shift = row.shifts[metric.name]
    if shift.mean is not None:
        size = f"{number(shift.mean_abs, metric)}, up to {number(shift.largest_abs, metric)}"
        return [number(shift.mean, metric, "+"), size, f"{shift.n}/{row.n_attempted}"]
    if shift.reencoded is not None:
        return [
            f"{number(shift.reencoded, metric)} once re-encoded", f"{shift.n_reencoded}/{row.n_attempted}"
        ]  # fmt: skip
    return ["not available" if metric.not_available else plain_reason(shift.reason or "")]
