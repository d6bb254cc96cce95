"""Columns of the three tables of a data set, and the footer every shard carries.

Each clip is one row group: a reader takes one clip's columns without touching its neighbours, and a writer never
holds more than one clip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from syncdiff_data.documents import parse_json
from syncdiff_data.shards.clip_columns import CLIP_COLUMNS, vectors_type

SCHEMA_VERSION = 1
DAMAGED_PARQUET = (OSError, ValueError, pa.ArrowException)
"""What pyarrow raises for a damaged file: some of its exceptions are no ValueError, and names that are not UTF-8 raise
Python's own."""
FOOTER_KEY = b"syncdiff"
ENVIRONMENT_KEY = b"syncdiff_environment"


CLIPS = pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in CLIP_COLUMNS])

REJECTS = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("track", pa.int32()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)

# Crops and FLAC are compressed already; numbers gain from zstd.
STORED_AS_IS = ("face.list.element", "mouth.list.element", "audio")

# A row group is one clip, so the statistics of these columns are the clip's own values: a reader lists a data set
# from its footers.
IN_FOOTER = ("clip_id", "split", "num_frames")
SYNC_COLUMNS = {"sync_offset": pa.int32(), "sync_confidence": pa.float32()}
"""Of a data set that `extract_features.py --encoder sync` made."""

FeatureColumn: TypeAlias = int | pa.DataType
"""Of a features table: the width D of one float16 vector a frame, or the type of one value a clip."""


def features_schema(columns: Mapping[str, FeatureColumn]) -> pa.Schema:
    """The features table: clip_id, then the columns of an encoder. A value of a whole clip is null where the clip was
    rejected; of vectors there are none then."""
    fields = [
        pa.field(name, column, nullable=True)
        if isinstance(column, pa.DataType)
        else pa.field(name, vectors_type(pa.float16(), column), nullable=False)
        for name, column in columns.items()
    ]
    return pa.schema([pa.field("clip_id", pa.string(), nullable=False), *fields])


def feature_columns(schema: pa.Schema) -> dict[str, FeatureColumn]:
    """The columns of a features table: the inverse of `features_schema`."""
    return {field.name: _feature_column(field.type) for field in schema if field.name != "clip_id"}


def frame_features(schema: pa.Schema) -> dict[str, int]:
    """The columns with a vector a frame, and their widths D."""
    return {name: column for name, column in feature_columns(schema).items() if isinstance(column, int)}


def has_sync(schema: pa.Schema) -> bool:
    """Whether a features table has one offset and one confidence a clip, of their types."""
    columns = feature_columns(schema)
    return all(columns.get(name) == kind for name, kind in SYNC_COLUMNS.items())


def has_columns(kind: str, schema: pa.Schema) -> bool:
    """Whether a shard of `clips`, `rejects` or `features` has the columns of its table, each once and of its type."""
    if len(set(schema.names)) < len(schema.names):
        return False
    features = feature_columns(schema) if kind == "features" else {}
    if not all(isinstance(column, int) or _is_flat(column) for column in features.values()):
        return False
    wanted = {"clips": CLIPS, "rejects": REJECTS, "features": features_schema(features)}[kind]
    return all(
        field.name in schema.names and schema.field(field.name).type.equals(field.type) for field in wanted
    )


def _is_flat(dtype: pa.DataType) -> bool:
    """A number, a text, or a list of them."""
    return not pa.types.is_nested(dtype) or not any(
        pa.types.is_nested(dtype.field(i).type) for i in range(dtype.num_fields)
    )


def _feature_column(dtype: pa.DataType) -> FeatureColumn:
    if pa.types.is_list(dtype) and pa.types.is_fixed_size_list(dtype.value_type):
        size: int = dtype.value_type.list_size
        return size
    return dtype


@dataclass(frozen=True)
class Footer:
    """What a shard says of itself in its Parquet schema metadata."""

    kind: str
    """`clips`, `rejects` or `features`."""
    fingerprint: str
    plan_hash: str
    shard: int
    num_shards: int
    crop_size: int | None = None
    sources: tuple[tuple[str | int, ...], ...] = ()
    """Rejects shards only: path, size and hash of the labels of every source of the plan, so that a check needs no
    source."""
    schema_version: int = SCHEMA_VERSION

    def _has_its_types(self) -> bool:
        """Whether every field is of its type."""
        texts = (self.kind, self.fingerprint, self.plan_hash)
        numbers = (self.shard, self.num_shards, self.crop_size or 0)
        return (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(number, int) for number in numbers)
            and all(tuple(map(type, entry)) == (str, int, str) for entry in self.sources)
        )

    def attach(self, schema: pa.Schema, environment: Mapping[str, str] | None = None) -> pa.Schema:
        """The schema with this footer in its metadata, and beside it what the shard was made with.

        The environment is no part of the footer: a shard made with another version of a library still counts.
        """
        texts = {FOOTER_KEY: asdict(self), ENVIRONMENT_KEY: dict(environment or {})}
        return schema.with_metadata({k: json.dumps(v, sort_keys=True).encode() for k, v in texts.items()})

    @classmethod
    def of(cls, schema: pa.Schema) -> Footer | None:
        """The footer of a shard's schema; None where the file was not written by this project, or is damaged there."""
        raw = (schema.metadata or {}).get(FOOTER_KEY)
        if raw is None:
            return None
        try:
            fields = parse_json(raw)
            json.dumps(fields, ensure_ascii=False).encode()  # lone surrogates are a ValueError
            footer = cls(**{**fields, "sources": tuple(tuple(entry) for entry in fields["sources"])})
            return footer if footer._has_its_types() else None
        except (ValueError, TypeError, KeyError):
            return None


def environment_of(schema: pa.Schema) -> dict[str, str]:
    """What a shard was made with (environment.py); empty for shards that do not say, or say it damaged."""
    try:
        found = parse_json((schema.metadata or {}).get(ENVIRONMENT_KEY, b"{}"))
        return {str(name): str(version) for name, version in found.items()}
    except (ValueError, AttributeError):
        return {}


def shard_path(kind: str, shard: int, num_shards: int) -> str:
    """Path of a shard below its data set, for example clips/clips-00003-of-00040.parquet."""
    return f"{kind}/{kind}-{shard:05d}-of-{num_shards:05d}.parquet"


def footer_values(metadata: pq.FileMetaData, column: str) -> list:
    """A column's value in each row group of one row; None for null. ValueError where the footer is damaged."""
    if not metadata.num_row_groups:
        return []
    # Not by metadata.schema, which refers back to the metadata: half a megabyte a shard would stay until a collection.
    first = metadata.row_group(0)
    leaf = [first.column(i).path_in_schema for i in range(first.num_columns)].index(column)
    groups = [metadata.row_group(group).column(leaf).statistics for group in range(metadata.num_row_groups)]
    if any(statistics is None for statistics in groups):
        raise ValueError(f"the footer does not say its {column}")
    return [statistics.min if statistics.has_min_max else None for statistics in groups]
