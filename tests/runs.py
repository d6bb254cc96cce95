"""Whole runs of the pipelines from tests, in this process or in one of their own."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from stub_faces import CONFIG

from syncdiff_data.cli import RayOptions

ROOT = Path(__file__).resolve().parent.parent


@cache
def pipeline(name: str) -> ModuleType:
    """The script pipelines/<name>.py as a module."""
    spec = importlib.util.spec_from_file_location(f"pipelines_{name}", ROOT / "pipelines" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def preprocess(root: Path, out: Path | str, **options: Any) -> None:
    """pipelines/preprocess.py on a folder of colour videos, two sources a shard."""
    workers = options.pop("workers", 2)
    defaults = {"source": "folder", "shard_size": 2, "clips": CONFIG, "ray": RayOptions(workers=workers)}
    module = pipeline("preprocess")
    module.main(module.Options(root=root, out=str(out), **{**defaults, **options}))


def extract(clips: Path, out: Path, encoder: str = "logfbank", **options: Any) -> None:
    """pipelines/extract_features.py."""
    module = pipeline("extract_features")
    module.main(module.Options(str(clips), encoder, str(out), ray=RayOptions(workers=2), **options))


def command(name: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a pipeline as a user would, from the project's folder."""
    line = [sys.executable, str(ROOT / "pipelines" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)


def python(
    script: str, cwd: Path = ROOT, prefix: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, without this session's Ray. prefix: words of a command that starts it."""
    line, env = [*prefix, sys.executable, "-c", script], os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        line, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, preexec_fn=hear_interrupts
    )


def preprocess_killed(out: Path, arguments: list[str], seconds: tuple[float, float], seed: int = 0) -> int:
    """Run pipelines/preprocess.py to its end while one of its busy workers is killed every so many seconds, and the
    whole run, three times on its way, by Ctrl-C, SIGTERM and SIGKILL. Returns how many workers were killed."""
    rng, killed = random.Random(seed), 0
    line = [sys.executable, str(ROOT / "pipelines/preprocess.py"), *arguments, "--out", str(out)]
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, None):
        run, start = interruptible(line), shards_of(out)
        next_kill = time.monotonic() + rng.uniform(*seconds)
        while run.poll() is None:
            time.sleep(0.05)
            if ending and shards_of(out) >= start + 3:
                run.send_signal(ending)
                run.wait()
            elif time.monotonic() > next_kill:
                killed += kill_a_worker(run.pid, rng)
                next_kill = time.monotonic() + rng.uniform(*seconds)
        assert (run.returncode == 0) == (ending is None), run.returncode
    return killed


def interruptible(line: list[str], stderr: int | None = None, **environment: str) -> subprocess.Popen[str]:
    """A process that Ctrl-C reaches, even where these tests run in the background or under nohup."""
    return subprocess.Popen(
        line,
        cwd=ROOT,
        env=os.environ | environment,
        stderr=stderr,
        text=True,
        preexec_fn=hear_interrupts,
    )


def hear_interrupts() -> None:
    """In a new process: Ctrl-C and the end of its terminal end it, even where the parent ignores them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def shards_of(out: Path) -> int:
    return len(list((out / "clips").glob("*.parquet")))


def kill_a_worker(driver: int, rng: random.Random) -> int:
    """SIGKILL for one busy Ray worker of a local run; how many were there to kill, 0 or 1."""
    busy = []
    for pid in family(driver):
        try:
            if b"ray::Map" in Path(f"/proc/{pid}/cmdline").read_bytes():
                busy.append(pid)
        except FileNotFoundError:  # It ended by itself.
            continue
    if busy:
        os.kill(rng.choice(busy), signal.SIGKILL)
    return min(1, len(busy))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder: relative path -> bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def family(pid: int) -> list[int]:
    """A process and all that it and its children started."""
    children = [
        int(c) for file in Path(f"/proc/{pid}/task").glob("*/children") for c in file.read_text().split()
    ]
    return [pid, *(member for child in children for member in family(child))]
