"""The report: groups of metrics, paired comparisons, win matrix and warnings."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import GAN, METHODS, OTHER, UNAVAILABLE, Sample, sample
from rich.console import Console

from syncdiff_eval.methods import Method
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.frechet import frames_wanted
from syncdiff_eval.report.by_type import DIFFUSION, type_comparisons
from syncdiff_eval.report.cells import comparison_mean, split_ranked
from syncdiff_eval.report.clips import WORST, failed_clips, worst_clips
from syncdiff_eval.report.groups import groups, ordering_metric, overview_metrics
from syncdiff_eval.report.page import render_page
from syncdiff_eval.report.plots import (
    LEFT,
    RIGHT,
    SPARK_HEIGHT,
    SPARK_WIDTH,
    axis,
    bar_of,
    forests,
    sparkline,
)
from syncdiff_eval.report.tables import markdown, terminal
from syncdiff_eval.report.warnings import warnings


@pytest.fixture(scope="module")
def made() -> Sample:
    return sample(40, reencoded=True, published="HDTF", bit_rates=(400_000, 900_000))


def page_of(made: Sample) -> str:
    return render_page(made.results, made.per_clip, made.curve)


def printed(made: Sample, width: int = 100) -> str:
    out = io.StringIO()
    terminal(made.results, Console(width=width, file=out))
    return out.getvalue()


def changed(made: Sample, **changes: Any) -> Sample:
    """The same report with other values for keys of every ranked method."""
    methods = [
        row if row.name == "ground_truth" else row.model_copy(update={k: v(row) for k, v in changes.items()})
        for row in made.results.methods
    ]
    return replace(made, results=made.results.model_copy(update={"methods": methods}))


def test_every_metric_is_in_one_group_of_at_most_seven(made: Sample) -> None:
    found = groups(made.results)
    placed = [metric.name for group in found for metric in group.metrics]
    names = [m.name for m in made.results.metrics if not m.not_available and not m.name.endswith("_frames")]
    assert sorted(placed) == sorted(names)
    assert all(len(group.metrics) <= 7 for group in found)
    assert "Other" not in [group.title for group in found]
    assert len(overview_metrics(made.results)) <= 8


def test_a_metric_that_did_not_run_is_named_once_with_its_command(made: Sample) -> None:
    command = UNAVAILABLE["avs"]
    assert page_of(made).count(command) == markdown(made.results).count(command) == 1
    assert "AVS_u" in printed(made)


def test_methods_are_sorted_by_the_ordering_metric(made: Sample) -> None:
    metric = ordering_metric(made.results)
    assert metric is not None
    assert metric.name == "expert_confidence"
    levels = [comparison_mean(row, metric) or 0 for row in split_ranked(made.results)[0]]
    assert levels == sorted(levels, reverse=True)


def test_best_gan_is_compared_with_best_diffusion_on_the_clips_both_have(made: Sample) -> None:
    """Recomputed from the rows; the sign, the winner and the bar agree with the metric's direction."""
    rows = made.per_clip.to_pandas().set_index("clip")
    found = {compared.metric.name: compared for compared in type_comparisons(made.results)}
    for name in ("lse_c", "lse_d", "psnr_face"):
        compared = found[name]
        assert compared.best[GAN].name == "softgan"
        assert compared.best[DIFFUSION].name == METHODS[3].name
        theirs, ours = (
            rows.loc[rows["method"] == compared.best[kind].name, name] for kind in (GAN, DIFFUSION)
        )
        assert compared.difference == pytest.approx((ours - theirs).mean())
        assert (compared.difference > 0) == compared.metric.higher_is_better
        assert compared.winner is DIFFUSION
        assert compared.advantage is not None
        assert 0 < compared.advantage[0] < compared.advantage[1] < compared.advantage[2]
        bar = bar_of(compared)
        assert 0 < bar.low <= bar.mean <= bar.high
    assert found["fid_face"].difference is None
    assert found["fid_face"].best[OTHER].name == "pastes_mouths"  # and not the frozen frame


def test_without_a_diffusion_method_nothing_is_compared_by_type() -> None:
    made = sample(8, [METHODS[0], METHODS[1], METHODS[4]])
    assert type_comparisons(made.results) == []
    assert "GAN and diffusion" not in page_of(made) + markdown(made.results)


@pytest.mark.parametrize(("num_clips", "significant"), [(6, False), (7, True)])
def test_the_warning_of_too_few_clips_appears_exactly_where_nothing_can_be_significant(
    num_clips: int, significant: bool
) -> None:
    """Three methods make three comparisons: 3 x 2^(1 - n) lies below 0.05 from n = 7 on."""
    different = sample(num_clips, METHODS[2:], failures=0)
    assert any(c.winner for c in different.results.comparisons) == significant
    assert any("at least 7" in sentence for sentence in warnings(different.results)) != significant


def test_warnings_are_on_the_page_in_markdown_and_in_the_terminal(made: Sample) -> None:
    sentences = warnings(made.results)
    assert [sentence.split()[0] for sentence in sentences] == ["Clips", "FID", "Bit"]
    assert "wav2lip (unreadable 2)" in sentences[0]
    page, text, shown = page_of(made), markdown(made.results), " ".join(printed(made).split())
    for sentence in sentences:
        assert sentence in page
        assert sentence in text
        assert sentence in shown


