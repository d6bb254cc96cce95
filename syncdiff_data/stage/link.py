"""Messages of a worker process to the actor of the run, few of them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from syncdiff_data.stage.actor import LocalRun, RunClient

REPORT_EVERY_S = 0.3


class Link:
    """Items that begin and end, and progress.

    waits: a beginning item waits until the actor knows it, so that the crash in the next moment is counted. That
    costs a millisecond an item. Blocks of many small plans do without it until one of their workers was lost: then
    their first crash may go uncounted.
    """

    def __init__(self, run: RunClient | None = None, node: str = "here"):
        self.run, self.node, self.waits = run or LocalRun(), node, True
        self._ended: str | None = None
        self._counts: dict[int, Mapping[str, int]] = {}
        self._sent_at = 0.0

    def begin_block(self, first: int, size: int) -> None:
        """The block of plans that begins with number `first`; asks whether its workers were lost before."""
        self.waits = int(self.run.ask(1, "begin_block", first)) > 0 or size == 1

    def begin(self, item: str) -> bool:
        """False where the item is quarantined."""
        ended, self._ended = self._ended, None
        if self.waits:
            return bool(self.run.ask(True, "begin", item, self.node, ended))
        self.run.send("begin", item, self.node, ended)
        return True

    def end(self, item: str) -> None:
        if self.waits:
            self.run.send("end", item)
        else:
            self._ended = item  # goes with the next beginning

    def report(self, plan: int, counts: Mapping[str, int]) -> None:
        """Keep the counts of a plan, and send those of all plans since, a few times a second."""
        self._counts[plan] = dict(counts)
        if time.monotonic() - self._sent_at > REPORT_EVERY_S:
            self._send_counts()

    def flush(self) -> None:
        """Send what is kept; at the end of a block."""
        if self._ended is not None:
            self.run.send("end", self._ended)
            self._ended = None
        if self._counts:
            self._send_counts()

    def _send_counts(self) -> None:
        self.run.send("report", self._counts)
        self._counts, self._sent_at = {}, time.monotonic()
