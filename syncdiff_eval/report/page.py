"""index.html: the leaderboard as one self-contained page that opens without network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from syncdiff_eval.methods import MethodType
from syncdiff_eval.report import by_type, cells, clips, plots, reencoded, scatter
from syncdiff_eval.report.clip_table import clip_table
from syncdiff_eval.report.command import command_line
from syncdiff_eval.report.groups import groups, ordering_metric, overview_metrics
from syncdiff_eval.report.previews import Place, Preview, preview_metric, preview_metrics
from syncdiff_eval.report.scatter import scatters
from syncdiff_eval.report.warnings import warnings
from syncdiff_eval.results import Comparison, Results

_FILTERS = (
    cells.heading, cells.short_heading, cells.number, cells.span, cells.interval, cells.counts, cells.shared,
    cells.clips_and_sources,
    cells.frames, cells.p_value, cells.plain_reason, cells.comparison_mean, cells.with_numbers, plots.sparkline,
    plots.bar_of,
)  # fmt: skip


def render_page(
    results: Results,
    per_clip: pa.Table,
    curves: clips.Curves,
    previews: Sequence[Preview] = (),
    previews_by: str | None = None,
) -> str:
    """The page as HTML: style, scripts, tables, SVG plots and videos inline, no external file. Without scripts it lacks
    sorting, filters, previews and the table of all clips.

    curves: confidence of sync over a clip, for the few clips that are shown. previews_by: the metric that orders the
    previews, None: the one that orders the methods.
    """
    environment = Environment(
        loader=PackageLoader("syncdiff_eval.report"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {function.__name__: function for function in (*_FILTERS, breakable, places)}
    ranked, real = cells.split_ranked(results)
    worst = clips.worst_clips(results, per_clip, curves)
    first = ordering_metric(results)
    comparisons = {metric.name: _comparisons(results, metric.name) for metric in results.metrics}
    preview_of = {preview.chosen.clip: preview.number for preview in previews}
    return environment.get_template("index.html.j2").render(
        results=results,
        types=cells.TYPES,
        warnings=warnings(results),
        ranked=ranked,
        real=real,
        kinds=[kind for kind in MethodType if kind in {row.type for row in ranked}],
        ordering_metric=first,
        overview_metrics=overview_metrics(results),
        uneven=any(score.n_shared not in (0, score.n_scored) for row in ranked for score in row.scores.values()),
        groups=groups(results),
        best={metric.name: cells.best(results, metric) for metric in results.metrics},
        width=plots.WIDTH,
        most_points=plots.MOST_POINTS,
        forests=plots.forests(results),
        type_comparisons=by_type.type_comparisons(results),
        type_counts=by_type.count_types(results),
        win_matrix=cells.win_matrix(results),
        compared=[metric for metric in results.metrics if comparisons[metric.name]],
        comparisons=comparisons,
        failed=clips.failed_clips(per_clip),
        worst=worst,
        curve_ends=plots.value_range(curve for clip in worst for curve in (clip.curve, clip.real_curve)),
        has_curves=any(clip.curve is not None for clip in worst),
        clip_metrics=[
            metric for metric in overview_metrics(results) if not metric.pooled and metric != first
        ],
        reencoding_notes=reencoded.notes(results) if results.reencoding else [],
        published=cells.published_tables(results),
        previews=previews,
        preview_of=preview_of,
        preview_metric=preview_metric(results, previews_by),
        preview_metrics=preview_metrics(results),
        sortable=cells.sortable_metrics(results),
        scatters=scatters(results),
        scatter_size=(scatter.WIDTH, scatter.HEIGHT, scatter.LEFT, scatter.RIGHT, scatter.TOP, scatter.BOTTOM),
        distributions=plots.distributions(results, per_clip) if ranked else [],
        clip_table=clip_table(results, per_clip, preview_of),
        command=command_line(results),
    )  # fmt: skip


def _comparisons(results: Results, metric: str) -> list[Comparison]:
    return [comparison for comparison in results.comparisons if comparison.metric == metric]


def breakable(name: str) -> Markup:
    """A name that may break after its underscores and hyphens."""
    return Markup(str(escape(name)).replace("_", "_<wbr>").replace("-", "-<wbr>"))


def places(found: Mapping[str, Place]) -> str:
    """As JSON, for the script that orders the previews by another metric."""
    return json.dumps({name: asdict(place) for name, place in found.items()}, ensure_ascii=False)
