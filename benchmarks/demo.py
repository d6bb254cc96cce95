"""How long the demo takes and how much memory it needs, measured from outside.

    python benchmarks/demo.py [--out DIR]

Memory is the proportional set size (every shared page counted once, split among those who share it) of the whole
process tree, Ray's processes included; a sample costs CPU time, so it is taken every two seconds. The peak is printed.
Then the demo runs once more, to show what finding everything done costs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

DEMO = Path(__file__).resolve().parent.parent / "pipelines" / "demo.py"
SAMPLE_EVERY_S = 2.0


def tree_pss(process: psutil.Process) -> int:
    """Bytes of proportional set size of a process and all below it."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return total


def measure(out: Path) -> tuple[float, int]:
    """(seconds, peak bytes) of one run of the demo."""
    started, peak = time.monotonic(), 0
    child = subprocess.Popen([sys.executable, str(DEMO), "--out", str(out)])
    process = psutil.Process(child.pid)
    while child.poll() is None:
        try:
            peak = max(peak, tree_pss(process))
        except psutil.NoSuchProcess:
            break
        time.sleep(SAMPLE_EVERY_S)
    if child.wait():
        raise SystemExit(f"the demo failed with status {child.returncode}")
    return time.monotonic() - started, peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo-benchmark"), help="removed first (default: %(default)s)"
    )
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    for title in ("first run", "second run"):
        seconds, peak = measure(out)
        print(f"{title}: {seconds:.0f} s, peak {peak / 2**30:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
