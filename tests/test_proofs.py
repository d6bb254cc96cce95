"""The proofs in benchmarks/ that take hours: a tenth of the kills, every fourth size of the disk, some turns of the
soak, and what they compare by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import full_disk
import kills
import small_chain


def test_outputs_differ_by_every_file_but_logs_and_locks(tmp_path: Path) -> None:
    chain, other = small_chain.Chain(tmp_path), tmp_path / "other"
    for folder, text in ((chain.whole("synthesize"), "a"), (other, "b")):
        for name in ("same.mp4", "cache/lock", "tensorboard/events", text, "changed.mp4"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("" if name == "same.mp4" else text)
    assert chain.differences("synthesize", other) == ["a is missing", "b is left", "changed.mp4 differs"]
    assert chain.differences("synthesize", chain.whole("synthesize")) == []


def test_training_states_are_compared_by_value(tmp_path: Path) -> None:
    betas, equal = (0.9, 0.99), [0.9, 0.99]
    states = {"one": [betas, betas], "resumed": [betas, tuple(equal)], "other": [betas, (0.9, 0.98)]}
    paths = [tmp_path / name / small_chain.STATE for name in states]
    for path, both in zip(paths, states.values(), strict=True):
        path.parent.mkdir()
        torch.save({"betas": both, "weights": torch.ones(2)}, path)
    one, resumed, other = map(small_chain.content, paths)
    assert paths[0].read_bytes() != paths[1].read_bytes()
    assert one == resumed
    assert one != other


def test_the_table_of_kills_adds_up() -> None:
    row = {"worker": "2", "driver": "1", "machine": "0", "raylet": "1", "node": "0", "starts": "3"}
    text = kills.table(
        [row | {"stage": "preprocess", "equal": "yes"}, row | {"stage": "train", "equal": "no"}]
    )
    assert "| preprocess | 2 | 1 | 0 | 1 | 0 | 4 | 1 | 3 | 1 of 1 |" in text
    assert text.endswith("| all | 4 | 2 | 0 | 2 | 0 | 8 | 2 | 6 | 1 of 2 |")


def test_a_file_that_a_full_disk_cut_is_lost() -> None:
    before = {
        "a.parquet": b"1",
        "b.parquet": b"1",
        "run.json": b"{}",
        "dubs.csv": b"a\n",
        "checkpoints/1/x": b"1",
    }
    assert full_disk.lost_files(before, before) == []
    assert full_disk.lost_files(before, before | {"run.json": b"[1]", "dubs.csv": b"a\nb\n"}) == []
    cut = {"a.parquet": b"2", "run.json": b"{", "dubs.csv": b"a\nb"}
    assert sorted(full_disk.lost_files(before, cut)) == ["a.parquet", "b.parquet", "dubs.csv", "run.json"]


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "line",
    [("kills.py", "--kills", "100"), ("full_disk.py", "--step", "256"), ("soak.py", "--minutes", "5")],
    ids=lambda line: line[0],
)
def test_a_part_of_the_proof(line: tuple[str, ...], tmp_path: Path) -> None:
    script, *options = line
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, "--out", tmp_path, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if run.stderr.startswith("unshare: "):
        pytest.skip("needs user namespaces to mount a small disk")
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-3000:]


@pytest.mark.slow
def test_an_item_that_takes_all_memory_is_given_up() -> None:
    line = [sys.executable, ROOT / "benchmarks" / "memory_full.py"]
    run = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout + run.stderr
