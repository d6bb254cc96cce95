"""validate finds what is wrong with a data set: one kind of damage after another."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_data import RECIPE, SIZE, SOURCES, build, flipped, synthetic_clip

from syncdiff_data.media.codecs import encode_flac
from syncdiff_data.shards import Store, load_dataset
from syncdiff_data.shards.check import _row_problems
from syncdiff_data.shards.rows import clip_table
from syncdiff_data.shards.schema import CLIPS, Footer, shard_path
from syncdiff_data.shards.validate import validate
from syncdiff_data.shards.write import is_committed

DAMAGES = {
    "flipped bit": r"clips-00000-of-00002\.parquet of .* cannot be read",
    "dropped shard": r"lacks 1 of the 2 shards .* clips/clips-00001-of-00002\.parquet",
    "flipped reject": r"rejects-00000-of-00002\.parquet of .* cannot be read",
    "repeated row": r"occurs 2 times",
    "dropped row": r"v2\.mp4 is neither a clip nor a reject",
    "rows out of order": r"rows are not in the order",
    "two clips in a row group": r"a row group of 4 clips",
    "foreign source": r"stranger\.mp4 is not in the plan",
    "wrong count": r"dataset\.json counts 7 clips, the shards hold 8",
    "wrong plan": r"plans are not those of dataset\.json",
    "other recipe": r"made by another recipe",
    "not finished": r"not finished",
    "not a picture": r"row 0: 1 bytes are not an image",
    "short audio": r"'audio': ",
    "nan": r"landmarks holds a number that is not finite",
    "column gone": r"columns of shard .* are not those",
    "name in another encoding": r"clips-00000-of-00002\.parquet of .* cannot be read",
    "wrong crop size": r"face crops are",
    "other number of frames": r"num_frames is 7, its lists hold 3",
    "null frame": r"source_frame holds nulls",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_validate_finds(tmp_path: Path, damage: str) -> None:
    store = build(tmp_path / "d")
    assert validate(store.uri) == []
    spoil(store, damage)
    problems = validate(store.uri)
    assert any(re.search(DAMAGES[damage], problem) for problem in problems), problems
    assert len(problems) < 6, "one fault, few sentences"


def spoil(store: Store, damage: str) -> None:
    """Harm the data set of `build` in one way."""
    clips, rejects = (Path(store.path(shard_path(kind, 0, 2))) for kind in ("clips", "rejects"))
    tables = [pq.ParquetFile(clips).read_row_group(row) for row in range(4)]
    if damage == "flipped bit":
        clips.write_bytes(flipped(clips.read_bytes()))
    elif damage == "dropped shard":
        store.delete(shard_path("clips", 1, 2))
    elif damage == "flipped reject":
        data = bytearray(rejects.read_bytes())
        data[60] ^= 255
        rejects.write_bytes(data)
    elif damage == "repeated row":
        rewrite(clips, [*tables, tables[-1]])
    elif damage == "dropped row":
        rewrite(clips, tables[:2])
    elif damage == "rows out of order":
        rewrite(clips, tables[::-1])
    elif damage == "two clips in a row group":
        rewrite(clips, [pa.concat_tables(tables)])
    elif damage == "foreign source":
        rewrite(clips, [*tables, clip_table(synthetic_clip(replace(SOURCES[0], path="stranger.mp4")))])
    elif damage == "not a picture":
        rewrite(clips, [changed(tables[0], "face", [[b"x", b"y", b"z"]]), *tables[1:]])
    elif damage == "short audio":
        rewrite(clips, [changed(tables[0], "audio", [encode_flac(np.zeros(99, np.int16))]), *tables[1:]])
    elif damage == "nan":
        rewrite(clips, [changed(tables[0], "landmarks", [[[float("nan")] * 136] * 3]), *tables[1:]])
    elif damage == "other number of frames":
        rewrite(clips, [changed(tables[0], "num_frames", [7]), *tables[1:]])
    elif damage == "null frame":
        rewrite(clips, [changed(tables[0], "source_frame", [[0, None, 2]]), *tables[1:]])
    elif damage == "column gone":
        rewrite(clips, [table.drop_columns("text") for table in tables])
    elif damage == "name in another encoding":
        clips.write_bytes(clips.read_bytes().replace(b"start_s", b"st\xe4rt_s"))
    else:
        spoil_description(store, damage, clips)


def spoil_description(store: Store, damage: str, clips: Path) -> None:
    dataset = load_dataset(store)
    tables = [pq.ParquetFile(clips).read_row_group(row) for row in range(4)]
    if damage == "wrong count":
        replace(dataset, counts={**dataset.counts, "clips": 7}).save(store)
    elif damage == "wrong plan":
        replace(dataset, plan_hash="0" * 16).save(store)
    elif damage == "other recipe":
        replace(dataset, fingerprint="0" * 16).save(store)
    elif damage == "not finished":
        replace(dataset, complete=False).save(store)
    elif damage == "wrong crop size":
        footer = Footer.of(tables[0].schema)
        assert footer is not None
        schema = replace(footer, crop_size=512).attach(CLIPS)
        rewrite(clips, [table.cast(schema) for table in tables])
    else:
        raise AssertionError(damage)


def rewrite(path: Path, tables: list[pa.Table]) -> None:
    with pq.ParquetWriter(path, tables[0].schema, write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table.cast(tables[0].schema), row_group_size=table.num_rows)


def changed(table: pa.Table, column: str, values: list) -> pa.Table:
    at = table.schema.get_field_index(column)
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


@pytest.mark.parametrize(("confidence", "problems"), [(0.5, 0), (None, 0), (np.nan, 1), (np.inf, 1)])
def test_a_confidence_that_is_no_number(confidence: float | None, problems: int) -> None:
    row = pa.table({"clip_id": ["a"], "sync_confidence": pa.array([confidence], pa.float32())})
    assert list(_row_problems(row, [])) == ["sync_confidence is not finite"] * problems


@pytest.mark.parametrize("error", [pa.ArrowMemoryError, pa.ArrowNotImplementedError, pa.ArrowKeyError])
def test_what_arrow_raises_for_damage_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Lengths of gigabytes, unknown encodings: exceptions that are neither an OSError nor a ValueError."""

    def read_row_group(*args: object, **kwargs: object) -> None:
        raise error("malloc of size 2147483648 failed")

    store = build(tmp_path / "d")
    footer = Footer.of(pq.ParquetFile(store.path(shard_path("clips", 0, 2))).schema_arrow)
    assert footer
    assert is_committed(store, footer, verify=True)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", read_row_group)
    assert not is_committed(store, footer, verify=True)
    assert any("cannot be read (malloc of size" in problem for problem in validate(store.uri))


def test_the_counts_of_json_are_plain(tmp_path: Path) -> None:
    raw = json.loads(build(tmp_path / "d").read_text("dataset.json"))
    assert raw["kind"] == "clips"
    assert raw["name"] == "synthetic"
    assert raw["schema_version"] == 1
    assert raw["recipe"]["config"]["faces"]["crop_size"] == SIZE
    assert raw["fingerprint"] == RECIPE.fingerprint
    assert raw["counts"]["rejects_by_reason"] == {"no_face": 2}
    assert str(tmp_path) not in json.dumps(raw)
    assert os.uname().nodename not in json.dumps(raw)
