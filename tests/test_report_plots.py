"""Sync against fidelity, distributions, the table of all clips and the command, as the page gets them."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import DIFFUSION, GAN, METHODS, Sample, sample
from syncdiff_pipelines.benchmark import Options, other_flags

from syncdiff_eval.methods import Method
from syncdiff_eval.report.clip_table import clip_table, kept_clips
from syncdiff_eval.report.command import command_line
from syncdiff_eval.report.page import render_page
from syncdiff_eval.report.plots import JITTER, LEFT, MOST_POINTS, RIGHT, distributions, dots, thinned
from syncdiff_eval.report.scatter import LABEL_GAP, LETTER, label_places, scatters


@pytest.fixture(scope="module")
def made() -> Sample:
    return sample(20, published="HDTF", reencoded=True)


def test_right_and_up_is_better_in_every_panel(made: Sample) -> None:
    """Sample methods are better from the first to the last under every metric."""
    panels = scatters(made.results)
    assert [panel.y.name for panel in panels] == ["ssim_face", "identity_dlib", "fid_face"]
    order = [method.name for method in METHODS]
    for panel in panels:
        points = {point.name: point for point in panel.points}
        assert set(points) == set(order), "no baselines"
        first, last = points[order[0]], points[order[-1]]
        assert first.x < last.x
        if panel.y.name != "identity_dlib":
            assert first.y > last.y, "SVG counts down"
        assert all((point.y_range is None) == panel.y.pooled for point in panel.points)


def test_a_panel_needs_two_methods_and_both_metrics(made: Sample) -> None:
    assert scatters(sample(8, METHODS[:1], failures=0).results) == []
    without = [m for m in made.results.metrics if m.name not in ("expert_confidence", "lse_c")]
    assert scatters(made.results.model_copy(update={"metrics": without})) == []


@given(
    st.lists(st.tuples(st.floats(44, 352), st.floats(18, 262)), min_size=1, max_size=12),
    st.integers(1, 18),
)
def test_labels_do_not_overlap(places: list[tuple[float, float]], length: int) -> None:
    wide = length * LETTER
    found = label_places(places, ["x" * length] * len(places))
    boxes = [(x if anchor == "start" else x - wide, y) for x, y, anchor in found]
    for (ax, ay), (bx, by) in combinations(boxes, 2):
        assert abs(ax - bx) >= wide - 1e-6 or abs(ay - by) >= LABEL_GAP - 1e-6


def test_every_clip_is_a_dot_in_the_field(made: Sample) -> None:
    plots = {plot.metric.name: plot for plot in distributions(made.results, made.per_clip)}
    assert "fid_face" not in plots
    rows = made.per_clip.to_pandas()
    for mark in plots["lse_c"].marks:
        values = rows[rows["method"] == mark.name]["lse_c"].dropna()
        drawn = np.array([[float(v) for v in dot[:-2].split()] for dot in mark.points.split("M")[1:]])
        assert len(drawn) == len(values)
        assert drawn[:, 0].min() >= LEFT
        assert drawn[:, 0].max() <= RIGHT
        assert np.abs(drawn[:, 1]).max() <= JITTER


def test_of_many_clips_quantiles_are_drawn() -> None:
    values = np.sort(np.random.default_rng(0).normal(size=1000))
    few = thinned(values)
    assert len(few) == MOST_POINTS
    assert (few[0], few[-1]) == (values[0], values[-1])
    assert dots([]) == ""


def test_the_table_of_clips_has_every_row_and_value(made: Sample) -> None:
    table = json.loads(json.dumps(clip_table(made.results, made.per_clip, {"clip003": 7})))
    rows = made.per_clip.to_pandas()
    assert table["all"] == len(table["rows"]) == len(rows)
    assert table["clips"][3] == {"name": "clip003", "preview": 7}
    titles = [metric["title"].split("\u00a0")[0] for metric in table["metrics"]]
    at = titles.index("PSNR face")
    for (method, clip, reason, *values), row in zip(table["rows"], rows.to_dict("records")):
        assert table["methods"][method]["name"] == row["method"]
        assert table["clips"][clip]["name"] == row["clip"]
        assert (reason is None) == (row["status"] == "scored")
        assert values[at] == (None if np.isnan(row["psnr_face"]) else round(row["psnr_face"], 2))
    assert [each["title"] for each in table["sets"]][:2] == ["Overview", "Sync"]
    for each in table["sets"]:
        assert 1 <= len(each["metrics"]) <= 8


def test_beyond_the_bound_clips_with_previews_stay(made: Sample) -> None:
    assert kept_clips(made.per_clip, 3, {"clip010": 1, "clip015": 0}) == ["clip000", "clip010", "clip015"]
    assert len(kept_clips(made.per_clip, 100, {})) == 20


def test_the_command_makes_the_report_again(made: Sample) -> None:
    words = command_line(made.results).split()
    assert words[:4] == ["python", "pipelines/benchmark.py", "--reference", "REFERENCE"]
    assert [word for word in words if word.endswith("=FOLDER")] == [f"{m.name}=FOLDER" for m in METHODS]
    assert "--published HDTF --reencode-check --out REPORT" in command_line(made.results)
    odd = command_line(sample(6, [Method("-59c", GAN), Method("a b", DIFFUSION)]).results)
    assert "--method=-59c=FOLDER --method 'a b=FOLDER'" in odd


def test_the_command_tells_how_pairs_and_outputs_were_found(made: Sample) -> None:
    asked = Options(
        Path("real"),
        Path("report"),
        output_template=("gan={video} dub.mp4",),
        pairs=Path("/data/list.txt"),
        pairs_order="lrs",
        previews=0,
    )
    results = made.results.model_copy(update={"other_flags": other_flags(asked)})
    assert command_line(results).endswith(
        "--pairs PAIRS.csv --pairs-order lrs --output-template 'gan={video} dub.mp4' --previews 0 --out REPORT"
    )
    assert other_flags(Options(Path("real"), Path("report"))) == []


def test_the_command_tells_an_expert_of_ones_own_from_an_added_one() -> None:
    made = sample(6, METHODS[:1]).results
    metrics = [
        m.model_copy(update={"in_protocol": not m.name.startswith(("expert", "lse"))}) for m in made.metrics
    ]
    added = made.model_copy(update={"metrics": metrics})
    assert "--metric expert --metric lse --out" in command_line(added)
    own = added.model_copy(update={"weights": {"expert": "0" * 64}})
    assert "--sync-expert FOLDER --metric lse --out" in command_line(own)


def test_a_method_has_one_place_under_a_metric_in_all_tables() -> None:
    """Sorting reads the mean over shared clips where there is one, also where the mean over all clips is printed."""
    made = sample(10, failures=1)
    page = render_page(made.results, made.per_clip, made.curve)
    cells = re.findall(r'<tr data-name="([^"]+)"|data-metric="(\w+)" data-value="([^"]+)"', page)
    values: dict[tuple[str, str], set[float]] = {}
    name = ""
    for row, metric, value in cells:
        name = row or name
        if metric:
            values.setdefault((name, metric), set()).add(float(value))
    shared = {
        (row.name, metric): {score.mean_shared}
        for row in made.results.methods
        for metric, score in row.scores.items()
        if score.mean_shared not in (None, score.mean)
    }
    assert shared
    assert {key: values[key] for key in shared} == shared
