"""What there is to train on: every clip's shard, row group and length, read from the shards' footers alone.

A clip is one row group, so the minimum of its clip_id, split and num_frames, which Parquet keeps in the footer, is
the value itself. A data set of 150,000 clips is listed without reading one of them.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
import pyarrow.parquet as pq

from syncdiff_data.loader.config import LoaderConfig
from syncdiff_data.recipe import short_hash
from syncdiff_data.records import UserError
from syncdiff_data.shards import Dataset, Store, load_dataset
from syncdiff_data.shards.dataset import clips_without_features
from syncdiff_data.shards.schema import DAMAGED_PARQUET, Footer, footer_values, frame_features, has_columns

FOOTERS_AT_ONCE = 16
CLIP_COLUMNS = ("clip_id", "split", "num_frames")


class DamagedShard(Exception):
    """A shard, or one clip of it, that cannot be read. The text names the shard."""


@dataclass(frozen=True)
class Index:
    """The selected clips. Arrays have one entry per clip."""

    clip_shards: list[str]
    """Names below the data set, in its order."""
    feature_shards: list[str] | None
    feature: str | None
    """The column of the feature shards."""
    feature_dim: int
    """Its width D; 0 without features."""
    crop_size: int
    """Side of the face crops."""
    shard: np.ndarray
    """int64 [N]: index into clip_shards (and feature_shards)."""
    row_group: np.ndarray
    """int64 [N]"""
    num_frames: np.ndarray
    """int64 [N]"""
    clip_id: np.ndarray
    """str [N]"""
    sound_late: np.ndarray
    """int64 [N]: frames by which the sound comes late, by which the loader moves the features."""

    @property
    def fingerprint(self) -> str:
        """A hash of the selected clips, their order and the shifts of their sound."""
        shifts = [self.sound_late.tolist()] if self.sound_late.any() else []
        return short_hash([*self.clip_id.tolist(), *shifts])


@dataclass(frozen=True)
class ShardContent:
    """What a shard's footer says."""

    layers: Mapping[str, int]
    """Columns with a vector a frame, and their widths; empty in a shard of clips."""
    crop_size: int
    """0 in a shard of features."""
    values: Mapping[str, list]
    """Per column asked for one value a row group."""


@dataclass(frozen=True)
class ClipRows:
    """Columns of the listed clips, N entries each."""

    shard: np.ndarray
    """int64"""
    row_group: np.ndarray
    """int64"""
    num_frames: np.ndarray
    """int64"""
    clip_id: np.ndarray
    """str"""
    split: np.ndarray
    """object: str or None"""

    def keep(self, chosen: np.ndarray) -> ClipRows:
        """Those of the mask bool [N]."""
        return ClipRows(**{column.name: getattr(self, column.name)[chosen] for column in fields(self)})


def build_index(clips: Store, features: Store | None, config: LoaderConfig) -> Index:
    """List the clips of `config.split` that hold at least a window of frames and that `config.sync` keeps.

    A damaged shard is left out with a warning, or the first one raises, as `config.damaged` says. UserError when
    features and clips do not belong together, or nothing is left.
    """
    dataset = load_dataset(clips, "clips")
    shards = read_footers(clips, dataset, CLIP_COLUMNS)
    feature_shards, feature, feature_dim = None, config.feature, 0
    rejected: frozenset[str] = frozenset()
    if features is not None:
        feature_dataset = load_dataset(features, "features")
        check_same_recipe(clips, dataset, features, feature_dataset)
        feature_shards = feature_dataset.shards()
        theirs = read_footers(features, feature_dataset, ("clip_id",))
        rejected = clips_without_features(features, feature_dataset)
        feature, feature_dim = choose_feature(features, theirs, config.feature)
        theirs = [
            check_feature(features, name, shard, feature, feature_dim)
            for name, shard in zip(feature_shards, theirs)
        ]
        shards = [
            check_same_clips(features, name, *pair) for name, *pair in zip(feature_shards, shards, theirs)
        ]
    rows = clip_rows(shards, config.damaged == "skip")
    if rejected:
        rows = rows.keep(np.array([clip_id not in rejected for clip_id in rows.clip_id.tolist()], bool))
    shifts: Mapping[str, int] = {}
    if config.sync is not None:
        shifts = config.sync.shifts(dataset)
        in_step = rows.keep(np.array([clip_id in shifts for clip_id in rows.clip_id.tolist()], bool))
        print(f"sync: {len(in_step.shard)} of {len(rows.shard)} clips are in step", file=sys.stderr)
        rows = in_step
    kept = select(clips, rows, config.split, config.window)
    return Index(
        clip_shards=dataset.shards(),
        feature_shards=feature_shards,
        feature=feature,
        feature_dim=feature_dim,
        crop_size=next(shard.crop_size for shard in shards if isinstance(shard, ShardContent)),
        shard=kept.shard,
        row_group=kept.row_group,
        num_frames=kept.num_frames,
        clip_id=kept.clip_id,
        sound_late=np.array([shifts.get(clip_id, 0) for clip_id in kept.clip_id.tolist()]),
    )


def check_same_recipe(clips: Store, dataset: Dataset, features: Store, feature_dataset: Dataset) -> None:
    """UserError when the features were made from another data set of clips, or before it was made again."""
    expected = (dataset.fingerprint, dataset.plan_hash)
    found = (feature_dataset.recipe.get("config", {}).get("clips"), feature_dataset.plan_hash)
    if expected != found:
        raise UserError(
            f"{features.uri} holds features of other clips than {clips.uri}: expected fingerprint and plan "
            f"{expected}, found {found}; extract the features of this data set"
        )


