"""The study, killed in every stage: started again it ends in the report of an undisturbed one."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from runs import ROOT, extract, family, interruptible

from syncdiff_data.demo import make_talkers
from syncdiff_model.presets import CONFIGS

SPLITS = ("train",) * 5 + ("validation",) * 2 + ("test",) * 2
SHARE = "0.1"


@pytest.mark.slow
def test_a_study_killed_in_every_stage_ends_in_the_report_of_an_undisturbed_one(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert interruptible(line_of(data, whole)).wait() == 0
    for reached in STAGES.values():
        driver = interruptible(line_of(data, killed))
        while not reached(killed):
            assert driver.poll() is None, "the study ended before it was killed"
            time.sleep(0.05)
        kill_all(driver.pid)
    assert interruptible(line_of(data, killed)).wait() == 0
    assert products(killed) == products(whole)


STAGES: dict[str, Callable[[Path], bool]] = {
    "the shared audio network": lambda out: (out / "audio").exists(),
    "a GAN's training": lambda out: any((out / "runs").glob("gan-*/tensorboard/*")),
    "another training": lambda out: any((out / "runs" / "full").glob("run.json")),
    "dubs with their own sound": lambda out: len(list((out / "dubs" / "own").glob("*/*.mp4"))) > 5,
    "scoring": lambda out: any((out / "own" / "cache").rglob("*.json")),
    "dubs with foreign sound": lambda out: len(list((out / "dubs" / "foreign").glob("*/*.mp4"))) > 3,
    "the last report": lambda out: (out / "foreign" / "per_clip.parquet").exists(),
}


def make_data(folder: Path) -> list[str]:
    """Nine talkers in three splits, their clips and features, and the options that name them."""
    talkers = folder / "talkers"
    videos = make_talkers(talkers, len(SPLITS), 2.0)
    table = talkers / "study.csv"
    rows = [f"{path.relative_to(talkers)},{split}" for path, split in zip(videos, SPLITS, strict=True)]
    table.write_text("\n".join(["path,split", *rows]) + "\n")
    clips = folder / "clips"
    line = [
        sys.executable,
        str(ROOT / "pipelines" / "preprocess.py"),
        "--source",
        "folder",
        "--root",
        str(table),
    ]
    assert interruptible([*line, "--out", str(clips), "--crop-size", "128"]).wait() == 0
    extract(clips, folder / "features")
    return ["--videos", str(table), "--clips", str(clips), "--features", str(folder / "features"),
            "--preset", str(steps_alone(folder))]  # fmt: skip


def steps_alone(folder: Path) -> Path:
    """The preset demo without its clocks, which would end two runs at different steps."""
    preset = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    for name, section in preset.items():
        if name.startswith("train_"):
            section |= {"max_seconds": None, "steps": min(section["steps"], 60)}
    path = folder / "steps.yaml"
    path.write_text(yaml.safe_dump(preset))
    return path


def line_of(data: list[str], out: Path) -> list[str]:
    line = [sys.executable, str(ROOT / "pipelines" / "study.py"), *data]
    return [*line, "--share", SHARE, "--seeds", "1", "--workers", "2", "--out", str(out)]


def kill_all(pid: int) -> None:
    """SIGKILL a run and every process that it started."""
    for member in reversed(family(pid)):
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue


def products(out: Path) -> dict[str, bytes]:
    """What must be equal: dubs, tables and claims."""
    tables = [
        out / kind / name for kind in ("own", "foreign") for name in ("leaderboard.csv", "per_clip.parquet")
    ]
    paths = [*tables, out / "claims.md", *sorted((out / "dubs").rglob("*.mp4"))]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}
