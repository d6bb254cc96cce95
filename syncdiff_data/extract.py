"""The second stage: each shard of clips gives one shard of features with the same index and the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from syncdiff_data.features import Encoder, load_encoder
from syncdiff_data.features.encoder import Modality
from syncdiff_data.recipe import short_hash
from syncdiff_data.records import Clip
from syncdiff_data.shards.dataset import Dataset, load_dataset, open_shard
from syncdiff_data.shards.rows import clip_of_row, vector_column
from syncdiff_data.shards.schema import CLIPS, Footer, features_schema, shard_path
from syncdiff_data.shards.store import Store
from syncdiff_data.shards.write import is_committed, write_shard
from syncdiff_data.stage import ReportProgress

VERSION = 1
"""Bumped by hand when the numbers change for the same options."""
FRAMES_AT_ONCE = 4000
"""Clips go to the encoder in groups of about this many frames, so that it can batch similar lengths."""


@dataclass(frozen=True)
class ExtractConfig:
    """What decides the numbers of a features data set."""

    encoder: str
    layers: tuple[int | None, ...] = ()
    """AV-HuBERT: 1-based, in stored order; None is the final output, and what an empty list means."""
    modality: Modality = "audio"
    checkpoint: str = "avhubert-base"
    threads: int = 1
    """CPU threads of a task: sums in another order differ in the last bits."""


@dataclass(frozen=True)
class ExtractStage:
    """Makes the features shard of one clips shard; pickled for the workers, so it holds paths and options only."""

    clips: str
    out: str
    fingerprint: str
    config: ExtractConfig
    weights: tuple[tuple[str, str], ...]
    device: str

    def __call__(self, plan: str, report_progress: ReportProgress) -> dict[str, Any]:
        """Commit the features of shard number `plan`, unless they are committed already, and return the counts."""
        shard = int(json.loads(plan))
        clips_store, store = Store(self.clips), Store(self.out)
        dataset = load_dataset(clips_store, "clips")
        name = shard_path("clips", shard, dataset.num_shards)
        columns = [name for name in CLIPS.names if name != "face" and (name != "mouth" or self._needs_mouth)]
        with open_shard(clips_store, name, dataset) as file:
            counts = _count(file)
            footer = Footer("features", self.fingerprint, _contents_hash(file), shard, dataset.num_shards)
            if not is_committed(store, footer):
                encoder = _load_encoder(self.config, self.weights, self.device)
                schema = features_schema(encoder.columns)
                write_shard(store, footer, schema, _feature_tables(file, encoder, schema, columns))
        report_progress(shard, counts)
        return dict(counts)

    @property
    def _needs_mouth(self) -> bool:
        return self.config.encoder == "avhubert" and self.config.modality != "audio"


def _feature_tables(
    file: pq.ParquetFile, encoder: Encoder, schema: pa.Schema, columns: list[str]
) -> Iterator[pa.Table]:
    """One table of one row per clip, in the order of the clips. columns: the clip columns that are read."""
    for group in _clip_groups(file, columns):
        # float32 [T, D] per clip and layer -> float16 list cells
        for clip, features in zip(group, encoder.encode(group)):
            arrays = [pa.array([clip.clip_id])]
            arrays += [vector_column(as_float16(features[name], name, clip)) for name in encoder.columns]
            yield pa.Table.from_arrays(arrays, schema=schema)


def as_float16(values: np.ndarray, column: str, clip: Clip) -> np.ndarray:
    """Features as they are stored. ValueError where a value is not finite or too large for float16."""
    stored = values.astype(np.float16)
    if not np.isfinite(stored).all():
        raise ValueError(f"{column} of {clip.source} holds values that float16 cannot store")
    return stored


def _clip_groups(file: pq.ParquetFile, columns: list[str]) -> Iterator[list[Clip]]:
    group: list[Clip] = []
    for row in range(file.num_row_groups):
        group.append(clip_of_row(file.read_row_group(row, columns=columns)))
        if sum(clip.num_frames for clip in group) >= FRAMES_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _count(file: pq.ParquetFile) -> dict[str, int]:
    frames = file.read(columns=["num_frames"]).column(0).to_pylist()
    return {"clips": len(frames), "frames": sum(frames)}


def _contents_hash(file: pq.ParquetFile) -> str:
    """Changes when the clips of a shard do: another recipe, another plan, or a source that was retried."""
    footer = Footer.of(file.schema_arrow)
    assert footer is not None
    return short_hash(
        [footer.fingerprint, footer.plan_hash, file.read(columns=["clip_id"]).column(0).to_pylist()]
    )


@lru_cache(maxsize=1)
def _load_encoder(config: ExtractConfig, weights: tuple[tuple[str, str], ...], device: str) -> Encoder:
    files = {name: Path(file) for name, file in weights}
    return load_encoder(config.encoder, config.layers, files, device, config.modality, config.checkpoint)


def clips_dataset(path: str | PathLike[str]) -> Dataset:
    """The finished clips data set to extract from. UserError when it is none."""
    return load_dataset(Store(path), "clips")
