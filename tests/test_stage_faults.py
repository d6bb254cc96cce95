"""Crashes, hangs, bugs and full disks inside workers: what they cost, and what they must not cost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import ROOT, contents, interruptible, preprocess
from stub_faces import CONFIG, write_colour

from syncdiff_data.cli import RayOptions
from syncdiff_data.plans import Plan, make_plans
from syncdiff_data.preprocess import PreprocessStage
from syncdiff_data.progress import ProgressActor, ProgressPrinter
from syncdiff_data.quarantine import CrashQuarantine
from syncdiff_data.records import Reason, Source, UserError
from syncdiff_data.shards import Store, load_dataset, read_clips, read_rejects
from syncdiff_data.shards.validate import validate
from syncdiff_data.stage import ReportProgress, probe_nodes, run_plans


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


def test_a_bug_ends_the_run_and_names_the_source(tmp_path: Path, ray_session: None) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    for name, what in {"a": "face", "b": "face", "c": "bug"}.items():
        write_colour(root / f"{name}.mp4", what)
    with pytest.raises(
        Exception, match=r"(?s)stub_faces\.py.*a bug in this backend.*being processed was c\.mp4"
    ):
        preprocess(root, out, workers=1)
    assert not load_dataset(Store(out), must_be_complete=False).complete
    assert (out / "clips/clips-00000-of-00002.parquet").exists(), "what was finished stays"
    assert not (out / "clips/clips-00001-of-00002.parquet").exists()


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


# Crash quarantine, in detail


def work_on(root: Path, out: Path) -> PreprocessStage:
    return PreprocessStage(
        root=str(root),
        out=str(out),
        dataset="colours",
        fingerprint="f" * 16,
        config=CONFIG,
        weights=(),
        device="cpu",
        retry_failed=False,
        source_timeout=0,
    )


def plan_of(root: Path) -> Plan:
    sources = [Source(path.name, path.stat().st_size) for path in sorted(root.iterdir())]
    return make_plans(sources, 10)[0]


def test_a_finished_source_has_no_crash_count(tmp_path: Path) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    for name in "abc":
        write_colour(root / f"{name}.mp4", "face")
    plan = plan_of(root)
    quarantine = CrashQuarantine(Store(out), "clips/clips-00000-of-00001.parquet")
    quarantine.store.write_text(quarantine.name, json.dumps({"b.mp4": 2}))
    reported = []
    counts = work_on(root, out)(plan.to_json(), lambda shard, counts: reported.append(counts["sources"]))
    assert counts["clips"] == 3
    assert reported == [1, 2, 3]
    assert "rejects" not in counts
    assert not quarantine.store.exists(quarantine.name)


def test_the_third_crash_is_the_last(tmp_path: Path) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    for name, what in {"a": "face", "b": "crash"}.items():
        write_colour(root / f"{name}.mp4", what)
    plan = plan_of(root).to_json()
    store, name = Store(out), "clips/clips-00000-of-00001.parquet"
    seen = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            work_on(root, out)(plan, lambda shard, counts: None)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        seen.append(CrashQuarantine(store, name).crash_count)
    assert seen == [{"b.mp4": 1}, {"b.mp4": 2}, {"b.mp4": 3}]
    assert work_on(root, out)(plan, lambda shard, counts: None)["rejects/worker_crashed"] == 1


def test_an_exception_is_no_crash(tmp_path: Path) -> None:
    quarantine = CrashQuarantine(Store(tmp_path), "shard")
    with pytest.raises(ZeroDivisionError), quarantine.processing("a"):
        _ = 1 // 0
    assert CrashQuarantine(Store(tmp_path), "shard").crash_count == {}
    assert list(tmp_path.iterdir()) == []


def test_the_watchdog_ends_only_a_process_without_heartbeats() -> None:
    script = (
        "import sys, time; from syncdiff_data.heartbeat import Watchdog\n"
        "with Watchdog(1.0) as watchdog:\n"
        "    for _ in range(15): time.sleep(0.1); watchdog.heartbeat()\n"
        "time.sleep(1.5); print('survived', flush=True)\n"
        "with Watchdog(0): pass\n"
        "with Watchdog(0.5): time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "survived\n"
    assert done.returncode == 1
    assert "Timeout" in done.stderr


# The stage itself


class Square:
    """A stage for run_plans: the number, squared."""

    def __call__(self, plan: str, report_progress: ReportProgress) -> dict[str, int]:
        report_progress(int(plan), {"numbers": 1})
        return {"square": int(plan) ** 2, f"only_{plan}": 1}


def test_every_plan_is_run_once_and_counts_come_back_whole(
    ray_session: None, capfd: pytest.CaptureFixture[str]
) -> None:
    results = run_plans(Square(), [str(i) for i in range(9)], RayOptions(workers=2), "squares", 9, "numbers")
    assert sorted(results, key=lambda r: r["square"]) == [{"square": i**2, f"only_{i}": 1} for i in range(9)]
    assert "squares: 100% 9/9" in capfd.readouterr().err


class Threads:
    """A stage for run_plans: how many threads torch uses, loaded after the limit was set."""

    def __call__(self, plan: str, report_progress: ReportProgress) -> dict[str, int]:
        import torch

        return {"torch": torch.get_num_threads()}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_task_has_the_threads_it_was_given(threads: int, ray_session: None) -> None:
    assert run_plans(Threads(), ["0"], RayOptions(), "threads", 1, "plans", threads) == [{"torch": threads}]


def test_a_node_that_cannot_read_the_root_is_named(tmp_path: Path, ray_session: None) -> None:
    probe_nodes(str(tmp_path), str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == [], "the probe leaves nothing"
    with pytest.raises(UserError, match=r"^node .* cannot read the root /nowhere"):
        probe_nodes("/nowhere", str(tmp_path / "out"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^node .* cannot write to .*/file/out"):
        probe_nodes(str(tmp_path), str(tmp_path / "file" / "out"))


def test_a_shard_that_is_made_again_counts_once() -> None:
    progress = ProgressActor()
    for counts in ({"clips": 1}, {"clips": 2}, {"clips": 1}):
        progress.report(0, counts)
    progress.report(1, {"clips": 5, "rejects": 1})
    assert progress.total() == {"clips": 6, "rejects": 1}


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
def test_ctrl_c_leaves_a_state_to_resume(tmp_path: Path, ray_session: None) -> None:
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
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "run the same command again to go on" in errors
    assert "Traceback" not in errors
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
