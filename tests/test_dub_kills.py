"""A list of dubs whose whole run is killed again and again: the same bytes in the end, and nothing half written."""

from __future__ import annotations

import csv
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from runs import ROOT, family, interruptible
from stub_faces import write_colour
from tiny_models import save_tiny_model

from syncdiff_data.media import Video
from syncdiff_model.dub_pairs import REPORT

PAIRS = 12
LIST = 40
"""Pairs of the list of which a worker is killed."""
BACKEND = "stub_faces:ColourBackend"


def line_of(model: Path, table: Path, out: Path, workers: int = 2) -> list[str]:
    line = [sys.executable, str(ROOT / "pipelines" / "synthesize.py"), "--model", model, "--pairs", table]
    return [
        *map(str, line),
        "--out",
        str(out),
        "--workers",
        str(workers),
        "--sampling.steps",
        "1",
        "--backend",
        BACKEND,
    ]


def run(line: list[str]) -> int:
    return interruptible(line, PYTHONPATH=f"{ROOT / 'tests'}:{ROOT}").wait()


@pytest.mark.slow
def test_killed_runs_leave_whole_dubs_and_the_next_run_goes_on(tmp_path: Path) -> None:
    model, table = save_tiny_model(tmp_path / "model"), write_list(tmp_path, PAIRS)
    assert run(line_of(model, table, tmp_path / "whole")) == 0

    rng, out = random.Random(0), tmp_path / "killed"
    for _ in range(3):
        before = len(list(out.glob("*.mp4")))
        driver = interruptible(line_of(model, table, out), PYTHONPATH=f"{ROOT / 'tests'}:{ROOT}")
        while driver.poll() is None and len(list(out.glob("*.mp4"))) <= before + 1:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 1))
        for pid in reversed(family(driver.pid)) if driver.poll() is None else ():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        driver.wait()
        for dub in out.glob("*.mp4"):
            assert Video(dub).num_frames >= 20, "whole or not there"
    assert run(line_of(model, table, out)) == 0
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_list_of_which_a_worker_is_killed_has_every_pair_once_and_one_workers_bytes(tmp_path: Path) -> None:
    model, table = save_tiny_model(tmp_path / "model"), write_list(tmp_path, LIST)
    assert run(line_of(model, table, tmp_path / "one", workers=1)) == 0
    out = tmp_path / "two"
    driver = interruptible(line_of(model, table, out), PYTHONPATH=f"{ROOT / 'tests'}:{ROOT}")
    while driver.poll() is None and len(list(out.glob("*.mp4"))) < LIST // 3:
        time.sleep(0.02)
    workers: list[int] = []
    while driver.poll() is None and len(workers) < 2:  # between two blocks a worker is called idle
        workers = [pid for pid in family(driver.pid) if is_worker(pid)]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    assert driver.wait() == 0
    assert len(list(out.glob("*.mp4"))) == LIST
    with (out / REPORT).open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok"] * LIST
    assert contents(out) == contents(tmp_path / "one")


def write_list(folder: Path, count: int) -> Path:
    """Videos of a face, and a CSV of as many pairs: each video with the sound of the next."""
    for number in range(count):
        write_colour(folder / "media" / f"{number}.mp4", "face", 20 + number)
    rows = [f"{folder}/media/{n}.mp4,{folder}/media/{(n + 1) % count}.mp4,{n}.mp4" for n in range(count)]
    table = folder / "pairs.csv"
    table.write_text("\n".join(["video,audio,output", *rows]) + "\n")
    return table


def is_worker(pid: int) -> bool:
    try:
        return b"ray::Map" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
