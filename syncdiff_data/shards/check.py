"""The check of one shard: everything it promises by itself, read byte by byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from syncdiff_data.plans import hash_of
from syncdiff_data.reasons import REJECT_REASONS, Kind
from syncdiff_data.records import Clip, UserError
from syncdiff_data.shards.clip_columns import vectors_of
from syncdiff_data.shards.dataset import (
    MAKE_AGAIN,
    Dataset,
    Shard,
    clips_without_features,
    load_dataset,
    open_shard,
)
from syncdiff_data.shards.rows import check_clip, clip_of_row
from syncdiff_data.shards.schema import (
    CLIPS,
    REJECTS,
    feature_columns,
    features_schema,
    frame_features,
    shard_path,
)
from syncdiff_data.shards.store import Store

Heartbeat = Callable[[], None]


@dataclass
class ShardReport:
    """What the check of one shard (of clips and its rejects, or of features) found."""

    problems: list[str] = field(default_factory=list)
    readable: bool = True
    """False where a file of it could not be read, so that sums over all shards mean nothing."""
    clip_ids: list[str] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)
    plan_hash: str = ""
    """Clips only."""


@dataclass(frozen=True)
class ShardChecker:
    """Checks the shards of a data set one by one; small, so that it can travel to worker processes."""

    dataset: str
    clips: str | None = None
    """For features: the clips they are compared with."""

    @cached_property
    def description(self) -> Dataset:
        """Raises UserError when the folder is no data set."""
        return load_dataset(Store(self.dataset), must_be_complete=False)

    @cached_property
    def clips_description(self) -> Dataset | None:
        """Raises UserError when the clips are no finished data set of clips."""
        return None if self.clips is None else load_dataset(Store(self.clips), "clips")

    @cached_property
    def _rejected(self) -> frozenset[str]:
        return clips_without_features(Store(self.dataset), self.description)

    def check(self, number: int, heartbeat: Heartbeat = lambda: None) -> ShardReport:
        """Read every byte of shard `number`. heartbeat is called at every row."""
        report = ShardReport()
        try:
            if self.description.kind == "clips":
                self._check_clips(number, report, heartbeat)
            else:
                self._check_features(number, report, heartbeat)
        except UserError as error:
            report.problems.append(str(error))
            report.readable = False
        return report

    def _check_clips(self, number: int, report: ShardReport, heartbeat: Heartbeat) -> None:
        clips, rejects = self._open("clips", number), self._open("rejects", number)
        with clips, rejects:
            report.problems += (
                self._name("clips", number) + problem
                for problem in _clips_problems(clips, rejects, report, heartbeat)
            )

    def _check_features(self, number: int, report: ShardReport, heartbeat: Heartbeat) -> None:
        name = self._name("features", number)
        with self._open("features", number) as shard:
            report.problems += (name + problem for problem in _features_problems(shard, heartbeat))
            report.counts = {"clips": shard.metadata.num_rows}
            report.clip_ids = shard.read(columns=["clip_id"]).column(0).to_pylist()
            clips = self.clips_description
            if report.problems or clips is None or clips.num_shards != self.description.num_shards:
                return
            clips_name = shard_path("clips", number, clips.num_shards)
            assert self.clips is not None
            with open_shard(Store(self.clips), clips_name, clips) as beside:
                wanted = beside.read(columns=["clip_id", "num_frames"])
            report.problems += (
                f"{name}: {problem}" for problem in _comparison(shard, wanted, clips_name, self._rejected)
            )

    def _name(self, kind: str, number: int) -> str:
        return shard_path(kind, number, self.description.num_shards)

    def _open(self, kind: str, number: int) -> Shard:
        name = self._name(kind, number)
        shard = open_shard(Store(self.dataset), name, self.description)
        footer = shard.footer
        assert footer is not None  # open_shard refuses it
        named = shard_path(footer.kind, footer.shard, footer.num_shards)
        if named != name:
            raise UserError(f"{shard.where} says that it is {named}. {MAKE_AGAIN}")
        return shard


def _clips_problems(clips: Shard, rejects: Shard, report: ShardReport, heartbeat: Heartbeat) -> Iterator[str]:
    """The problems of one shard of clips and its rejects; what they hold goes into the report.

    Raises UserError where one of them is no such table at all.
    """
    for shard, schema in ((clips, CLIPS), (rejects, REJECTS)):
        if not shard.schema_arrow.equals(schema, check_metadata=False):
            raise UserError(f"the columns of {shard.where} are not those of the table")
    assert clips.footer is not None
    assert rejects.footer is not None
    planned = {str(path) for path, *_ in rejects.footer.sources}
    report.plan_hash = rejects.footer.plan_hash
    if len({rejects.footer.plan_hash, clips.footer.plan_hash, hash_of(rejects.footer.sources)}) > 1:
        yield ": its plan is not that of its rejects"
    covered, order, counts = set(), [], Counter(sources=len(planned))
    for row, clip in _clips(clips):
        heartbeat()
        if isinstance(clip, str):
            yield f", row {row}: {clip}"
            continue
        yield from (f", row {row}: {problem}" for problem in clip_problems(clip, clips.footer.crop_size))
        report.clip_ids.append(clip.clip_id)
        counts.update(clips=1, frames=clip.num_frames)
        order.append((clip.source, clip.track, clip.start_s))
        covered.add(clip.source)
    if order != sorted(order):
        yield ": its rows are not in the order of source, track and time"
    for reject in rejects.read().to_pylist():
        covered.add(reject["source"])
        counts["rejects"] += 1
        if reject["reason"] not in REJECT_REASONS or reject["kind"] not in set(Kind):
            yield f": its rejects have an unknown reason {reject['kind']}/{reject['reason']}"
    report.counts = dict(counts)
    yield from (f": {path} is neither a clip nor a reject" for path in sorted(planned - covered))
    yield from (f": {path} is not in the plan" for path in sorted(covered - planned))


def clip_problems(clip: Clip, crop_size: int | None) -> Iterator[str]:
    """What is wrong with one clip, decoding every crop."""
    try:
        check_clip(clip)
        faces, mouths = clip.face, clip.mouth
    except Exception as error:  # OpenCV has its own for what is no picture
        yield str(error)
        return
    if faces.shape[1:] != (crop_size, crop_size, 3):
        yield f"face crops are {faces.shape[1:]}, the shard says {crop_size}"
    if mouths is not None and mouths.shape[1:] != (96, 96):
        yield f"mouth crops are {mouths.shape[1:]}, expected (96, 96)"
    if clip.source_frame.dtype.kind != "i" or (clip.source_frame < 0).any():
        yield "source_frame holds nulls or negative numbers"
    if np.any(np.diff(clip.source_frame) < 0):
        yield "source_frame runs backwards"
    for name in ("landmarks", "box", "face_to_source"):
        if not np.isfinite(getattr(clip, name)).all():
            yield f"{name} holds a number that is not finite"
    if not np.isfinite(clip.start_s):
        yield "start_s is not finite"
    if flat := np.flatnonzero(~_is_invertible(clip.face_to_source)).tolist():
        yield f"face_to_source of frame {flat[0]} maps the crop to a line or a point, so it has no inverse"


def _is_invertible(affines: np.ndarray) -> np.ndarray:
    """bool [T]: whether an affine of [T, 2, 3] has an inverse; True where it is not finite."""
    a, b, c, d = affines.astype(np.float64)[:, :, :2].reshape(-1, 4).T
    return a * d - b * c != 0


def _features_problems(shard: Shard, heartbeat: Heartbeat) -> Iterator[str]:
    layers = frame_features(shard.schema_arrow)
    columns = feature_columns(shard.schema_arrow)
    if not shard.schema_arrow.equals(features_schema(columns), check_metadata=False):
        yield ": its columns are not those of a features table"
    for row in range(shard.num_row_groups):
        heartbeat()
        yield from (f", row {row}: {problem}" for problem in _row_problems(shard.read_row_group(row), layers))


def _row_problems(table: pa.Table, layers: Iterable[str]) -> Iterator[str]:
    """What is wrong with one row group of features."""
    if table.num_rows != 1:
        yield f"a row group of {table.num_rows} clips, where each has its own"
        return
    if empty := [name for name in ("clip_id", *layers) if not table.column(name)[0].is_valid]:
        yield f"its {empty[0]} is null"
        return
    for name, column in zip(table.column_names, table.columns):
        value = column[0].as_py() if pa.types.is_floating(column.type) else None
        if value is not None and not np.isfinite(value):
            yield f"{name} is not finite"
    lengths = {layer: len(table.column(layer)[0]) for layer in layers}
    if len(set(lengths.values())) > 1:
        yield f"layers of different lengths {lengths}"
    for layer in layers:
        if not np.isfinite(vectors_of(table.column(layer)[0])).all():
            yield f"{layer} holds a number that is not finite"


def _comparison(shard: Shard, wanted: pa.Table, clip_name: str, rejected: frozenset[str]) -> Iterator[str]:
    """Features against the clips they were made of: the same ids in the same order, one vector a frame."""
    ids = shard.read(columns=["clip_id"]).column(0).to_pylist()
    if ids != wanted.column("clip_id").to_pylist():
        yield f"its clips are not those of {clip_name}"
        return
    without = [clip_id in rejected for clip_id in ids]
    for name in feature_columns(shard.schema_arrow).keys() - frame_features(shard.schema_arrow).keys():
        if shard.read(columns=[name]).column(0).is_null().to_pylist() != without:
            yield f"{name} has not one value for each clip that was encoded"
    for layer in frame_features(shard.schema_arrow):
        yield from _lengths_problem(shard, layer, wanted.column("num_frames").to_pylist(), without)


def _lengths_problem(
    shard: Shard, layer: str, frames: Sequence[int], without: Sequence[bool]
) -> Iterator[str]:
    groups = range(shard.num_row_groups)
    lengths = [len(shard.read_row_group(row, columns=[layer]).column(0)[0]) for row in groups]
    if lengths != [0 if rejected else count for rejected, count in zip(without, frames)]:
        yield f"a clip has not one vector of {layer} per frame"


def _clips(shard: Shard) -> Iterator[tuple[int, Clip | str]]:
    for row in range(shard.num_row_groups):
        table = shard.read_row_group(row)
        if table.num_rows != 1:
            yield row, f"a row group of {table.num_rows} clips, where each has its own"
            continue
        declared = table.column("num_frames")[0].as_py()
        try:
            clip = clip_of_row(table)
            same = declared == clip.num_frames
            yield row, clip if same else f"num_frames is {declared}, its lists hold {clip.num_frames}"
        # each library has its own for cells that are null, empty or something else
        except Exception as error:
            yield row, f"{type(error).__name__}: {error}"
