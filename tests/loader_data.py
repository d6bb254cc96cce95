"""Clips whose values tell their number and frame, as data sets with features, and batches of a loader."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from made_clips import made_clip

from syncdiff_data.images import encode_jpeg
from syncdiff_data.loader import ClipWindows, Loader, LoaderConfig
from syncdiff_data.records import Clip
from syncdiff_data.shards import Store
from syncdiff_data.shards.clip_columns import vector_column
from syncdiff_data.shards.dataset import Dataset
from syncdiff_data.shards.rows import clip_table
from syncdiff_data.shards.schema import CLIPS, Footer, features_schema
from syncdiff_data.shards.write import write_shard

SIZE = 32
FEATURE_SIZE = 4


def numbered_clip(number: int, num_frames: int, split: str | None = None) -> Clip:
    """A clip whose every value tells its number and frame: red is 8 * frame, green 8 * number."""
    frames = np.arange(num_frames)
    crops = np.zeros((num_frames, SIZE, SIZE, 3), np.uint8)
    crops[..., 0], crops[..., 1] = (8 * frames % 256)[:, None, None], 8 * number % 256
    affine = np.tile(np.array([[2.0, 0.5, 7.0], [-0.5, 2.0, 3.0]], np.float32), (num_frames, 1, 1))
    return made_clip(
        num_frames,
        clip_id=f"clip{number:04d}",
        source=f"{number:04d}.mp4",
        split=split,
        face_jpeg=tuple(encode_jpeg(crop) for crop in crops),
        landmarks=np.random.default_rng(number).uniform(0, 60, (num_frames, 68, 2)).astype(np.float32),
        face_to_source=affine,
    )


def write_dataset(root: Path, kind: str, shards: Sequence[Sequence[pa.Table]], schema: pa.Schema) -> str:
    """A finished data set of one table, from tables of one row each; no encoder or face backend needed."""
    store = Store(root)
    for number, rows in enumerate(shards):
        write_shard(store, Footer(kind, kind, "plan", number, len(shards), SIZE), schema, rows)
    recipe = {"config": {"clips": "clips"}}
    Dataset(kind, "made", recipe, kind, "plan", len(shards), complete=True).save(store)
    return str(root)


def feature_table(clip: Clip, schema: pa.Schema) -> pa.Table:
    """Features that tell the clip's number and the frame."""
    values = np.zeros((clip.num_frames, FEATURE_SIZE), np.float16)
    values[:, 0], values[:, 1] = int(clip.clip_id[4:]), np.arange(clip.num_frames)
    return pa.Table.from_arrays([pa.array([clip.clip_id]), vector_column(values)], schema=schema)


def make_dataset(root: Path, shards: Sequence[Sequence[Clip]]) -> tuple[str, str]:
    """The folders of a clips data set and of its features."""
    schema = features_schema({"logfbank": FEATURE_SIZE})
    features = [[feature_table(clip, schema) for clip in shard] for shard in shards]
    clips = [[clip_table(clip) for clip in shard] for shard in shards]
    return (
        write_dataset(root / "clips", "clips", clips, CLIPS),
        write_dataset(root / "features", "features", features, schema),
    )


def read(dataset: tuple[str, str], count: int | None = None, workers: int = 0, **options) -> list[dict]:
    """The first batches of a loader."""
    config = LoaderConfig(**({"batch_size": 4} | options))
    return list(itertools.islice(Loader(ClipWindows(*dataset, config), workers), count))


def names(batches: Iterable[dict]) -> list[tuple[str, int]]:
    """Clip and first frame of every sample, in order."""
    return [pair for batch in batches for pair in zip(batch["clip_id"], batch["first_frame"].tolist())]


def frame_numbers(images: torch.Tensor) -> torch.Tensor:
    """The frames that images [..., 3, S, S] of `numbered_clip` show."""
    return (images[..., 0, :, :].float().mean((-1, -2)) / 8).round().long()
