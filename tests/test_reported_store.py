"""Reported kinds of faults in a data set's folder: interrupted uploads, stale shards."""

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from syncdiff_data.shards import Store
from syncdiff_data.shards.dataset import Dataset
from syncdiff_data.shards.lifecycle import _shards_beside


class Bucket(Store):
    """A store that takes the path of an object store: files appear when their stream closes, however that is."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.filesystem = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
        self.base, self.is_local = "", False

    def path(self, name: str) -> str:
        return name


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, MemoryError])
def test_kind_30_an_interrupted_upload_leaves_the_object_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    (tmp_path / "clips").mkdir()
    store = Bucket(tmp_path)
    store.write("clips/a.parquet", lambda file: file.write(b"good" * 1000) and None)
    copy = shutil.copyfileobj

    def interrupted(source: Any, target: Any, length: int) -> None:
        copy(io.BytesIO(b"half"), target, length)
        raise interruption

    monkeypatch.setattr("syncdiff_data.shards.store.shutil.copyfileobj", interrupted)
    with pytest.raises(interruption):
        store.write("clips/a.parquet", lambda file: file.write(b"new" * 1000) and None)
    assert store.open("clips/a.parquet").read() == b"good" * 1000
    assert store.list("clips") == ["clips/a.parquet"]


def test_kind_15_stale_shards_of_a_large_data_set_are_found_by_one_look_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    shards = Dataset.shards
    monkeypatch.setattr(Dataset, "shards", lambda self, kind=None: calls.append(kind) or shards(self, kind))
    found = Dataset("clips", "n", {}, "same", "old", 3, complete=True)
    (tmp_path / "clips").mkdir()
    for number in range(3):
        (tmp_path / f"clips/clips-{number:05d}-of-00003.parquet").touch()
    stale = _shards_beside(Store(tmp_path), found, replace(found, plan_hash="new", num_shards=2))
    assert len(stale) == 3
    assert len(calls) == 2, "once for each folder, not once for each file"
