"""Previews of the report: which clips, how much of them, which frames, and where their curves are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_samples import METHODS, Sample, sample

from syncdiff_data.media import write_video
from syncdiff_eval.methods import GROUND_TRUTH
from syncdiff_eval.metrics.base import Regions
from syncdiff_eval.preview_videos import HEIGHT, MOST_FRAMES, preview_index, shown_frames, shrink, view
from syncdiff_eval.report.page import render_page
from syncdiff_eval.report.plots import SPARK_WIDTH
from syncdiff_eval.report.previews import (
    MOST_CLIPS,
    ChosenClip,
    Preview,
    PreviewVideo,
    Tile,
    choose_clips,
    curve_start,
    lay_out,
    strips,
    within_limit,
)
from syncdiff_eval.scoring import Reference
from syncdiff_eval.videos import read_facts

CONFIDENCE = "expert_confidence"


@pytest.fixture(scope="module")
def made() -> Sample:
    return sample(40)


def levels(made: Sample) -> list[float]:
    """Mean confidence of the methods on each clip, ascending."""
    rows = made.per_clip.to_pandas()
    rows = rows[rows["method"].isin([method.name for method in METHODS])]
    return sorted(rows.groupby("clip")[CONFIDENCE].mean())


def test_three_clips_are_the_worst_the_median_and_the_best(made: Sample) -> None:
    chosen = choose_clips(made.results, made.per_clip, 3)
    assert [clip.label for clip in chosen] == ["Worst", "Median", "Best"]
    order = levels(made)
    assert [clip.level for clip in chosen] == pytest.approx([order[0], order[20], order[39]])
    metrics = [
        metric.model_copy(update={"higher_is_better": not metric.higher_is_better})
        if metric.name == CONFIDENCE
        else metric
        for metric in made.results.metrics
    ]
    turned = choose_clips(made.results.model_copy(update={"metrics": metrics}), made.per_clip, 3)
    assert [turned[0].clip, turned[-1].clip] == [chosen[-1].clip, chosen[0].clip]


def test_clips_are_chosen_by_any_metric_and_placed_under_all(made: Sample) -> None:
    rows = made.per_clip.to_pandas()
    rows = rows[rows["method"].isin([method.name for method in METHODS])]
    level = rows.groupby("clip")["lmd_mouth"].mean()  # lower is better
    worst, _, best = choose_clips(made.results, made.per_clip, 3, "lmd_mouth")
    assert (worst.clip, best.clip) == (level.idxmax(), level.idxmin())
    videos = {(row.name, worst.clip): "not made" for row in made.results.methods}
    videos[GROUND_TRUTH.name, worst.clip] = PreviewVideo(b"mp4", np.zeros(75, np.float32), 0)
    (preview,) = lay_out(made.results, made.per_clip, [worst], videos, made.curve)
    assert {"lmd_mouth", CONFIDENCE} <= set(preview.places)
    place = preview.places["lmd_mouth"]
    assert (place.index, place.label, place.level) == (0, "Worst", f"{level[worst.clip]:.2f}")
    own = rows[rows["clip"] == worst.clip].set_index("method")["lmd_mouth"]
    values = dict(zip((tile.name for tile in preview.tiles), place.values))
    assert values == {GROUND_TRUTH.name: ""} | {
        method.name: "" if np.isnan(own[method.name]) else f"{own[method.name]:.2f}" for method in METHODS
    }
    order = np.sort(level_of(rows, CONFIDENCE))
    assert preview.places[CONFIDENCE].index == np.searchsorted(order, level_of(rows, CONFIDENCE)[worst.clip])


def level_of(rows: Any, metric: str) -> Any:
    return rows.groupby("clip")[metric].mean().dropna()


@pytest.mark.parametrize(
    ("wanted", "labels"),
    [(0, []), (1, ["Worst"]), (2, ["Worst", "Best"]), (4, ["Worst", "14 of 40", "27 of 40", "Best"])],
)
def test_clips_are_spread_evenly(made: Sample, wanted: int, labels: list[str]) -> None:
    assert [clip.label for clip in choose_clips(made.results, made.per_clip, wanted)] == labels


def test_at_most_so_many_clips_and_never_one_twice(made: Sample) -> None:
    chosen = choose_clips(made.results, made.per_clip, 1000)
    assert len({clip.clip for clip in chosen}) == len(chosen) == MOST_CLIPS
    few = sample(2, METHODS[:1], failures=0)
    assert [clip.label for clip in choose_clips(few.results, few.per_clip, 3)] == ["Worst", "Best"]
    alone = sample(4, [])
    assert choose_clips(alone.results, alone.per_clip, 3) == [], "baselines have no videos"


def _sized(number: int, size: int) -> Preview:
    tile = Tile("ground_truth", GROUND_TRUTH.type, "x" * size, None)
    return Preview(number, ChosenClip(f"clip{number}", 0.0, ""), 25, (tile,))


@pytest.mark.parametrize(
    ("sizes", "most", "kept"),
    [([4, 4, 4], 12, [0, 1, 2]), ([4, 4, 4], 11, [0, 2]), ([9, 4, 4], 8, [1, 2]), ([9], 8, []), ([], 8, [])],
)
def test_the_page_has_room_for_so_many_bytes_and_the_ends_come_first(
    sizes: list[int], most: int, kept: list[int]
) -> None:
    previews = within_limit([_sized(i, size) for i, size in enumerate(sizes)], most)
    assert [preview.number for preview in previews] == kept


def test_a_video_that_cannot_be_made_is_a_cell_with_its_reason(made: Sample) -> None:
    chosen = choose_clips(made.results, made.per_clip, 2)
    names = [GROUND_TRUTH.name, *(method.name for method in METHODS)]
    videos: dict[tuple[str, str], PreviewVideo | str] = {
        (name, clip.clip): PreviewVideo(b"mp4", np.zeros(75, np.float32), 0) for name in names for clip in chosen
    }  # fmt: skip
    videos["wav2lip", chosen[0].clip] = "unreadable: <the file> breaks off"
    videos[GROUND_TRUTH.name, chosen[1].clip] = "read error"
    first, second = lay_out(made.results, made.per_clip, chosen, videos, made.curve)
    assert first.reference.name == GROUND_TRUTH.name
    assert {tile.name for tile in first.tiles} == set(names)
    assert [tile.name for tile in first.tiles if tile.reason] == ["wav2lip"]
    assert [tile.reason for tile in second.tiles] == ["read error"], "no clock, no players"
    page = render_page(made.results, made.per_clip, made.curve, [first, second])
    assert "unreadable: &lt;the file&gt; breaks off" in page
    assert page.count("<video") == len(METHODS)


def test_curves_lie_at_their_frames() -> None:
    curves = {"a": (np.array([0.0, np.nan, 2.0, 9.0]), 3), "b": (np.array([1.0]), 0)}
    found = strips(curves, num_frames=6)
    assert list(found) == ["a"]
    points = [tuple(map(float, point.split(","))) for point in found["a"].split()]
    assert [x for x, _ in points] == pytest.approx([3.5 / 6 * SPARK_WIDTH, 5.5 / 6 * SPARK_WIDTH], abs=0.05)
    assert points[0][1] > points[1][1], "higher values are drawn higher"


@pytest.mark.parametrize(("offset", "start"), [(4.0, 14), (-4.0, 10), (None, 12)])
def test_a_confidence_curve_starts_where_its_first_value_was_measured(
    offset: float | None, start: int
) -> None:
    assert curve_start({"expert_offset": offset}, speaker_frame=10) == start


def test_previews_show_each_frame_when_the_reference_shows_it() -> None:
    assert preview_index(np.arange(10) / 25).tolist() == list(range(10))
    assert preview_index(7 + np.arange(20) / 50).tolist() == list(range(0, 20, 2))
    assert preview_index(np.array([0, 0.04, 0.16, 0.2])).tolist() == [0, 1, 1, 2, 2, 3]
    assert len(preview_index(np.arange(9000) / 30)) == MOST_FRAMES


def test_frames_of_an_output_are_shown_at_the_times_of_the_reference(tmp_path: Path) -> None:
    """The output is of half the rate and declares it, as outputs of generators that take any rate for 25 do."""
    images = [np.full((64, 66, 3), 20 * i, np.uint8) for i in range(10)]
    write_video(tmp_path / "real.mp4", images, None, fps=50)
    write_video(tmp_path / "made.mp4", images[:8], None, fps=25)
    reference = Reference(read_facts(tmp_path / "real.mp4"), 10, 0.0, None, np.arange(10) / 50)
    shown = [
        (index, int(image.mean() / 20 + 0.5))
        for index, image in shown_frames(tmp_path / "made.mp4", reference)
    ]
    assert shown == [(0, 0), (2, 2), (4, 4), (6, 6)]
    alone = Reference(reference.facts, 10, 0.0, None, np.empty(0))
    assert len(list(shown_frames(tmp_path / "made.mp4", alone))) == 8, "at its own times"


def test_previews_show_the_speaker_and_are_small() -> None:
    image = np.zeros((1080, 1920, 3), np.uint8)
    face = np.array([[900, 200, 1100, 400], [0, 0, 0, 0], [910, 5, 1110, 205]], np.int32)
    regions = Regions(np.array([True, False, True]), *[np.empty(0)] * 2, face, np.empty(0), 50.0)
    assert view(image, regions).shape == (460, 330, 3)
    assert view(image, None).shape == image.shape
    assert shrink(view(image, regions)).shape == (HEIGHT, 138, 3)
    assert shrink(image[:64, :64]).shape == (64, 64, 3)
