"""A benchmark whose workers and drivers are killed gives the same table."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from benchmark_trees import (
    check_rows,
    contents,
    make_tree,
    run,
)

from syncdiff_eval.methods import Method

pytestmark = pytest.mark.usefixtures("same_checkout")


def busy_workers() -> list[int]:
    """Process ids of this process's own Ray workers that run a task."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                titles[int(entry.name)] = (entry / "cmdline").read_bytes()
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # ended while we looked

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and ours(parents[pid]))

    return [pid for pid, title in titles.items() if title.startswith(b"ray::Map") and ours(pid)]


def run_with_kills(reference: Path, methods: list[Method], out: Path) -> int:
    """Run on two workers and kill one after every eight new pieces of work; returns how many died.

    By work and not by the clock: on a busy machine a worker may take longer to start than any interval. Equal files
    are one piece of work, of which there are about seventy.
    """
    stop = threading.Event()
    killed: list[int] = []
    rng = np.random.default_rng(0)

    def kill_as_the_work_goes_on() -> None:
        while not stop.wait(0.1):
            finished, busy = len(list(out.glob("cache/*.json"))), busy_workers()
            if busy and finished >= 8 * len(killed) + 4:
                killed.append(busy[int(rng.integers(len(busy)))])
                with contextlib.suppress(ProcessLookupError):  # ended by itself meanwhile
                    os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill_as_the_work_goes_on)
    killer.start()
    try:
        run(reference, methods, out, workers=2)
    finally:
        stop.set()
        killer.join()
    return len(killed)


@pytest.mark.slow
def test_200_files_with_20_broken_survive_kills(tmp_path: Path, ray_session: None) -> None:
    """Bug 3: 600 rows, the right reasons, the same table from one worker, from two, and after killing workers."""
    reference, methods, expected = make_tree(tmp_path, num_clips=200)
    _, rows = run(reference, methods, tmp_path / "one", workers=1)
    check_rows(rows, expected, 200)
    run(reference, methods, tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    killed = run_with_kills(reference, methods, tmp_path / "killed")
    assert killed > 5
    assert contents(tmp_path / "killed") == contents(tmp_path / "one")
