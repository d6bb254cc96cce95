"""A list of dubs whose whole run is killed again and again: the same bytes in the end, and nothing half written."""

from __future__ import annotations

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

PAIRS = 12
BACKEND = "stub_faces:ColourBackend"


def line_of(model: Path, table: Path, out: Path) -> list[str]:
    line = [sys.executable, str(ROOT / "pipelines" / "synthesize.py"), "--model", model, "--pairs", table]
    return [
        *map(str, line),
        "--out",
        str(out),
        "--workers",
        "2",
        "--sampling.steps",
        "1",
        "--backend",
        BACKEND,
    ]


def run(line: list[str]) -> int:
    return interruptible(line, PYTHONPATH=f"{ROOT / 'tests'}:{ROOT}").wait()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_runs_leave_whole_dubs_and_the_next_run_goes_on(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    for number in range(PAIRS):
        write_colour(tmp_path / "media" / f"{number}.mp4", "face", 20 + number)
    table = tmp_path / "pairs.csv"
    rows = [f"{tmp_path}/media/{n}.mp4,{tmp_path}/media/{(n + 1) % PAIRS}.mp4,{n}.mp4" for n in range(PAIRS)]
    table.write_text("\n".join(["video,audio,output", *rows]) + "\n")
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
    made, undisturbed = (
        {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        for folder in (out, tmp_path / "whole")
    )
    assert made == undisturbed
