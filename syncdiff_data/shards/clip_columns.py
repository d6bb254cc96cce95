"""The columns of a clip, each spelled out once: its type, how a clip fills it, and how it is read back.

Shapes: T = num_frames. The schema, the writer, the reader and the check of lengths derive from `CLIP_COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from syncdiff_data.media.codecs import decode_flac, encode_flac
from syncdiff_data.records import FPS, SAMPLE_RATE, Clip


@dataclass(frozen=True)
class ClipColumn:
    """A column of the clips table."""

    name: str
    type: pa.DataType
    to_array: Callable[[Clip], pa.Array]
    """The column of the table of one clip: an array of one cell."""
    attribute: str | None = None
    """The attribute of Clip that is read from the column; None where it follows from others."""
    from_cell: Callable[[pa.Scalar], Any] = lambda cell: cell.as_py()
    """The attribute's value of a cell."""
    nullable: bool = False
    per_frame: bool = False
    """The cell is a list of T entries."""
    may_be_left_out: bool = False
    """A reader may leave the column out; the attribute is `unread` then."""
    unread: Any = None


def vectors_type(dtype: pa.DataType, size: int) -> pa.DataType:
    """A list of vectors of one size, one for each frame."""
    return pa.list_(pa.list_(dtype, size))


def vector_column(values: np.ndarray) -> pa.Array:
    """One list cell of T vectors, from [T, D]: list<fixed_size_list<dtype>[D]> with one entry."""
    flat = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1]
    )
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), flat)


def vectors_of(cell: pa.ListScalar) -> np.ndarray:
    """[T, D] of one list cell of vectors, without a copy through Python objects."""
    values = cell.values
    size = values.type.list_size
    return values.flatten().to_numpy(zero_copy_only=False).reshape(-1, size)


def _value(name: str, dtype: pa.DataType, nullable: bool = False) -> ClipColumn:
    """An attribute stored as it is."""
    return ClipColumn(
        name, dtype, lambda clip: pa.array([getattr(clip, name)], dtype), attribute=name, nullable=nullable
    )


def _derived(name: str, dtype: pa.DataType, value: Callable[[Clip], float]) -> ClipColumn:
    """A number that follows from other columns."""
    return ClipColumn(name, dtype, lambda clip: pa.array([value(clip)], dtype))


def _crops(name: str, attribute: str, nullable: bool, unread: Any) -> ClipColumn:
    """Encoded crops, one for each frame."""
    dtype = pa.list_(pa.binary())
    return ClipColumn(
        name,
        dtype,
        lambda clip: pa.array([getattr(clip, attribute)], dtype),
        attribute=attribute,
        from_cell=lambda cell: None if cell.as_py() is None else tuple(cell.as_py()),
        nullable=nullable,
        per_frame=True,
        may_be_left_out=True,
        unread=unread,
    )


def _vectors(name: str, *shape: int) -> ClipColumn:
    """float32 [T, *shape], stored as T vectors."""
    return ClipColumn(
        name,
        vectors_type(pa.float32(), int(np.prod(shape))),
        lambda clip: vector_column(getattr(clip, name).reshape(clip.num_frames, -1).astype(np.float32)),
        attribute=name,
        from_cell=lambda cell: vectors_of(cell).reshape(-1, *shape),
        per_frame=True,
    )


CLIP_COLUMNS = (
    _value("clip_id", pa.string()),
    _value("source", pa.string()),
    _value("split", pa.string(), nullable=True),
    _value("speaker", pa.string(), nullable=True),
    _value("text", pa.string(), nullable=True),
    _value("track", pa.int32()),
    _derived("num_frames", pa.int32(), lambda clip: clip.num_frames),
    _value("start_s", pa.float64()),
    _derived("fps", pa.float32(), lambda clip: float(FPS)),
    _derived("sample_rate", pa.int32(), lambda clip: SAMPLE_RATE),
    ClipColumn(
        "source_frame",
        pa.list_(pa.int32()),
        lambda clip: pa.array([clip.source_frame.astype(np.int32)], pa.list_(pa.int32())),
        attribute="source_frame",
        from_cell=lambda cell: cell.values.to_numpy(zero_copy_only=False),
        per_frame=True,
    ),
    _crops("face", "face_jpeg", nullable=False, unread=()),
    _crops("mouth", "mouth_png", nullable=True, unread=None),
    ClipColumn(
        "audio",
        pa.binary(),
        lambda clip: pa.array([encode_flac(clip.audio)], pa.binary()),
        attribute="audio",
        from_cell=lambda cell: decode_flac(cell.as_py()),
    ),
    _vectors("landmarks", 68, 2),
    _vectors("box", 4),
    _vectors("face_to_source", 2, 3),
)
