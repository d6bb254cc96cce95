"""The second stage: each shard of clips gives one shard of features with the same index and the same rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from syncdiff_data.features import Encoder, encoder_needs_mouth, load_encoder
from syncdiff_data.features.base import EncoderOptions, Modality
from syncdiff_data.reasons import Kind, Reason
from syncdiff_data.recipe import short_hash
from syncdiff_data.records import Clip, Reject, UserError
from syncdiff_data.shards.clip_columns import vector_column
from syncdiff_data.shards.dataset import (
    Dataset,
    Shard,
    load_dataset,
    missing_sentence,
    open_shard,
    shards_there,
)
from syncdiff_data.shards.rows import read_clip, rejects_table
from syncdiff_data.shards.schema import CLIPS, REJECTS, FeatureColumn, Footer, features_schema, shard_path
from syncdiff_data.shards.store import Store
from syncdiff_data.shards.write import is_committed, write_shard
from syncdiff_data.stage import Context, Failure, Resources, Stage

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
    sync_expert: str = "training"
    """`sync`: folder of an expert, or the name of one that ships."""
    threads: int = 1
    """CPU threads of a task: sums in another order differ in the last bits."""

    def options(self, weights: Mapping[str, Path], device: str) -> EncoderOptions:
        return EncoderOptions(self.layers, self.modality, self.checkpoint, weights, device, self.sync_expert)


@dataclass(frozen=True)
class ExtractStage(Stage[int, dict[str, Any]]):
    """Makes the features and rejects shards of one clips shard, whose number is the plan; its items are clips."""

    clips: str
    out: str
    fingerprint: str
    config: ExtractConfig
    weights: tuple[tuple[str, str], ...]
    device: str
    retry_failed: bool = False
    heartbeat_timeout: float = 0
    """Seconds that the encoder may take for one group of clips before its worker is ended; 0: for ever."""
    verify: bool = False
    """Read every byte of shards that are there already, instead of their footers."""

    title = "features"
    unit = "clips"
    plans_per_block = 1

    @property
    def resources(self) -> Resources:  # type: ignore[override]
        return Resources(cpus=self.config.threads)

    @cached_property
    def _encoder(self) -> Encoder:
        files = {name: Path(file) for name, file in self.weights}
        return load_encoder(self.config.encoder, self.config.options(files, self.device))

    def setup(self) -> None:
        _ = self._encoder

    def process(self, plan: int, context: Context) -> dict[str, Any]:
        """Commit the features of shard number `plan`, unless they are committed already, and return the counts."""
        clips_store, store = Store(self.clips), Store(self.out)
        dataset = load_dataset(clips_store, "clips")
        name = shard_path("clips", plan, dataset.num_shards)
        with open_shard(clips_store, name, dataset) as file:
            common = (self.fingerprint, _contents_hash(file), plan, dataset.num_shards)
            features, rejects = Footer("features", *common), Footer("rejects", *common)
            if all(is_committed(store, footer, self.verify) for footer in (features, rejects)):
                rejected = _read_rejects(store, rejects)
                if not (self.retry_failed and any(reject.kind == Kind.FAILED for reject in rejected)):
                    counts = _count(file, rejected)
                    context.report(counts)
                    return counts
            return self._write_shards(file, store, features, rejects, context)

    def _write_shards(
        self, file: pq.ParquetFile, store: Store, features: Footer, rejects: Footer, context: Context
    ) -> dict[str, Any]:
        schema = features_schema(self._encoder.columns)
        rejected: list[Reject] = []
        done = 0

        def rows() -> Iterator[pa.Table]:
            nonlocal done
            for group in _clip_groups(file, self._clip_columns()):
                for clip, vectors in self._encode(group, context):
                    # float32 [T, D] per clip and layer -> float16 list cells; no vectors where the encoder failed
                    cells = vectors if isinstance(vectors, Reject) else self._cells(clip, vectors)
                    if isinstance(cells, Reject):
                        rejected.append(cells)
                        cells = [_empty_cell(column) for column in self._encoder.columns.values()]
                    arrays = [pa.array([clip.clip_id]), *cells]
                    yield pa.Table.from_arrays(arrays, schema=schema)
                done += len(group)
                context.report({"clips": done, **_count_rejects(rejected)})
            # The rename of the features shard is the commit mark: the rejects must be in place before it.
            write_shard(store, rejects, REJECTS, [rejects_table(rejected)], self.device)

        write_shard(store, features, schema, rows(), self.device)
        return _count(file, rejected)

    def _encode(
        self, group: Sequence[Clip], context: Context
    ) -> Iterator[tuple[Clip, dict[str, np.ndarray] | Reject]]:
        """Clips with their features; where a group fails, its clips one by one, to find the one that does."""
        name = f"{group[0].clip_id}-{group[-1].clip_id}" if len(group) > 1 else group[0].clip_id
        outcome = context.attempt(name, lambda: self._encoded(group))
        if not isinstance(outcome, Failure):
            yield from zip(group, outcome)
        elif len(group) > 1:
            for clip in group:
                yield from self._encode([clip], context)
        else:
            yield group[0], _reject(group[0], outcome.reason, outcome.detail)

    def _encoded(self, group: Sequence[Clip]) -> list[dict[str, np.ndarray]]:
        """What the encoder makes of the clips. ValueError where that is not one set of its columns a clip."""
        encoded = list(self._encoder.encode(group))
        if len(encoded) != len(group):
            raise ValueError(f"the encoder gave features of {len(encoded)} clips for {len(group)}")
        for clip, vectors in zip(group, encoded):
            for name, column in self._encoder.columns.items():
                found = np.asarray(vectors[name])
                wanted = (clip.num_frames, column)
                if isinstance(column, int) and (found.shape != wanted or found.dtype.kind not in "fiu"):
                    raise ValueError(
                        f"the encoder gave {name} of shape {found.shape} and type {found.dtype}, expected {wanted} of "
                        "numbers"
                    )
        return encoded

    def _cells(self, clip: Clip, vectors: dict[str, np.ndarray]) -> list[pa.Array] | Reject:
        try:
            return [
                pa.array([vectors[name].tolist()], column)
                if isinstance(column, pa.DataType)
                else vector_column(as_float16(vectors[name], name, clip))
                for name, column in self._encoder.columns.items()
            ]
        except ValueError as error:
            return _reject(clip, Reason.FEATURE_OVERFLOW, str(error))

    def _clip_columns(self) -> list[str]:
        """The columns that the encoder needs."""
        needs_mouth = encoder_needs_mouth(self.config.encoder, self.config.modality)
        return [name for name in CLIPS.names if name != "face" and (name != "mouth" or needs_mouth)]


def _reject(clip: Clip, reason: Reason, detail: str) -> Reject:
    return Reject(clip.source, clip.track, "encoder", reason, f"clip {clip.clip_id}: {detail}")


def _empty_cell(column: FeatureColumn) -> pa.Array:
    """Of a clip without features."""
    if isinstance(column, pa.DataType):
        return pa.nulls(1, column)
    return vector_column(np.empty((0, column), np.float16))


def as_float16(values: np.ndarray, column: str, clip: Clip) -> np.ndarray:
    """Features as they are stored. ValueError where a value is not finite or too large for float16."""
    with np.errstate(over="ignore"):
        stored = values.astype(np.float16)
    if not np.isfinite(stored).all():
        raise ValueError(
            f"{column} of {clip.source} holds values that float16 cannot store (largest {np.abs(values).max():g})"
        )
    return stored


def _clip_groups(file: Shard, columns: list[str]) -> Iterator[list[Clip]]:
    group: list[Clip] = []
    for row in range(file.num_row_groups):
        group.append(read_clip(file, row, columns))
        if sum(clip.num_frames for clip in group) >= FRAMES_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _read_rejects(store: Store, footer: Footer) -> list[Reject]:
    with pq.ParquetFile(store.open(shard_path("rejects", footer.shard, footer.num_shards))) as file:
        rows = file.read().to_pylist()
    return [Reject(r["source"], r["track"], r["stage"], Reason(r["reason"]), r["detail"]) for r in rows]


def _count(file: pq.ParquetFile, rejects: Sequence[Reject]) -> dict[str, int]:
    frames = file.read(columns=["num_frames"]).column(0).to_pylist()
    return {"clips": len(frames), "frames": sum(frames), **_count_rejects(rejects)}


def _count_rejects(rejects: Sequence[Reject]) -> dict[str, int]:
    counts = Counter(f"rejects/{reject.reason}" for reject in rejects)
    return {**counts, "rejects": len(rejects)} if rejects else {}


def _contents_hash(file: pq.ParquetFile) -> str:
    """Changes when the clips of a shard do: another recipe, another plan, or a source that was retried."""
    footer = Footer.of(file.schema_arrow)
    assert footer is not None
    return short_hash(
        [footer.fingerprint, footer.plan_hash, file.read(columns=["clip_id"]).column(0).to_pylist()]
    )


def totals(shards: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    """dataset.json's counts from the counts of its shards. rejects: clips without features."""
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(shard)
    counts: dict[str, Any] = {key: total[key] for key in ("clips", "frames")}
    if total["rejects"]:
        by_reason = {
            k.removeprefix("rejects/"): n for k, n in sorted(total.items()) if k.startswith("rejects/")
        }
        counts |= {"rejects": total["rejects"], "rejects_by_reason": by_reason}
    return counts


def clips_dataset(path: str | PathLike[str]) -> Dataset:
    """The finished clips data set to extract from. UserError when it is none, or a shard of it is not there."""
    store = Store(path)
    dataset = load_dataset(store, "clips")
    if missing := missing_sentence(store, dataset, ("clips",), shards_there(store, dataset, ("clips",))):
        raise UserError(missing)
    return dataset
