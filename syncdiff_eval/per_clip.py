"""per_clip.parquet: one row per method and clip, scored or with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.shards.schema import DAMAGED_PARQUET
from syncdiff_data.shards.store import write_atomically
from syncdiff_eval.results import MetricInfo

HEAD = (
    ("method", pa.string()),
    ("clip", pa.string()),
    ("source", pa.string()),
    ("status", pa.string()),
    ("reason", pa.string()),
    ("num_frames", pa.int32()),
)
TAIL = (
    ("null_reasons", pa.map_(pa.string(), pa.string())),
    ("detail", pa.string()),
    ("audio_sha256", pa.string()),
    ("sha256", pa.string()),
    ("codec", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("fps", pa.float64()),
    ("bit_rate", pa.int64()),
    ("decoder", pa.string()),
    ("has_audio", pa.bool_()),
    ("sound_late_s", pa.float64()),
    ("sound_lag_s", pa.float64()),
)
RESERVED = frozenset(name for name, _ in (*HEAD, *TAIL))
"""Columns that no metric can have."""
NEVER_NULL = frozenset({"method", "clip", "source", "status", "null_reasons"})
ROWS_AT_ONCE = 10_000
"""Rows that are Python objects at a time: 10 kB each, against 0.5 kB in the table."""
_TEXTS = ("detail", "audio_sha256")
_FACTS = tuple(name for name, _ in TAIL[3:])


def per_clip_schema(metrics: Sequence[MetricInfo]) -> pa.Schema:
    """method, clip, source (the unit of intervals and tests), status (scored | failed), reason and num_frames; one
    float64 column per metric, null with a reason in null_reasons (metric -> reason); detail of a failure; hash of the
    driving audio, null where the scored file's own counts; then facts of the scored file (hash, codec, size, rate)."""
    columns = [(metric.name, pa.float64()) for metric in metrics if not metric.pooled]
    return pa.schema([*HEAD, *columns, *TAIL])


def per_clip_table(records: Sequence[Mapping[str, Any]], metrics: Sequence[MetricInfo]) -> pa.Table:
    """The records of a run as a table of `per_clip_schema`, in their order."""
    schema = per_clip_schema(metrics)
    parts = [
        pa.Table.from_pylist([_row(record, metrics) for record in records[i : i + ROWS_AT_ONCE]], schema)
        for i in range(0, len(records), ROWS_AT_ONCE)
    ]
    return pa.concat_tables([schema.empty_table(), *parts]).combine_chunks()


def write_per_clip(table: pa.Table, path: Path) -> None:
    """Write atomically, with checksums of the pages."""
    write_atomically(path, lambda file: pq.write_table(table, file, write_page_checksum=True))


def read_per_clip(path: Path, metrics: Sequence[MetricInfo], rows: int | None = None) -> pa.Table:
    """A table of `per_clip_schema`. Raises UserError where the file cannot be read, has other columns, rows that no
    benchmark writes, or another number than `rows` of them, which is seen before they take memory."""
    try:
        with path.open("rb") as file:  # Arrow takes no path that is not UTF-8
            found = pq.read_metadata(file).num_rows
            if rows is not None and found != rows:
                raise UserError(
                    f"{path} has {found:,} rows; the methods and clips of results.json make {rows:,}."
                )
            table = pq.read_table(file, page_checksum_verification=True)
        table.validate(full=True)  # reports without checksums: texts may hold anything
        names = table.schema.names
    except DAMAGED_PARQUET as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    expected = per_clip_schema(metrics)
    if twice := RESERVED & {metric.name for metric in metrics}:
        raise UserError(
            f"{path} cannot hold the metric {min(twice)!r}, which is another column's name: rename it."
        )
    if table.schema != expected:
        difference = sorted(set(names) ^ set(expected.names))
        raise UserError(
            f"{path} has other columns than this version of syncdiff writes for the metrics of results.json: "
            f"{', '.join(difference) or 'types differ'}. Run the benchmark again; its cache holds the scores."
        )
    if name := _senseless_column(table):
        raise UserError(
            f"{path} has a row whose {name} is null or no finite number. Run the benchmark again; its cache holds the "
            "scores."
        )
    return table


def _senseless_column(table: pa.Table) -> str | None:
    """The first column with a null where none can be, or a number that is not finite."""
    for field, column in zip(table.schema, table.columns):
        if field.name in NEVER_NULL and column.null_count:
            return str(field.name)
        if pa.types.is_floating(field.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
            return str(field.name)
    return None


def records_of(table: pa.Table) -> list[dict[str, Any]]:
    """The records that `per_clip_table` made the table of, but for what it leaves out (keys of cached arrays)."""
    outside = {name for name, _ in (*HEAD, *TAIL)}
    metrics = [name for name in table.schema.names if name not in outside]
    return [_record(row, metrics) for row in table.to_pylist()]


def _record(row: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    record = {name: row[name] for name, _ in HEAD} | {name: row[name] for name in _TEXTS}
    record["values"] = {name: row[name] for name in metrics if row[name] is not None}
    record["missing"] = dict(row["null_reasons"])
    if row["sha256"] is not None:
        record["facts"] = {name: row[name] for name in _FACTS}
    return record


def _row(record: Mapping[str, Any], metrics: Sequence[MetricInfo]) -> dict[str, Any]:
    row = {name: record.get(name) for name, _ in HEAD}
    row |= {name: record.get(name) for name in _TEXTS}
    row |= {name: record.get("facts", {}).get(name) for name in _FACTS}
    reasons = dict(record.get("missing", {}))
    for metric in metrics:
        if metric.pooled:
            continue
        row[metric.name] = record.get("values", {}).get(metric.name)
        if row[metric.name] is None and record["status"] == "scored":
            reasons.setdefault(metric.name, str(Reason.NOT_AVAILABLE))
    row["null_reasons"] = sorted(reasons.items())
    return row
