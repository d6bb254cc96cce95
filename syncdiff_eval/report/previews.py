"""Side-by-side previews on the page: which clips, how much of them the page may hold, and their curves."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from syncdiff_eval.methods import GROUND_TRUTH, MethodType
from syncdiff_eval.report.cells import number, plain_reason, split_ranked
from syncdiff_eval.report.clips import Curves
from syncdiff_eval.report.groups import ordering_metric, ranked_metrics
from syncdiff_eval.report.plots import SPARK_HEIGHT, SPARK_WIDTH, value_range
from syncdiff_eval.results import MethodResult, MetricInfo, Results

MOST_CLIPS = 24
MOST_BYTES = 30_000_000
"""Of all videos of the page together, as it holds them (base64)."""
_MIDDLE_OF_WINDOW = 2
"""Frames from the start of SyncNet's window of five to its middle."""
_LONGEST_DETAIL = 120

Row = Mapping[str, Any]


@dataclass(frozen=True)
class PreviewVideo:
    """A small mp4 at 25 fps, frame 0 at the start of the clip."""

    mp4: bytes
    opening: np.ndarray
    """float32 [T]: the mouth's opening in eye distances in each frame; NaN where no face is known."""
    speaker_frame: int
    """First frame with the reference's speaker, from which confidences of sync count."""


Videos = Mapping[tuple[str, str], "PreviewVideo | str"]
"""(method, clip) -> its video, or why there is none."""


@dataclass(frozen=True)
class ChosenClip:
    """A clip to preview. level: mean of the metric over the compared methods."""

    clip: str
    level: float
    label: str


@dataclass(frozen=True)
class Place:
    """Where a clip stands among all under one metric. index: from the worst on. Level and values are formatted."""

    index: int
    label: str
    level: str
    values: tuple[str, ...]
    """Of each tile, empty where there is none."""


@dataclass(frozen=True)
class Tile:
    """One video of a preview. Curves are points of a polyline, None where there is none."""

    name: str
    type: MethodType
    source: str | None
    """data: URI of the video."""
    reason: str | None
    """Why there is no video."""
    sync: str | None = None
    opening: str | None = None


@dataclass(frozen=True)
class Preview:
    """A clip's videos side by side: the reference's with the driving sound first, then each method's."""

    number: int
    chosen: ChosenClip
    num_frames: int
    tiles: tuple[Tile, ...]
    places: Mapping[str, Place] = field(default_factory=dict)
    """By metric, of every metric that clips can be ordered by."""

    @property
    def reference(self) -> Tile:
        return self.tiles[0]

    @property
    def size(self) -> int:
        """Bytes of its videos on the page."""
        return sum(len(tile.source or "") for tile in self.tiles)


def compared_methods(results: Results) -> list[MethodResult]:
    """The methods that bring videos, in the order of the tables: no baselines, no real video."""
    return [row for row in split_ranked(results)[0] if not row.baseline]


def preview_metrics(results: Results) -> list[MetricInfo]:
    """Those that clips can be ordered by, the ordering metric first."""
    return [metric for metric in ranked_metrics(results) if not metric.pooled]


def preview_metric(results: Results, by: str | None) -> MetricInfo | None:
    """The metric of that name, if clips can be ordered by it; the ordering metric without a name."""
    if by is None:
        return ordering_metric(results)
    return next((metric for metric in preview_metrics(results) if metric.name == by), None)


def choose_clips(
    results: Results, per_clip: pa.Table, number: int, by: str | None = None
) -> list[ChosenClip]:
    """`number` clips (at most MOST_CLIPS), evenly spread from the worst to the best by a metric (the ordering metric
    if None): three are the worst, the median and the best. Fewer where there are fewer; none without a compared
    method's number."""
    metric = preview_metric(results, by)
    if metric is None or number <= 0:
        return []
    order = _ordered(results, per_clip, metric)
    places = np.linspace(0, len(order) - 1, min(number, MOST_CLIPS, len(order))).round().astype(int)
    return [order[i] for i in places.tolist()]


def _ordered(results: Results, per_clip: pa.Table, metric: MetricInfo) -> list[ChosenClip]:
    """Every clip with a number of a compared method, worst first."""
    levels = _levels(results, per_clip, metric)
    sign = 1 if metric.higher_is_better else -1
    order = sorted(levels, key=lambda clip: (sign * levels[clip], clip))
    return [ChosenClip(clip, levels[clip], _label(i, len(order))) for i, clip in enumerate(order)]


def _levels(results: Results, per_clip: pa.Table, metric: MetricInfo) -> dict[str, float]:
    """clip -> mean over the compared methods that have a number."""
    compared = {row.name for row in compared_methods(results)}
    values: dict[str, list[float]] = {}
    for row in per_clip.select(["method", "clip", metric.name]).to_pylist():
        if row["method"] in compared and row[metric.name] is not None:
            values.setdefault(row["clip"], []).append(row[metric.name])
    return {clip: float(np.mean(numbers)) for clip, numbers in values.items()}


def _label(place: int, count: int) -> str:
    if count == 1:
        return "The only one with a number"
    names = {round((count - 1) / 2): "Median", 0: "Worst", count - 1: "Best"}
    return names.get(place, f"{place + 1} of {count}")


