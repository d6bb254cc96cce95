"""Crashes, hangs, bugs and full disks inside workers: what they cost, and what they must not cost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import ROOT, contents, interruptible, preprocess
from stub_faces import CONFIG, write_colour

from syncdiff_data.progress import ProgressPrinter
from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.shards import read_clips, read_rejects
from syncdiff_data.shards.validate import validate
from syncdiff_data.stage import UnexpectedFailures


def rejects_of(out: Path) -> dict[str, tuple[Reason, str]]:
    return {r.source: (r.reason, str(r.kind)) for r in read_rejects(out)}


# Crash quarantine, on Ray


def test_sources_that_kill_or_hang_are_quarantined_and_all_others_are_there(
    tmp_path: Path, ray_session: None
) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    for name, what in {
        "a": "face",
        "b": "crash",
        "c": "face",
        "d": "face",
        "e": "hang",
        "f": "face",
    }.items():
        write_colour(root / f"{name}.mp4", what)
    preprocess(root, out, shard_size=3, source_timeout=4)
    assert [clip.source for clip in read_clips(out)] == ["a.mp4", "c.mp4", "d.mp4", "f.mp4"]
    crashed = (Reason.WORKER_CRASHED, "failed")
    assert rejects_of(out) == {"b.mp4": crashed, "e.mp4": crashed}
    assert validate(out) == []
    assert not [name for name in contents(out) if name.endswith(".tmp")], "nothing is left lying about"
    before = contents(out)
    preprocess(root, out, shard_size=3)
    assert contents(out) == before, "the next run does not touch it"


def test_kind_14_a_bug_costs_one_source_and_the_exit_status_says_so(
    tmp_path: Path, ray_session: None
) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    for name, what in {"a": "face", "b": "face", "c": "bug", "d": "face"}.items():
        write_colour(root / f"{name}.mp4", what)
    for _ in range(2):
        with pytest.raises(
            UnexpectedFailures, match=r"^1 of 4 sources failed with an unexpected error"
        ) as raised:
            preprocess(root, out, workers=1)
        assert raised.value.exit_status == 3
    assert validate(out) == []
    assert [clip.source for clip in read_clips(out)] == ["a.mp4", "b.mp4", "d.mp4"]
    (reject,) = read_rejects(out)
    assert (reject.source, reject.reason, reject.kind) == ("c.mp4", "unexpected_error", "failed")
    assert reject.detail.startswith("ZeroDivisionError: a bug in this backend")
    assert 'File "tests/stub_faces.py"' in reject.detail, "the stack, without this machine's folders"


def test_a_write_that_fails_in_a_worker_is_a_sentence(tmp_path: Path, ray_session: None) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    write_colour(root / "a.mp4", "face")
    preprocess(root, out)
    before, shard = contents(out), out / "clips/clips-00000-of-00001.parquet"
    shard.unlink()
    shard.mkdir()
    with pytest.raises(UserError, match=r"^/.*/out/clips/.* could not be written: Is a directory"):
        preprocess(root, out)
    shard.rmdir()
    preprocess(root, out)
    assert contents(out) == before


def test_a_log_gets_lines_with_rate_and_rejects(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressPrinter(
        "preprocess", 4, "sources", lambda: {"sources": 4, "clips": 3, "rejects/no_face": 1}
    ):
        pass
    line = capsys.readouterr().err
    assert line.startswith("preprocess: 100% 4/4 [")
    assert "rejects/no_face 1" in line
    assert line.strip().endswith("clips/s")


# Slow proofs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_ctrl_c_sigterm_and_sighup_leave_a_state_to_resume(
    ending: signal.Signals, status: int, tmp_path: Path, ray_session: None
) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    for number in range(40):
        write_colour(root / f"{number:02d}.mp4", "face", 12 + number)
    line = [sys.executable, str(ROOT / "pipelines/preprocess.py"), "--source", "folder", "--root", str(root)]
    line += ["--out", str(out), "--shard-size", "2", "--workers", "1", "--backend", CONFIG.faces.backend]
    line += ["--min-face-px", "0", "--crop-size", "32", "--no-mouth"]
    run = interruptible(line, stderr=subprocess.PIPE, PYTHONPATH=str(ROOT / "tests"))
    while len(list((out / "clips").glob("*.parquet"))) < 2:
        assert run.poll() is None
        time.sleep(0.05)
    run.send_signal(ending)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == status
    assert "run the same command again to go on" in errors
    assert "Traceback" not in errors
    assert "*** SIG" not in errors
    finished = {path: path.stat().st_mtime_ns for path in (out / "clips").glob("*.parquet")}
    assert len(finished) < 20, "it was stopped on the way"
    preprocess(root, out)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    preprocess(root, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_in_a_whole_run(tmp_path: Path, ray_session: None) -> None:
    root, disk = tmp_path / "videos", tmp_path / "disk"
    for number in range(12):
        write_colour(root / f"{number:02d}.mp4", "face", 60)
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)])
    if mounted.returncode:
        pytest.skip("this machine does not let tests mount a file system")
    try:
        with pytest.raises(UserError, match=r"No space left on device.*make room"):
            preprocess(root, disk / "out", workers=1)
        kept = {path: path.read_bytes() for path in (disk / "out").glob("*/*.parquet")}
        assert kept
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        preprocess(root, disk / "out", workers=1)
        assert validate(disk / "out") == []
        assert {path: path.read_bytes() for path in kept} == kept
        assert not list((disk / "out").rglob("*.tmp"))
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
