"""Damaged files of fixed seeds: every one ends as a result or as a refusal with a reason (benchmarks/fuzz.py).

`make prove` takes 300 of each part, in processes of limited memory; the ordinary run takes fewer, in this one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from runs import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import fuzz

FEW = {"media": 120, "tables": 100, "shards": 40, "checkpoints": 40}
SEED = 1
DONE = {"ok", "clip", "dubbed", "scored", "read", "true"}


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """In every test."""


@pytest.mark.parametrize("part", FEW)
def test_damaged_files_end_as_results_or_refusals(part: str, tmp_path: Path) -> None:
    good, scratch = tmp_path / "good", tmp_path / "scratch"
    good.mkdir(), scratch.mkdir()
    made = fuzz.find_part(part)
    made.make(good)
    loaded = made.load(good, scratch)
    name, data = next(iter(loaded.whole()))
    assert {act() for _, act in loaded.acts(name, data)} <= DONE, "the good files are read"
    found = {number: fuzz.run_case(loaded, SEED, number) for number in range(FEW[part])}
    assert not [case for case in found.values() if case.finding], fuzz.summary(found)
    assert len({end for case in found.values() for end in case.ends.values()}) > 1, (
        "nothing was refused, or all"
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", FEW)
def test_300_damaged_files_in_limited_memory(part: str, tmp_path: Path) -> None:
    options = fuzz.Options(part=part, count=300, seed=SEED, timeout_s=120, keep=tmp_path / "findings")  # type: ignore[arg-type]
    found = fuzz.fuzz(options)
    assert len(found) == 300
    assert not [case for case in found.values() if case.finding], fuzz.summary(found)
