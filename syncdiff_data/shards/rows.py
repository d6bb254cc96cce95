"""Clips and rejects to rows and back."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from syncdiff_data.records import SAMPLES_PER_FRAME, Clip, Reject, UserError
from syncdiff_data.shards.clip_columns import CLIP_COLUMNS
from syncdiff_data.shards.dataset import MAKE_AGAIN, Shard
from syncdiff_data.shards.schema import CLIPS, REJECTS


def check_clip(clip: Clip) -> None:
    """ValueError unless every per-frame column has num_frames entries and the audio covers exactly that span."""
    values = {c.attribute: getattr(clip, c.attribute) for c in CLIP_COLUMNS if c.attribute and c.per_frame}
    lengths = {name: len(value) for name, value in values.items() if value is not None}
    wrong = {name: length for name, length in lengths.items() if length != clip.num_frames}
    if len(clip.audio) != clip.num_frames * SAMPLES_PER_FRAME:
        wrong["audio"] = len(clip.audio)
    if wrong:
        raise ValueError(
            f"clip of {clip.source}, track {clip.track}: {clip.num_frames} frames, but lengths {wrong}"
        )


def clip_table(clip: Clip, schema: pa.Schema = CLIPS) -> pa.Table:
    """One row of the clips table."""
    check_clip(clip)
    return pa.Table.from_arrays([column.to_array(clip) for column in CLIP_COLUMNS], schema=schema)


def clip_of_row(table: pa.Table) -> Clip:
    """The clip of a table of one row; without its crops where the columns `face` or `mouth` were not read."""
    left_out = {c.name for c in CLIP_COLUMNS if c.may_be_left_out} - set(table.column_names)
    return Clip(
        **{
            c.attribute: c.unread if c.name in left_out else c.from_cell(table.column(c.name)[0])
            for c in CLIP_COLUMNS
            if c.attribute
        }
    )


def read_clip(shard: Shard, row: int, columns: Sequence[str] | None = None) -> Clip:
    """The clip of a row group. UserError that names it where it is damaged: nulls, lists of other lengths, no sound."""
    table = shard.read_row_group(row, columns=columns)
    try:
        clip = clip_of_row(table)
        if columns is None:
            check_clip(clip)
    except Exception as error:  # well-formed Parquet may hold anything, and libraries raise all kinds for it
        raise UserError(f"row {row} of {shard.where} holds no clip ({error}). {MAKE_AGAIN}") from error
    return clip


def rejects_table(rejects: Sequence[Reject], schema: pa.Schema = REJECTS) -> pa.Table:
    """The rejects table, in the order given."""
    columns = {
        "source": [r.source for r in rejects],
        "track": [r.track for r in rejects],
        "kind": [str(r.kind) for r in rejects],
        "stage": [r.stage for r in rejects],
        "reason": [str(r.reason) for r in rejects],
        "detail": [r.detail for r in rejects],
    }
    return pa.Table.from_arrays([pa.array(columns[f.name], f.type) for f in schema], schema=schema)
