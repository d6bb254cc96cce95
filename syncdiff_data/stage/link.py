"""Messages of a worker process to the actor of the run, few of them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from syncdiff_data.stage.actor import LocalRun, RunClient

REPORT_EVERY_S = 0.3
MAX_WAIT_SHARE = 0.05
"""Of a block's time: for synchronous calls."""


class Link:
    """Sends beginnings and ends of items, and their counts, to the actor of the run.

    A synchronous call makes sure that a crash in the next moment is counted. It takes a millisecond or more, and one
    actor serves the whole cluster, so synchronous calls take a twentieth of a block's time at most. Between them a
    beginning is sent asynchronously every REPORT_EVERY_S; the other items send nothing, and their first crash may go
    uncounted. In a block that lost a worker every call is synchronous.
    """

    def __init__(self, run: RunClient | None = None, node: str = "here"):
        self.run, self.node = run or LocalRun(), node
        self._lost_worker = False
        self._block_began, self._waited = time.monotonic(), 0.0
        self._begun: str | None = None
        """The last item whose beginning was sent, until it ends."""
        self._begun_at = 0.0
        self._synchronous = True
        """How it was sent."""
        self._ended: str | None = None
        """An item begun asynchronously that has ended: its end is sent with the next message."""
        self._counts: dict[int, Mapping[str, int]] = {}
        self._sent_at = 0.0

    def begin_block(self, first: int) -> None:
        """The block of plans that begins with number `first`; asks whether its workers were lost before."""
        self._lost_worker = int(self.run.ask(1, "begin_block", first)) > 0
        self._block_began, self._waited = time.monotonic(), 0.0

    def begin(self, item: str) -> bool:
        """False where the item is quarantined."""
        now = time.monotonic()
        synchronous = self._lost_worker or self._waited <= MAX_WAIT_SHARE * (now - self._block_began)
        if not synchronous and now - self._begun_at <= REPORT_EVERY_S:
            return True
        message = ("begin", item, self.node, self._ended)
        self._begun, self._begun_at, self._synchronous, self._ended = item, now, synchronous, None
        if not synchronous:
            self.run.send(*message)
            return True
        may_begin = bool(self.run.ask(True, *message))
        self._waited += time.monotonic() - now
        return may_begin

    def end(self, item: str) -> None:
        """Items of a worker follow one another: of any but the last one begun nothing was sent."""
        if item != self._begun:
            return
        if self._synchronous:
            self.run.send("end", item)
        else:
            self._ended = item
        self._begun = None

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
