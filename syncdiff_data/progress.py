"""Progress of a run over many machines: workers send counts to one actor, the driver prints rate and time left."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from tqdm import tqdm

LINE_EVERY_S = 10.0
POLL_EVERY_S = 0.5


class ProgressCounts:
    """Counts by plan. A plan that is done again replaces its counts, so nothing counts twice."""

    def __init__(self) -> None:
        self.plans: dict[int, Mapping[str, int]] = {}
        self.sum: Counter[str] = Counter()

    def report(self, plan: int, counts: Mapping[str, int]) -> None:
        self.sum.subtract(self.plans.get(plan, {}))
        self.sum.update(counts)
        self.plans[plan] = counts

    def total(self) -> dict[str, int]:
        return dict(+self.sum)


class ProgressPrinter:
    """Prints polled counts while the body of a `with` runs: a bar on a terminal, a line every ten seconds in a log.

    total: number of items of `unit` (a key of the counts) that make the run complete.
    """

    def __init__(self, title: str, total: int, unit: str, poll: Callable[[], Mapping[str, int]]):
        self.title, self.total, self.unit, self.poll = title, total, unit, poll
        self.on_terminal = sys.stderr.isatty()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ProgressPrinter:
        self.started = time.monotonic()
        self.bar = tqdm(total=self.total, desc=self.title, unit=self.unit, disable=not self.on_terminal)
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop.set()
        self.thread.join()
        self._update()
        with suppress(OSError, ValueError):
            self.bar.close()

    def _watch(self) -> None:
        while not self.stop.wait(POLL_EVERY_S if self.on_terminal else LINE_EVERY_S):
            self._update()

    def _update(self) -> None:
        """Poll and print. A terminal that is gone or counts that cannot be had never fail the work."""
        with suppress(Exception):
            self._show(self.poll())

    def _show(self, counts: Mapping[str, int]) -> None:
        done, elapsed = counts.get(self.unit, 0), time.monotonic() - self.started
        others = {key: value for key, value in counts.items() if key != self.unit}
        if self.on_terminal:
            self.bar.set_postfix(others, refresh=False)
            self.bar.update(done - self.bar.n)
            return
        meter = tqdm.format_meter(done, self.total, elapsed, prefix=self.title, unit=f" {self.unit}", ncols=0)
        line = ", ".join([meter, *(f"{key} {value}" for key, value in sorted(others.items()))])
        if "clips" in others:
            line += f", {others['clips'] / max(elapsed, 1e-9):.2f} clips/s"
        print(line, file=sys.stderr, flush=True)
