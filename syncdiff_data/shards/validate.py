"""Does a data set keep its promises? Every invariant of docs/dataset.md, read from the shards alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike

import numpy as np
import pyarrow as pa

from syncdiff_data.plans import hash_of, plan_hash
from syncdiff_data.reasons import REJECT_REASONS, Kind
from syncdiff_data.records import Clip, UserError
from syncdiff_data.shards.dataset import Dataset, Shard, clips_without_features, load_dataset, open_shard
from syncdiff_data.shards.rows import check_clip, clip_of_row, vectors_of
from syncdiff_data.shards.schema import CLIPS, REJECTS, features_schema
from syncdiff_data.shards.store import Store


def validate(dataset: str | PathLike[str], clips: str | PathLike[str] | None = None) -> list[str]:
    """What is wrong with a data set of clips or features, one sentence each; an empty list when all is well.

    Reads every byte. clips: the clips data set that features are checked against, row by row.
    Raises UserError when the folder is no data set at all.
    """
    store = Store(dataset)
    description = load_dataset(store, must_be_complete=False)
    problems = [] if description.complete else ["dataset.json says that the run is not finished"]
    check = _check_clips if description.kind == "clips" else _check_features
    problems += check(store, description)
    if clips is not None:
        problems += _compare(store, description, Store(clips))
    return list(dict.fromkeys(problems))


@dataclass
class _Seen:
    """What the shards of a clips data set hold, added up."""

    clip_ids: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    plan_hashes: list[str] = field(default_factory=list)


def _check_clips(store: Store, dataset: Dataset) -> Iterator[str]:
    seen, readable = _Seen(), True
    for clips_name, rejects_name in zip(dataset.shards("clips"), dataset.shards("rejects")):
        try:
            clips, rejects = open_shard(store, clips_name, dataset), open_shard(store, rejects_name, dataset)
            yield from (f"{clips_name}{problem}" for problem in _check_clips_shard(clips, rejects, seen))
        except UserError as error:
            yield str(error)
            readable = False
    yield from (f"clip_id {clip_id} occurs {n} times" for clip_id, n in seen.clip_ids.items() if n > 1)
    if not readable:  # Sums over part of the shards would only repeat that.
        return
    if plan_hash(seen.plan_hashes) != dataset.plan_hash:
        yield "the shards' plans are not those of dataset.json"
    if dataset.complete:
        for key in ("sources", "clips", "frames", "rejects"):
            if dataset.counts.get(key) != seen.counts[key]:
                yield f"dataset.json counts {dataset.counts.get(key)} {key}, the shards hold {seen.counts[key]}"


def _check_clips_shard(clips: Shard, rejects: Shard, seen: _Seen) -> Iterator[str]:
    """The problems of one shard of clips and its rejects, and what they hold into `seen`.

    Raises UserError where one of them is no such table at all.
    """
    for shard, schema in ((clips, CLIPS), (rejects, REJECTS)):
        if not shard.schema_arrow.equals(schema, check_metadata=False):
            raise UserError(f"the columns of {shard.where} are not those of the table")
    assert clips.footer is not None
    assert rejects.footer is not None
    planned = {str(path) for path, *_ in rejects.footer.sources}
    seen.plan_hashes.append(rejects.footer.plan_hash)
    if len({rejects.footer.plan_hash, clips.footer.plan_hash, hash_of(rejects.footer.sources)}) > 1:
        yield ": its plan is not that of its rejects"
    covered = set()
    order = []
    for row, clip in _clips(clips):
        if isinstance(clip, str):
            yield f", row {row}: {clip}"
            continue
        yield from (f", row {row}: {problem}" for problem in clip_problems(clip, clips.footer.crop_size))
        seen.clip_ids[clip.clip_id] += 1
        seen.counts.update(clips=1, frames=clip.num_frames)
        order.append((clip.source, clip.track, clip.start_s))
        covered.add(clip.source)
    if order != sorted(order):
        yield ": its rows are not in the order of source, track and time"
    for reject in rejects.read().to_pylist():
        covered.add(reject["source"])
        seen.counts["rejects"] += 1
        if reject["reason"] not in REJECT_REASONS or reject["kind"] not in set(Kind):
            yield f": its rejects have an unknown reason {reject['kind']}/{reject['reason']}"
    seen.counts["sources"] += len(planned)
    yield from (f": {path} is neither a clip nor a reject" for path in sorted(planned - covered))
    yield from (f": {path} is not in the plan" for path in sorted(covered - planned))


def clip_problems(clip: Clip, crop_size: int | None) -> Iterator[str]:
    """What is wrong with one clip, decoding every crop."""
    try:
        check_clip(clip)
        faces, mouths = clip.face, clip.mouth
    except ValueError as error:
        yield str(error)
        return
    if faces.shape[1:] != (crop_size, crop_size, 3):
        yield f"face crops are {faces.shape[1:]}, the shard says {crop_size}"
    if mouths is not None and mouths.shape[1:] != (96, 96):
        yield f"mouth crops are {mouths.shape[1:]}, expected (96, 96)"
    if np.any(np.diff(clip.source_frame) < 0):
        yield "source_frame runs backwards"
    for name in ("landmarks", "box", "face_to_source"):
        if not np.isfinite(getattr(clip, name)).all():
            yield f"{name} holds a number that is not finite"


def _check_features(store: Store, dataset: Dataset) -> Iterator[str]:
    clips, readable = 0, True
    for name in dataset.shards():
        try:
            shard = open_shard(store, name, dataset)
            yield from (f"{name}{problem}" for problem in _check_features_shard(shard))
            clips += shard.metadata.num_rows
        except UserError as error:
            yield str(error)
            readable = False
    if dataset.complete and readable and dataset.counts.get("clips") != clips:
        yield f"dataset.json counts {dataset.counts.get('clips')} clips, the shards hold {clips}"


def _check_features_shard(shard: Shard) -> Iterator[str]:
    layers = {f.name: f.type.value_type.list_size for f in shard.schema_arrow if f.name != "clip_id"}
    if not shard.schema_arrow.equals(features_schema(layers), check_metadata=False):
        yield ": its columns are not those of a features table"
    for row in range(shard.num_row_groups):
        table = shard.read_row_group(row)
        lengths = {layer: len(table.column(layer)[0]) for layer in layers}
        if len(set(lengths.values())) != 1:
            yield f", row {row}: layers of different lengths {lengths}"
        for layer in layers:
            if not np.isfinite(vectors_of(table.column(layer)[0])).all():
                yield f", row {row}: {layer} holds a number that is not finite"


def _compare(store: Store, features: Dataset, clips_store: Store) -> Iterator[str]:
    """Features against the clips they were made of: the same ids in the same order, one vector a frame."""
    clips = load_dataset(clips_store, "clips")
    if clips.num_shards != features.num_shards:
        yield f"{features.num_shards} shards of features for {clips.num_shards} of clips"
        return
    rejected = clips_without_features(store, features)
    for clip_name, name in zip(clips.shards(), features.shards()):
        wanted = open_shard(clips_store, clip_name, clips).read(columns=["clip_id", "num_frames"])
        try:
            shard = open_shard(store, name, features)
            yield from (
                f"{name}: {problem}" for problem in _compare_shard(shard, wanted, clip_name, rejected)
            )
        except UserError as error:
            yield str(error)


def _compare_shard(shard: Shard, wanted: pa.Table, clip_name: str, rejected: frozenset[str]) -> Iterator[str]:
    ids = shard.read(columns=["clip_id"]).column(0).to_pylist()
    if ids != wanted.column("clip_id").to_pylist():
        yield f"its clips are not those of {clip_name}"
        return
    layer = shard.schema_arrow.names[1]
    lengths = [len(shard.read_row_group(row, columns=[layer]).column(0)[0]) for row in range(len(ids))]
    frames = wanted.column("num_frames").to_pylist()
    if lengths != [0 if clip_id in rejected else count for clip_id, count in zip(ids, frames)]:
        yield "a clip has not one vector per frame"


def _clips(shard: Shard) -> Iterator[tuple[int, Clip | str]]:
    for row in range(shard.num_row_groups):
        table = shard.read_row_group(row)
        if table.num_rows != 1:
            yield row, f"a row group of {table.num_rows} clips, where each has its own"
            continue
        try:
            yield row, clip_of_row(table)
        except (ValueError, RuntimeError) as error:  # soundfile raises a RuntimeError for damaged FLAC
            yield row, str(error)