def lay_out(
    results: Results, per_clip: pa.Table, chosen: Sequence[ChosenClip], videos: Videos, curves: Curves
) -> list[Preview]:
    """The previews of the chosen clips, worst first, without those that the page has no room for."""
    shown = per_clip.filter(pc.is_in(per_clip["clip"], pa.array([each.clip for each in chosen], pa.string())))
    rows = {(row["method"], row["clip"]): row for row in shown.to_pylist()}
    made = within_limit(
        [_preview(i, each, results, rows, videos, curves) for i, each in enumerate(chosen)], MOST_BYTES
    )
    orders = {metric.name: _ordered(results, per_clip, metric) for metric in preview_metrics(results)}
    return [replace(preview, places=_places(preview, results, orders, rows)) for preview in made]


def _places(
    preview: Preview,
    results: Results,
    orders: Mapping[str, Sequence[ChosenClip]],
    rows: Mapping[tuple[str, str], Row],
) -> dict[str, Place]:
    """By metric, where the clip has a number under it."""
    found = {}
    for metric in preview_metrics(results):
        at = next((i for i, each in enumerate(orders[metric.name]) if each.clip == preview.chosen.clip), None)
        if at is None:
            continue
        each = orders[metric.name][at]
        values = (rows[tile.name, each.clip][metric.name] for tile in preview.tiles)
        texts = tuple("" if value is None else number(value, metric) for value in values)
        found[metric.name] = Place(at, each.label, number(each.level, metric), texts)
    return found


def within_limit(previews: Sequence[Preview], most: int) -> list[Preview]:
    """Those whose videos have room in `most` bytes, in their order; the ends of the order, worst and best, come
    first."""
    kept: set[int] = set()
    room = most
    for i in sorted(range(len(previews)), key=lambda i: min(i, len(previews) - 1 - i)):
        if previews[i].size <= room:
            kept.add(i)
            room -= previews[i].size
    return [preview for i, preview in enumerate(previews) if i in kept]


def _preview(
    number: int,
    chosen: ChosenClip,
    results: Results,
    rows: Mapping[tuple[str, str], Row],
    videos: Videos,
    curves: Curves,
) -> Preview:
    """Without the reference's video, which is the clock of the others, there is its reason alone."""
    types = {GROUND_TRUTH.name: GROUND_TRUTH.type} | {row.name: row.type for row in compared_methods(results)}
    found = {name: videos[name, chosen.clip] for name in types}
    real = found[GROUND_TRUTH.name]
    if isinstance(real, str):
        return Preview(number, chosen, 0, (Tile(GROUND_TRUTH.name, GROUND_TRUTH.type, None, real),))
    shown = {name: video for name, video in found.items() if isinstance(video, PreviewVideo)}
    openings = strips({name: (video.opening, 0) for name, video in shown.items()}, len(real.opening))
    syncs = strips(
        {
            name: (curve, curve_start(rows[name, chosen.clip], real.speaker_frame))
            for name in shown
            if (curve := curves(name, chosen.clip)) is not None
        },
        len(real.opening),
    )
    tiles = [
        Tile(
            name,
            kind,
            data_uri(shown[name].mp4) if name in shown else None,
            None if name in shown else str(found[name]),
            syncs.get(name),
            openings.get(name),
        )
        for name, kind in types.items()
    ]
    return Preview(number, chosen, len(real.opening), tuple(tiles))


def curve_start(row: Row, speaker_frame: int) -> int:
    """Frame of the first value of a clip's confidence curve: the sync expert leaves out the frames whose sound, at
    the clip's offset, lies before the clip; SyncNet's first window is read at its middle."""
    offset = row.get("expert_offset")
    return speaker_frame + (_MIDDLE_OF_WINDOW if offset is None else max(0, round(offset)))


def strips(curves: Mapping[str, tuple[np.ndarray, int]], num_frames: int) -> dict[str, str]:
    """name -> polyline points of each curve (values per frame, frame of the first), over `num_frames` frames, on one
    scale; curves without two values in there are left out."""
    cut = {name: _in_view(values, first, num_frames) for name, (values, first) in curves.items()}
    cut = {name: (frames, values) for name, (frames, values) in cut.items() if len(values) > 1}
    low, high = value_range(values for _, values in cut.values())
    found = {}
    for name, (frames, values) in cut.items():
        x = (frames + 0.5) / num_frames * SPARK_WIDTH
        y = SPARK_HEIGHT - 1 - (values - low) / (high - low) * (SPARK_HEIGHT - 2)
        found[name] = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y))
    return found


def _in_view(values: np.ndarray, first: int, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames and values that exist and lie before the end."""
    frames = first + np.arange(len(values))
    there = np.isfinite(values) & (frames < num_frames)
    return frames[there], values[there].astype(np.float64)


def data_uri(mp4: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(mp4).decode("ascii")


def sentence_of(reason: str, detail: str | None) -> str:
    """A reason, and the first line of its detail."""
    lines = (detail or "").splitlines()
    return plain_reason(reason) + (f": {lines[0][:_LONGEST_DETAIL]}" if lines else "")
