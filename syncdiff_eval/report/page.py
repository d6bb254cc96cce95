"""index.html: the leaderboard as one self-contained page that opens without network."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined

from syncdiff_eval.report import cells
from syncdiff_eval.results import Results


def render_page(results: Results, per_clip: pa.Table) -> str:
    """The page. Everything is in it: style, tables, no script, no picture from elsewhere."""
    environment = Environment(
        loader=PackageLoader("syncdiff_eval.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        cells.heading,
        cells.number,
        cells.interval,
        cells.counts,
        cells.shared,
        cells.plain_reason,
    ):
        environment.filters[function.__name__] = function
    ranked, real = cells.apart(results)
    return environment.get_template("index.html.j2").render(
        results=results,
        groups=[("Methods", ranked), ("Real video, for orientation", real)],
        best={metric.name: _best(results, metric.name) for metric in results.metrics},
        published=cells.published_table(results),
        wins=cells.wins(results),
        compared=[metric for metric in results.metrics if _comparisons(results, metric.name)],
        comparisons={metric.name: _comparisons(results, metric.name) for metric in results.metrics},
        clips=_clip_rows(per_clip),
        clip_metrics=[metric for metric in results.metrics if not metric.pooled and not metric.not_available],
    )


def _best(results: Results, metric: str) -> set[str]:
    """Names of the methods of rank 1, none where all share it."""
    ranks = {row.name: row.scores[metric].rank for row in cells.apart(results)[0]}
    return {name for name, rank in ranks.items() if rank == 1} if len(set(ranks.values())) > 1 else set()


def _comparisons(results: Results, metric: str) -> list[Any]:
    return [comparison for comparison in results.comparisons if comparison.metric == metric]


def _clip_rows(per_clip: pa.Table) -> list[dict[str, Any]]:
    rows = per_clip.to_pylist()
    for row in rows:
        row["null_reasons"] = dict(row["null_reasons"] or [])
    return rows
