"""Does a data set keep its promises? Every invariant of docs/dataset.md, read from the shards alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from os import PathLike

import numpy as np
import pyarrow.parquet as pq

from syncdiff_data.plans import hash_of, plan_hash
from syncdiff_data.records import Clip, Kind, Reason, UserError
from syncdiff_data.shards.dataset import Dataset, load_dataset, open_shard
from syncdiff_data.shards.rows import check_clip, clip_of_row
from syncdiff_data.shards.schema import Footer, features_schema
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
    return problems


def _check_clips(store: Store, dataset: Dataset) -> Iterator[str]:
    seen: Counter[str] = Counter()
    sources: list[tuple[str, int]] = []
    hashes: list[str] = []
    counts: Counter[str] = Counter()
    for clips_name, rejects_name in zip(dataset.shards("clips"), dataset.shards("rejects")):
        try:
            rejects = open_shard(store, rejects_name, dataset)
            clips = open_shard(store, clips_name, dataset)
        except UserError as error:
            yield str(error)
            continue
        footer = Footer.of(rejects.schema_arrow)
        assert footer is not None
        sources += footer.sources
        hashes.append(footer.plan_hash)
        if footer.plan_hash != hash_of(footer.sources) or footer.plan_hash != _plan_hash(clips):
            yield f"{clips_name}: its plan is not that of {rejects_name}"
        covered: set[str] = set()
        for row, clip in _clips(clips):
            if isinstance(clip, str):
                yield f"{clips_name}, row {row}: {clip}"
                continue
            yield from (f"{clips_name}, row {row}: {p}" for p in clip_problems(clip, _crop_size(clips)))
            seen[clip.clip_id] += 1
            covered.add(clip.source)
            counts.update(clips=1, frames=clip.num_frames)
        for reject in rejects.read().to_pylist():
            covered.add(reject["source"])
            counts["rejects"] += 1
            if reject["reason"] not in set(Reason) or reject["kind"] not in set(Kind):
                yield f"{rejects_name}: unknown reason {reject['kind']}/{reject['reason']}"
        planned = {path for path, _ in footer.sources}
        yield from (
            f"{clips_name}: {path} is neither a clip nor a reject" for path in sorted(planned - covered)
        )
        yield from (f"{clips_name}: {path} is not in the plan" for path in sorted(covered - planned))
    yield from (f"clip_id {clip_id} occurs {n} times" for clip_id, n in seen.items() if n > 1)
    if plan_hash(hashes) != dataset.plan_hash:
        yield "the shards' plans are not those of dataset.json"
    if dataset.complete:
        counts["sources"] = len(sources)
        wrong = [
            key for key in ("sources", "clips", "frames", "rejects") if dataset.counts.get(key) != counts[key]
        ]
        yield from (
            f"dataset.json counts {dataset.counts.get(k)} {k}, the shards hold {counts[k]}" for k in wrong
        )


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
    clips = 0
    for name in dataset.shards():
        try:
            file = open_shard(store, name, dataset)
        except UserError as error:
            yield str(error)
            continue
        layers = {f.name: f.type.value_type.list_size for f in file.schema_arrow if f.name != "clip_id"}
        if not file.schema_arrow.equals(features_schema(layers), check_metadata=False):
            yield f"{name}: its columns are not those of a features table"
        for row in range(file.num_row_groups):
            table = file.read_row_group(row)
            lengths = {layer: len(table.column(layer)[0]) for layer in layers}
            if len(set(lengths.values())) != 1:
                yield f"{name}, row {row}: layers of different lengths {lengths}"
            for layer in layers:
                values = table.column(layer)[0].values.flatten().to_numpy(zero_copy_only=False)
                if not np.isfinite(values).all():
                    yield f"{name}, row {row}: {layer} holds a number that is not finite"
            clips += 1
    if dataset.complete and dataset.counts.get("clips") != clips:
        yield f"dataset.json counts {dataset.counts.get('clips')} clips, the shards hold {clips}"


def _compare(store: Store, features: Dataset, clips_store: Store) -> Iterator[str]:
    """Features against the clips they were made of: the same ids in the same order, one vector a frame."""
    clips = load_dataset(clips_store, "clips")
    if clips.num_shards != features.num_shards:
        yield f"{features.num_shards} shards of features for {clips.num_shards} of clips"
        return
    for clip_name, name in zip(clips.shards(), features.shards()):
        wanted = open_shard(clips_store, clip_name, clips).read(columns=["clip_id", "num_frames"])
        file = open_shard(store, name, features)
        ids = file.read(columns=["clip_id"]).column(0).to_pylist()
        if ids != wanted.column("clip_id").to_pylist():
            yield f"{name}: its clips are not those of {clip_name}"
            continue
        layer = file.schema_arrow.names[1]
        lengths = [len(file.read_row_group(row, columns=[layer]).column(0)[0]) for row in range(len(ids))]
        if lengths != wanted.column("num_frames").to_pylist():
            yield f"{name}: a clip has not one vector per frame"


def _clips(file: pq.ParquetFile) -> Iterator[tuple[int, Clip | str]]:
    for row in range(file.num_row_groups):
        try:
            yield row, clip_of_row(file.read_row_group(row))
        except (
            OSError,
            ValueError,
            RuntimeError,
        ) as error:  # soundfile raises a RuntimeError for damaged FLAC
            yield row, str(error)


def _crop_size(file: pq.ParquetFile) -> int | None:
    footer = Footer.of(file.schema_arrow)
    return footer.crop_size if footer else None


def _plan_hash(file: pq.ParquetFile) -> str | None:
    footer = Footer.of(file.schema_arrow)
    return footer.plan_hash if footer else None
