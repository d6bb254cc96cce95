"""Writing shards: rows stream into a temporary file, one row group a clip, and the rename commits them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from syncdiff_data.environment import environment
from syncdiff_data.shards.schema import DAMAGED_PARQUET, IN_FOOTER, STORED_AS_IS, Footer, shard_path
from syncdiff_data.shards.store import Store


def write_shard(
    store: Store, footer: Footer, schema: pa.Schema, rows: Iterable[pa.Table], device: str = "cpu"
) -> int:
    """Write one shard from tables of `schema`, one row group each, and return the number of rows.

    The shard appears under its name only when `rows` is exhausted; an error in it leaves what was there before.
    Page checksums are stored, so that damage is found when the shard is read. Equal rows give equal
    bytes. device: what the rows were computed on, for the metadata.
    """
    count = 0

    def fill(file: IO[bytes]) -> None:
        nonlocal count
        with pq.ParquetWriter(
            file,
            footer.attach(schema, environment(device)),
            compression={path: "none" if path in STORED_AS_IS else "zstd" for path in _leaf_paths(schema)},
            use_dictionary=False,
            write_statistics=list(IN_FOOTER),
            write_page_checksum=True,
        ) as writer:
            for table in rows:
                writer.write_table(table.cast(writer.schema), row_group_size=max(1, table.num_rows))
                count += table.num_rows

    store.write(shard_path(footer.kind, footer.shard, footer.num_shards), fill)
    return count


def is_committed(store: Store, footer: Footer, verify: bool = False) -> bool:
    """True when the shard this footer belongs to is there and carries the same footer.

    A shard appears under its name when it is whole, so its footer says enough. verify: also read every byte, which
    finds damage that came later.
    """
    name = shard_path(footer.kind, footer.shard, footer.num_shards)
    if not store.exists(name):
        return False
    try:
        with pq.ParquetFile(store.open(name), page_checksum_verification=True) as file:
            if Footer.of(file.schema_arrow) != footer:
                return False
            for row in range(file.num_row_groups if verify else 0):
                file.read_row_group(row)
    except DAMAGED_PARQUET:
        return False
    return True


def _leaf_paths(schema: pa.Schema) -> list[str]:
    """Parquet's dotted path of every column of bytes or numbers."""
    paths = []
    for field in schema:
        path, dtype = field.name, field.type
        while pa.types.is_list(dtype) or pa.types.is_fixed_size_list(dtype):
            path, dtype = path + ".list.element", dtype.value_type
        paths.append(path)
    return paths
