"""Reported kinds of faults: every resume reads all bytes, the check of a data set is one process."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from runs import contents, preprocess
from stub_faces import write_colour

from syncdiff_data.cli import RayOptions
from syncdiff_data.records import UserError
from syncdiff_data.shards import Store
from syncdiff_data.shards.dataset import load_dataset
from syncdiff_data.shards.schema import Footer
from syncdiff_data.shards.validate import validate
from syncdiff_data.shards.write import is_committed
from syncdiff_data.validation import check_on_ray

SHARD = "clips/clips-00000-of-00002.parquet"


@pytest.fixture
def dataset(tmp_path: Path, ray_session: None) -> Path:
    for name in "abc":
        write_colour(tmp_path / f"videos/{name}.mp4", "face")
    preprocess(tmp_path / "videos", tmp_path / "out")
    return tmp_path / "out"


def damage(out: Path) -> None:
    """Turn a bit of a sound, far from the footer."""
    data = bytearray((out / SHARD).read_bytes())
    data[data.index(b"fLaC") + 50] ^= 1
    (out / SHARD).write_bytes(data)


def test_kind_44_resume_reads_footers_and_verify_reads_all(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    read = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, row: int, *args: Any, **kwargs: Any) -> Any:
        rows.append(row)
        return read(self, row, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    footer = Footer.of(pq.read_schema(dataset / SHARD))
    assert footer is not None
    assert is_committed(Store(dataset), footer)
    assert rows == [], "the footer alone"
    assert is_committed(Store(dataset), footer, verify=True)
    assert len(rows) == 2, "every row"


def test_kind_44_verify_makes_damaged_shards_again(dataset: Path, tmp_path: Path) -> None:
    before = contents(dataset)
    damage(dataset)
    damaged = contents(dataset)
    preprocess(tmp_path / "videos", dataset)
    assert contents(dataset) == damaged
    preprocess(tmp_path / "videos", dataset, verify=True)
    assert contents(dataset) == before


def test_kind_44_the_check_on_ray_finds_what_the_check_in_one_process_finds(dataset: Path) -> None:
    on_ray = check_on_ray(RayOptions(workers=2))
    assert load_dataset(Store(dataset)).num_shards == 2
    assert validate(dataset, None, on_ray) == []
    damage(dataset)
    (dataset / "rejects/rejects-00001-of-00002.parquet").unlink()
    problems = validate(dataset)
    assert len(problems) == 2
    assert validate(dataset, None, on_ray) == problems
    with pytest.raises(UserError, match=r"is not a data set"):
        validate(dataset / "clips", None, on_ray)
