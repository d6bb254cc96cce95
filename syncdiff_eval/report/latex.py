"""leaderboard.tex: the leaderboard as tables for a paper, which need `\\usepackage{booktabs}` and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from math import ceil
from textwrap import wrap

from syncdiff_eval.report.cells import (
    TYPES,
    best,
    clips_and_sources,
    counts,
    frames,
    heading,
    interval,
    number,
    plain_reason,
    split_ranked,
    with_numbers,
)
from syncdiff_eval.report.groups import groups, overview_metrics
from syncdiff_eval.report.warnings import warnings
from syncdiff_eval.results import MethodResult, MetricInfo, Results

COLUMNS = 4
"""Metrics of one table: as many as the width of an article's text holds."""
LAST_LATIN = "\u024f"
"""Letters beyond it are not set up for pdfLaTeX."""
HEADING_WIDTH = 13
"""Characters after which a heading goes on in the next line."""
_SPECIAL = str.maketrans({
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    **{letter: f"\\{letter}" for letter in "{}$&%#_"},
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$", "−": "$-$", "–": "--", "\u00a0": "~",
})  # fmt: skip


def escape(text: str) -> str:
    """A text as LaTeX prints it letter by letter."""
    apart = re.sub("-(?=-)", "-\0", text)  # two hyphens would be printed as one dash
    return apart.translate(_SPECIAL).replace("\0", "{}")


def latex(results: Results) -> str:
    """The overview, where there are several groups of metrics, then every group, COLUMNS metrics a table at most."""
    named = [("Overview", overview_metrics(results)), *((g.title, g.metrics) for g in groups(results))]
    tables = [table for title, metrics in named if metrics for table in _tables(results, title, metrics)]
    body = "\n".join(tables)
    return "\n".join([*_comments(results, body), "", body])


def _comments(results: Results, body: str) -> list[str]:
    """What the tables need, and the report's warnings."""
    beyond = sorted({letter for letter in body if letter > LAST_LATIN})
    engine = [f"% XeLaTeX or LuaLaTeX, and a font with {' '.join(beyond)}"] if beyond else []
    notes = [" ".join(note.split()) for note in warnings(results)]
    return ["% \\usepackage{booktabs}", *engine, *(f"% Warning: {note}" for note in notes)]


def _tables(results: Results, title: str, metrics: Sequence[MetricInfo]) -> Iterator[str]:
    parts = ceil(len(metrics) / COLUMNS)
    size = ceil(len(metrics) / parts)
    for part in range(parts):
        yield _table(results, title, part, metrics[part * size : (part + 1) * size])


def _table(results: Results, title: str, part: int, metrics: Sequence[MetricInfo]) -> str:
    ranked, real = split_ranked(results)
    real = with_numbers(real, metrics)
    bodies = [[_method_rows(row, metrics, results) for row in rows] for rows in (ranked, real) if rows]
    body = "\\midrule\n".join("\\addlinespace\n".join(rows) for rows in bodies)
    label = (
        f"tab:leaderboard-{'-'.join(re.findall('[a-z0-9]+', title.lower()))}{f'-{part + 1}' if part else ''}"
    )
    return (
        "\\begin{table}\n\\centering\\small\\setlength{\\tabcolsep}{4pt}\\setlength{\\belowcaptionskip}{6pt}\n"
        f"\\caption{{{_caption(results, title, metrics)}}}\n\\label{{{label}}}\n"
        f"\\begin{{tabular}}{{l{'r' * len(metrics)}}}\n\\toprule\n{_heading_rows(metrics)}\\midrule\n{body}"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def _caption(results: Results, title: str, metrics: Sequence[MetricInfo]) -> str:
    protocol = results.protocol
    sentences = [
        f"{title}: {protocol.name} (version {protocol.version}), {protocol.setting}, {clips_and_sources(results)}.",
        f"Mean, rank in parentheses, and {protocol.confidence:.0%} interval over sources. Methods without a "
        "significant difference share a rank, and where all share the first, none is printed; baselines and real video "
        "are not ranked. Bold: rank 1.",
    ]
    reasons = {
        plain_reason(row.scores[metric.name].reason or "")
        for row in [*split_ranked(results)[0], *with_numbers(split_ranked(results)[1], metrics)]
        for metric in metrics
        if row.scores[metric.name].mean is None
    }
    if not all(metric.in_protocol for metric in metrics):
        sentences.append("Not part of the protocol.")
    if reasons:
        sentences.append(f"–: no value ({', '.join(sorted(reasons))}).")
    return " ".join(map(escape, sentences))


def _heading_rows(metrics: Sequence[MetricInfo]) -> str:
    """The last lines of all headings in one row."""
    lines = [[], *(wrap(heading(metric), HEADING_WIDTH) for metric in metrics)]
    most = max(map(len, lines))
    return _rows([[""] * (most - len(each)) + [escape(line) for line in each] for each in lines])


def _method_rows(row: MethodResult, metrics: Sequence[MetricInfo], results: Results) -> str:
    facts = f"{TYPES[row.type]}, {row.n_scored}/{row.n_attempted} clips"
    name = re.sub(r"^[\[*]", r"{\g<0>}", escape(row.name))  # after \\ and \midrule [ and * begin an option
    return _rows([[name, _small(facts)], *(_cell(row, metric, results) for metric in metrics)])


def _cell(row: MethodResult, metric: MetricInfo, results: Results) -> list[str]:
    """Lines of a cell: the mean and its rank, the interval, and the clips where they are not all the row's."""
    score = row.scores[metric.name]
    mean = escape(number(score.mean, metric))
    if row.name in best(results, metric):
        mean = f"\\textbf{{{mean}}}"
    details = [
        interval(score, metric),
        "low coverage" if score.low_coverage else "",
        frames(row, metric),
        counts(score) if score.n_scored not in (0, row.n_scored) else "",
    ]
    return [mean + _rank(row, metric, results), *(_small(detail) for detail in details if detail)]


def _rank(row: MethodResult, metric: MetricInfo, results: Results) -> str:
    """`(1)`; as wide a gap for a number without a rank below numbers with one. Nothing where all share the first."""
    if not best(results, metric):
        return ""
    rank = row.scores[metric.name].rank
    return "\\phantom{ (1)}" if rank is None else f" ({rank})"


def _small(text: str) -> str:
    return f"{{\\scriptsize {escape(text)}}}"


def _rows(cells: Sequence[Sequence[str]]) -> str:
    """One row of the tabular per line of the cells."""
    return "".join(f"{' & '.join(line)} \\\\\n" for line in zip_longest(*cells, fillvalue=""))
