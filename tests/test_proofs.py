"""The proofs in benchmarks/ that take hours: a tenth of them, and what they compare by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runs import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
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


def test_the_table_of_kills_adds_up() -> None:
    row = {"worker": "2", "driver": "1", "machine": "0", "raylet": "1", "node": "0", "starts": "3"}
    text = kills.table(
        [row | {"stage": "preprocess", "equal": "yes"}, row | {"stage": "train", "equal": "no"}]
    )
    assert "| preprocess | 2 | 1 | 0 | 1 | 0 | 4 | 1 | 3 | 1 of 1 |" in text
    assert text.endswith("| all | 4 | 2 | 0 | 2 | 0 | 8 | 2 | 6 | 1 of 2 |")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_tenth_of_the_kills(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "kills.py"
    run = subprocess.run(
        [sys.executable, script, "--out", tmp_path, "--kills", "100", "--seed", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-3000:]
