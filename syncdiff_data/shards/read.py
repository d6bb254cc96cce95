"""The read API for notebooks, training and checks: decoded clips, features, rejects."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike

import numpy as np
import pyarrow as pa

from syncdiff_data.reasons import Reason
from syncdiff_data.records import Clip, Reject, UserError
from syncdiff_data.shards.clip_columns import vectors_of
from syncdiff_data.shards.dataset import MAKE_AGAIN, iterate_shards, load_dataset
from syncdiff_data.shards.rows import read_clip
from syncdiff_data.shards.schema import feature_columns
from syncdiff_data.shards.store import Store


def read_clips(dataset: str | PathLike[str], split: str | None = None) -> Iterator[Clip]:
    """Clips of a data set in stored order, one in memory at a time; `split` keeps one split.

    Raises UserError when the folder is not a finished clips data set or a shard of it is damaged.
    """
    store = Store(dataset)
    for _, shard in iterate_shards(store, load_dataset(store, "clips")):
        for row in range(shard.num_row_groups):
            if split is None or shard.read_row_group(row, columns=["split"]).column(0)[0].as_py() == split:
                yield read_clip(shard, row)


def read_features(features: str | PathLike[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(clip_id, {column: float16 [num_frames, D]}) in the order of the clips; [0, D] for a clip that was rejected.

    A column with one value a clip is an array of that value, [] or [K], and empty ([0]) for a rejected clip.

    Raises UserError when the folder is not a finished features data set or a shard of it is damaged.
    """
    store = Store(features)
    for _, shard in iterate_shards(store, load_dataset(store, "features")):
        for row in range(shard.num_row_groups):
            table = shard.read_row_group(row)
            columns = feature_columns(shard.schema_arrow)
            try:
                values = {
                    name: _feature(table.column(name)[0], isinstance(column, int))
                    for name, column in columns.items()
                }
                yield table.column("clip_id")[0].as_py(), values
            except (IndexError, AttributeError) as error:  # a row group without a row, and nulls
                raise UserError(
                    f"row {row} of {shard.where} holds no features ({error}). {MAKE_AGAIN}"
                ) from error


def _feature(cell: pa.Scalar, is_vectors: bool) -> np.ndarray:
    value = None if is_vectors else cell.as_py()
    return vectors_of(cell) if is_vectors else np.array([] if value is None else value)


def read_rejects(dataset: str | PathLike[str]) -> list[Reject]:
    """Every reject of a data set of clips or features, in stored order."""
    store = Store(dataset)
    rejects: list[Reject] = []
    for _, shard in iterate_shards(store, load_dataset(store), "rejects"):
        for row in shard.read().to_pylist():
            row.pop("kind")
            try:
                rejects.append(Reject(**{**row, "reason": Reason(row["reason"])}))
            except ValueError as error:
                raise UserError(
                    f"{shard.where} has a reject that cannot be ({error}). {MAKE_AGAIN}"
                ) from error
    return rejects