def check_same_clips(
    features: Store, name: str, clips: ShardContent | DamagedShard, theirs: ShardContent | DamagedShard
) -> ShardContent | DamagedShard:
    """The clips shard, or the damage of either side. UserError when the ids differ."""
    if isinstance(clips, DamagedShard):
        return clips
    if isinstance(theirs, DamagedShard):
        return theirs
    if clips.values["clip_id"] != theirs.values["clip_id"]:
        raise UserError(
            f"{features.path(name)} holds features of other clips: expected the clip ids of the clips shard in the "
            "same order; extract the features of this data set again"
        )
    return clips


def check_feature(
    features: Store, name: str, shard: ShardContent | DamagedShard, feature: str, size: int
) -> ShardContent | DamagedShard:
    """The features shard, or its damage: it lacks the column that is read, or has it with another width."""
    if isinstance(shard, ShardContent) and shard.layers.get(feature) != size:
        return DamagedShard(f"{features.path(name)} has no {feature} of {size} values a frame")
    return shard


def choose_feature(
    features: Store, shards: Sequence[ShardContent | DamagedShard], feature: str | None
) -> tuple[str, int]:
    """The column to read and its width: the named one, or the only one. UserError lists what there is otherwise. What
    most shards have counts, since the others are damaged."""
    counts = Counter(tuple(shard.layers.items()) for shard in shards if isinstance(shard, ShardContent))
    layers = dict(counts.most_common(1)[0][0]) if counts else {}
    if feature is None and len(layers) == 1:
        (feature,) = layers
    if feature is None or feature not in layers:
        found = ", ".join(layers) or "none with vectors that can be read"
        raise UserError(f"{features.uri} has the features {found}: name one of them, not {feature}")
    return feature, layers[feature]


def read_footers(store: Store, dataset: Dataset, columns: Sequence[str]) -> list[ShardContent | DamagedShard]:
    """What each shard's footer says, or the damage that keeps it from being read."""

    def read(name: str) -> ShardContent | DamagedShard:
        try:
            with pq.ParquetFile(store.open(name)) as file:
                metadata, schema = file.metadata, file.schema_arrow
            footer = Footer.of(schema)
            if footer is None or footer.fingerprint != dataset.fingerprint:
                return DamagedShard(
                    f"{store.path(name)} was made by another recipe than its dataset.json says"
                )
            if not has_columns(dataset.kind, schema):
                raise ValueError("its columns are not those of the table")
            values = {column: footer_values(metadata, column) for column in columns}
            if "split" in values:
                values["split"] = [split and sys.intern(split) for split in values["split"]]
            layers = frame_features(schema) if dataset.kind == "features" else {}
            if nameless := [column for column in columns if column != "split" and None in values[column]]:
                raise ValueError(f"its footer does not say its {nameless[0]}")
        except DAMAGED_PARQUET as error:
            return DamagedShard(f"{store.path(name)} cannot be read ({error})")
        return ShardContent(layers, footer.crop_size or 0, values)

    names = dataset.shards()
    there = set(store.list(dataset.kind)).intersection(names)
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
        found = dict(zip(there, pool.map(read, there)))
    return [found.get(name) or DamagedShard(f"{store.path(name)} is not there") for name in names]


def clip_rows(shards: Sequence[ShardContent | DamagedShard], skip_damaged: bool) -> ClipRows:
    """The clips of all shards; none of a damaged shard that may be skipped, else UserError."""
    numbers, contents = [], []
    for number, shard in enumerate(shards):
        if isinstance(shard, ShardContent):
            numbers.append(number)
            contents.append(shard.values)
        elif skip_damaged:
            warnings.warn(f"{shard}; all its clips are left out", stacklevel=2)
        else:
            raise UserError(
                f"{shard}: make this shard again, or let the loader skip damaged shards"
            ) from shard
    lengths = [len(values["clip_id"]) for values in contents]
    columns = {name: [value for values in contents for value in values[name]] for name in CLIP_COLUMNS}
    return ClipRows(
        shard=np.repeat(np.array(numbers, np.int64), lengths),
        row_group=np.concatenate([np.arange(length) for length in lengths] or [np.arange(0)]),
        num_frames=np.array(columns["num_frames"], np.int64),
        clip_id=np.array(columns["clip_id"], str),
        split=np.array(columns["split"], object),
    )


def select(clips: Store, rows: ClipRows, split: str | None, window: int) -> ClipRows:
    """Keep the clips of the split that are long enough; UserError when that leaves none."""
    chosen = rows if split is None else rows.keep(rows.split == split)
    kept = chosen.keep(chosen.num_frames >= window)
    if not len(kept.shard):
        splits = ", ".join(sorted({str(name) for name in rows.split.tolist()})) or "none"
        raise UserError(
            f"{clips.uri} has nothing to train on: it holds {len(rows.shard)} clips (splits: {splits}), "
            f"{len(chosen.shard)} of them of split {split or 'any'}, none with {window} frames; "
            "choose another split or a shorter window"
        )
    short = len(chosen.shard) - len(kept.shard)
    if short:
        warnings.warn(
            f"{short} clips of {clips.uri} have under {window} frames and are left out", stacklevel=2
        )
    return kept