def test_there_are_no_warnings_where_nothing_is_wrong() -> None:
    made = sample(40, failures=0)
    enough = changed(
        made,
        scores=lambda row: (
            row.scores
            | {"fid_face_frames": row.scores["fid_face_frames"].model_copy(update={"mean": 3000.0})}
        ),
    )
    assert warnings(enough.results) == []
    mixed = changed(enough, codecs=lambda row: ["vp9" if row.name == "latent" else "h264"])
    assert [sentence.partition(" ")[0] for sentence in warnings(mixed.results)] == ["Files"]


@pytest.mark.parametrize(("family", "frames"), [("fid-face", 2048), ("frechet-centerface", 320)])
def test_each_distance_has_its_own_number_of_frames_that_are_enough(family: str, frames: int) -> None:
    assert frames_wanted(FAMILIES[family].columns[1].unit) == frames


def test_pairs_that_were_not_tested_have_no_win_matrix() -> None:
    page = page_of(sample(3, METHODS[:2], failures=0))
    assert "Win matrix" not in page
    assert "No pair was tested" in page


def test_a_method_that_failed_on_as_many_clips_as_it_scored_has_its_fid() -> None:
    made = sample(4, METHODS[:1])
    fid = made.results.methods[-1].scores["fid_face"]
    assert (fid.mean, fid.n_scored, fid.reason) == (10.5, 2, None)


def test_real_video_alone_makes_a_page(made: Sample) -> None:
    rows = [row for row in made.results.methods if row.name == "ground_truth"]
    alone = made.results.model_copy(update={"methods": rows, "comparisons": [], "reencoding": []})
    page = page_of(replace(made, results=alone))
    assert "ground_truth" in page
    assert "Win matrix" not in page


def test_the_page_shows_the_worst_clips_and_every_reason(made: Sample) -> None:
    rows = made.per_clip.to_pandas()
    worst = worst_clips(made.results, made.per_clip, made.curve)
    for method in (row.name for row in split_ranked(made.results)[0]):
        own = (
            rows[rows["method"] == method]
            .dropna(subset="expert_confidence")
            .sort_values(["expert_confidence", "clip"])
        )
        shown = [clip.row["clip"] for clip in worst if clip.row["method"] == method]
        assert shown == list(own["clip"][:WORST])
    assert (
        sum(len(failure.clips) for failure in failed_clips(made.per_clip))
        == (rows["status"] == "failed").sum()
    )
    assert len(failed_clips(made.per_clip)) == len(METHODS)


def test_page_grows_with_clips_to_a_bound_only(made: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncdiff_eval.report.clip_table.MOST_ROWS", 100)
    monkeypatch.setattr("syncdiff_eval.report.plots.MOST_POINTS", 20)
    assert len(page_of(sample(120, reencoded=True, published="HDTF"))) < 1.1 * len(page_of(made))


def test_page_is_the_same_every_time_and_escapes_names(made: Sample) -> None:
    assert page_of(made) == page_of(
        sample(40, reencoded=True, published="HDTF", bit_rates=(400_000, 900_000))
    )
    page = page_of(sample(3, [Method("<script>x</script>", GAN)], failures=1))
    assert "<script>x" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("width", [60, 100, 200])
def test_terminal_tables_fit_the_width(made: Sample, width: int) -> None:
    assert max(map(len, printed(made, width).splitlines())) <= width


def test_markdown_tables_are_whole(made: Sample) -> None:
    text = markdown(made.results)
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 6
    for lines in tables:
        assert len({line.count("|") for line in lines}) == 1


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.integers(0, 4))
def test_axis_contains_every_value_and_its_labels_match_its_ticks(values: list[float], decimals: int) -> None:
    low, high, ticks = axis(values, decimals)
    assert low <= min(values) <= max(values) <= high
    for tick, label in ticks:
        assert low - 1e-9 * abs(low) <= tick <= high + 1e-9 * abs(high)
        assert float(label.replace("−", "-")) == pytest.approx(tick, abs=1e-6 * (high - low))
    assert len({label for _, label in ticks}) == len(ticks) <= 6


@pytest.mark.parametrize(
    "values", [[0.5056], [0.8743], [11.5], [-0.4071, -0.4069], [0.31, 0.36], [20.0, 31.5]]
)
def test_the_labels_of_an_axis_do_not_touch(values: list[float]) -> None:
    low, high, ticks = axis(values, 4)
    assert len(ticks) >= 2
    for (a, label), (b, other) in itertools.pairwise(ticks):
        gap = (b - a) / (high - low) * (RIGHT - LEFT)
        assert gap > 5.5 * (len(label) + len(other)) / 2


def test_marks_are_at_the_coordinates_of_their_numbers(made: Sample) -> None:
    plot = forests(made.results)["lse_d"]
    order = sorted(plot.marks, key=lambda mark: mark.x)
    means = {row.name: row.scores["lse_d"].mean for row in made.results.methods}
    assert [mark.name for mark in order] == sorted((m.name for m in plot.marks), key=means.__getitem__)
    for mark in plot.marks:
        assert mark.low is not None
        assert mark.high is not None
        assert LEFT <= mark.low < mark.x < mark.high <= RIGHT
        assert mark.words in plot.description
    assert plot.reference is not None


@pytest.mark.parametrize("windows", [1, 2, 70, 5000])
def test_sparkline_stays_in_its_field(windows: int) -> None:
    curve = np.random.default_rng(windows).normal(6, 2, windows).astype(np.float32)
    points = [tuple(map(float, point.split(","))) for point in sparkline(curve, (-5, 15)).split()]
    assert len(points) == min(windows, SPARK_WIDTH)
    assert all(0 <= x <= SPARK_WIDTH and 0 <= y <= SPARK_HEIGHT for x, y in points)
