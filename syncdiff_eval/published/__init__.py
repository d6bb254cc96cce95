"""Numbers published in papers, with their sources. Never mixed with measured ones.

published_results.csv: method, type, dataset, metric (lse_c, lse_d, fid, ssim, psnr, lmd), value, protocol (named
only where the source names its script), audio (own, crossed, not stated), setting, source, how (where in the
source, and who quotes it), quality (paper: read in the paper itself; secondhand: a copy, not checked against it).
"""

from __future__ import annotations

import csv
from importlib.resources import files

from syncdiff_data.records import UserError
from syncdiff_eval.results import PublishedNumber


def read_published(dataset: str) -> list[PublishedNumber]:
    """Every number for one data set, in order of source, setting and method. UserError lists the data sets."""
    text = files("syncdiff_eval.published").joinpath("published_results.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    chosen = [row for row in rows if row["dataset"] == dataset]
    if not chosen:
        known = ", ".join(sorted({row["dataset"] for row in rows}))
        raise UserError(f"There are no published numbers for {dataset!r}; there are some for {known}.")
    return [PublishedNumber.model_validate_strings(row) for row in chosen]
