"""Messages of a worker process to the actor of the run, few of them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from syncdiff_data.stage.actor import LocalRun, RunClient

REPORT_EVERY_S = 0.3
MOST_WAITING = 0.05
"""Share of a block's time that may be spent on waiting for the actor."""


class Link:
    """Items that begin and end, and progress.

    An item that begins waits until the actor knows it, so that a crash in the next moment is counted. That takes a
    millisecond or more, and one actor serves the whole cluster. So items wait only as long as that takes a twentieth
    of their block's time; in between, one of REPORT_EVERY_S is told to the actor without waiting and the others are
    not: their first crash may go uncounted. In a block that lost a worker every item waits.
    """

    def __init__(self, run: RunClient | None = None, node: str = "here"):
        self.run, self.node = run or LocalRun(), node
        self._lost_worker = False
        self._block_began, self._spent = time.monotonic(), 0.0
        self._told: str | None = None
        """Item that the actor believes to be under way."""
        self._told_at = 0.0
        self._waits = True
        """Whether that item waited."""
        self._ended: str | None = None
        """An item told without waiting that has ended: goes with the next message."""
        self._counts: dict[int, Mapping[str, int]] = {}
        self._sent_at = 0.0

    def begin_block(self, first: int) -> None:
        """The block of plans that begins with number `first`; asks whether its workers were lost before."""
        self._lost_worker = int(self.run.ask(1, "begin_block", first)) > 0
        self._block_began, self._spent = time.monotonic(), 0.0

    def begin(self, item: str) -> bool:
        """False where the item is quarantined."""
        now = time.monotonic()
        waits = self._lost_worker or self._spent <= MOST_WAITING * (now - self._block_began)
        if not waits and now - self._told_at <= REPORT_EVERY_S:
            return True
        message = ("begin", item, self.node, self._ended)
        self._told, self._told_at, self._waits, self._ended = item, now, waits, None
        if not waits:
            self.run.send(*message)
            return True
        may_begin = bool(self.run.ask(True, *message))
        self._spent += time.monotonic() - now
        return may_begin

    def end(self, item: str) -> None:
        if item != self._told:
            return
        if self._waits:
            self.run.send("end", item)
        else:
            self._ended = item
        self._told = None

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
