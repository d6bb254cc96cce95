"""Shards are written whole or not at all: killed writers, full disks, damaged files."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from shard_data import RECIPE, SIZE, SOURCES, build, fill, flipped

from syncdiff_data.plans import make_plans, plan_hash
from syncdiff_data.records import UserError
from syncdiff_data.shards.lifecycle import start_dataset
from syncdiff_data.shards.schema import Footer, shard_path
from syncdiff_data.shards.store import sweep_leftovers, write_atomically
from syncdiff_data.shards.write import is_committed

KILLED_WRITER = """
import os, signal, sys
sys.path[:0] = [{tests!r}]
from shard_data import SIZE, SOURCES, synthetic_clip
from syncdiff_data.plans import make_plans
from syncdiff_data.shards import Store
from syncdiff_data.shards.rows import clip_table
from syncdiff_data.shards.schema import CLIPS, Footer
from syncdiff_data.shards.write import write_shard
def rows():
    yield clip_table(synthetic_clip(SOURCES[0]))
    os.kill(os.getpid(), signal.SIGKILL)
footer = Footer("clips", {fingerprint!r}, make_plans(SOURCES, 3)[0].hash, 0, 2, crop_size=SIZE)
write_shard(Store({folder!r}), footer, CLIPS, rows())
"""


def test_a_writer_killed_in_the_middle_leaves_the_old_shard(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "d").rglob("*.*"))}
    script = KILLED_WRITER.format(
        tests=str(Path(__file__).parent), fingerprint=RECIPE.fingerprint, folder=store.uri
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    after = {path: path.read_bytes() for path in sorted((tmp_path / "d").rglob("*.*"))}
    left = [path for path in after if path not in before]
    assert [path.suffix for path in left] == [".tmp"]
    assert {path: after[path] for path in before} == before
    plans = make_plans(SOURCES, 3)
    start_dataset(store, RECIPE, plan_hash([p.hash for p in plans]), 2)
    assert not left[0].exists(), "a start sweeps what killed writers left"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes fail with EFBIG, as they fail with ENOSPC on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "d").rglob("*.*"))}
    plan = make_plans(SOURCES, 3)[0]
    with largest_file(4096), pytest.raises(UserError, match=r"could not be written: File too large"):
        fill(store, plan, RECIPE.fingerprint)
    assert {path: path.read_bytes() for path in sorted((tmp_path / "d").rglob("*.*"))} == before


def test_an_error_while_filling_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, lambda file: file.write(b"new" * (1 // 0)))
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "not parquet", "other recipe"])
def test_a_damaged_shard_is_not_committed(tmp_path: Path, damage: str) -> None:
    store = build(tmp_path / "d")
    plan = make_plans(SOURCES, 3)[1]
    footer = Footer("clips", RECIPE.fingerprint, plan.hash, 1, 2, crop_size=SIZE)
    assert is_committed(store, footer, verify=True)
    path = Path(store.path(shard_path("clips", 1, 2)))
    data = path.read_bytes()
    if damage == "other recipe":
        footer = replace(footer, fingerprint="0" * 16)
    else:
        path.write_bytes(
            {
                "truncated": data[:-100],
                "flipped": flipped(data),
                "empty": b"",
                "not parquet": b"PAR1 nonsense PAR1",
            }[damage]
        )
    assert not is_committed(store, footer, verify=True)
    assert not is_committed(store, replace(footer, shard=0, num_shards=9)), "a shard that is not there"


def test_leftovers_of_killed_commands_are_swept_and_nothing_else(tmp_path: Path) -> None:
    killed = ["dubs.json.node-1-77.tmp", f"probe-{'0a' * 8}.tmp", f"probe-{'0a' * 8}-{'f0' * 28}.tmp"]
    others = ["notes.tmp", "my-2.tmp", "a.json"]
    for name in (*killed, *others):
        (tmp_path / name).touch()
    sweep_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
