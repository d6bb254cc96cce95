"""A report on disk: its files and their one writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from syncdiff_data.records import UserError
from syncdiff_data.shards.store import write_text
from syncdiff_eval.per_clip import records_of, write_per_clip
from syncdiff_eval.report.clips import Curves
from syncdiff_eval.report.latex import latex
from syncdiff_eval.report.page import render_page
from syncdiff_eval.report.previews import Preview
from syncdiff_eval.report.tables import comma_separated, markdown
from syncdiff_eval.results import Results, write_results

FILES = (
    "results.json",
    "per_clip.parquet",
    "leaderboard.md",
    "leaderboard.csv",
    "leaderboard.tex",
    "index.html",
)


@dataclass(frozen=True)
class Report:
    """A report as it lies on disk."""

    folder: Path
    results: Results
    per_clip: pa.Table
    """Of `per_clip_schema`."""

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The rows of per_clip, in its order."""
        return records_of(self.per_clip)


def check_place(out: Path) -> None:
    """UserError where files of the names of FILES lie in `out` that are no report's, and would be lost.

    per_clip.parquet is written first, so a report that was interrupted has it.
    """
    there = [name for name in FILES if (out / name).exists()]
    if there and not {"results.json", "per_clip.parquet"} & set(there):
        raise UserError(
            f"{out} holds {', '.join(there)}, which would be replaced, and no report: choose another --out, or "
            "--overwrite."
        )


def write_report(out: Path, results: Results, per_clip: pa.Table, curves: Curves) -> None:
    """Write FILES into `out`, each atomically, results.json last. Raises UserError where one cannot be written."""
    write_per_clip(per_clip, out / "per_clip.parquet")
    write_text(out / "leaderboard.md", markdown(results))
    write_text(out / "leaderboard.csv", comma_separated(results))
    write_text(out / "leaderboard.tex", latex(results))
    write_page(out, results, per_clip, curves)
    write_results(results, out / "results.json")


def write_page(
    out: Path,
    results: Results,
    per_clip: pa.Table,
    curves: Curves,
    previews: Sequence[Preview] = (),
    previews_by: str | None = None,
) -> None:
    """Write index.html alone, atomically. Arguments as of `render_page`."""
    write_text(out / "index.html", render_page(results, per_clip, curves, previews, previews_by))
