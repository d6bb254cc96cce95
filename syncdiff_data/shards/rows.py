"""Clips and rejects to rows and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from syncdiff_data.media.codecs import decode_flac, encode_flac
from syncdiff_data.records import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, Clip, Reject
from syncdiff_data.shards.schema import CLIPS, REJECTS


def check_clip(clip: Clip) -> None:
    """ValueError unless every per-frame column has num_frames entries and the audio covers exactly that span."""
    count = clip.num_frames
    lengths = {
        "face_jpeg": len(clip.face_jpeg),
        "landmarks": len(clip.landmarks),
        "box": len(clip.box),
        "face_to_source": len(clip.face_to_source),
    }
    if clip.mouth_png is not None:
        lengths["mouth_png"] = len(clip.mouth_png)
    wrong = {name: length for name, length in lengths.items() if length != count}
    if len(clip.audio) != count * SAMPLES_PER_FRAME:
        wrong["audio"] = len(clip.audio)
    if wrong:
        raise ValueError(f"clip of {clip.source}, track {clip.track}: {count} frames, but lengths {wrong}")


def clip_table(clip: Clip, schema: pa.Schema = CLIPS) -> pa.Table:
    """One row of the clips table."""
    check_clip(clip)
    row: dict[str, Any] = {
        "clip_id": clip.clip_id,
        "source": clip.source,
        "split": clip.split,
        "speaker": clip.speaker,
        "text": clip.text,
        "track": clip.track,
        "num_frames": clip.num_frames,
        "start_s": clip.start_s,
        "fps": float(FPS),
        "sample_rate": SAMPLE_RATE,
        "source_frame": clip.source_frame.astype(np.int32),
        "face": clip.face_jpeg,
        "mouth": clip.mouth_png,
        "audio": encode_flac(clip.audio),
    }
    arrays = [pa.array([row[field.name]], field.type) for field in schema if field.name in row]
    vectors = [("landmarks", clip.landmarks), ("box", clip.box), ("face_to_source", clip.face_to_source)]
    arrays += [vector_column(values.reshape(clip.num_frames, -1).astype(np.float32)) for _, values in vectors]
    return pa.Table.from_arrays(arrays, schema=schema)


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


def clip_of_row(table: pa.Table) -> Clip:
    """The clip of a table of one row; without its crops where the columns `face` or `mouth` were not read."""

    def cell(name: str) -> Any:
        return table.column(name)[0]

    face = cell("face").as_py() if "face" in table.column_names else ()
    mouth = cell("mouth").as_py() if "mouth" in table.column_names else None
    return Clip(
        clip_id=cell("clip_id").as_py(),
        source=cell("source").as_py(),
        split=cell("split").as_py(),
        speaker=cell("speaker").as_py(),
        text=cell("text").as_py(),
        track=cell("track").as_py(),
        start_s=cell("start_s").as_py(),
        source_frame=cell("source_frame").values.to_numpy(zero_copy_only=False),
        face_jpeg=tuple(face),
        mouth_png=None if mouth is None else tuple(mouth),
        audio=decode_flac(cell("audio").as_py()),
        landmarks=vectors_of(cell("landmarks")).reshape(-1, 68, 2),
        box=vectors_of(cell("box")),
        face_to_source=vectors_of(cell("face_to_source")).reshape(-1, 2, 3),
    )


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
