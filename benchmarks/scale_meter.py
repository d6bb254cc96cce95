"""Time and memory of the steps of benchmarks/scale.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class Step:
    """What one step took. cpu: seconds of this process. memory: MiB of it at its peak in the step, above those before
    the part began."""

    name: str
    seconds: float
    cpu: float
    memory: float
    notes: dict[str, float] = field(default_factory=dict)


class Meter:
    """Times steps and takes the peak of this process's memory in each."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.settle()

    def settle(self) -> None:
        """Take memory from here on."""
        self._before = _status("VmRSS")

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, float]]:
        """What the body puts into the yielded dict stands beside the step."""
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
        notes: dict[str, float] = {}
        start, cpu = time.perf_counter(), time.process_time()
        yield notes
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        self.steps.append(Step(name, seconds, cpu, (_status("VmHWM") - self._before) / MIB, notes))


def _status(key: str) -> int:
    """Bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
