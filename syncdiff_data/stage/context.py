"""What a stage gets beside its plan: heartbeats, progress, and items that fail by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.stage.faults import failure_of, is_transient, run_fault
from syncdiff_data.stage.heartbeat import Watchdog
from syncdiff_data.stage.link import Link
from syncdiff_data.stage.outcome import Failure
from syncdiff_data.stage.quarantine import MAX_CRASHES

RETRY_AFTER_S = (0.2, 1.0, 3.0)
"""Pauses before an item with a transient fault is tried again."""
MAX_TRANSIENT_IN_A_ROW = 10
"""So many items of one worker in a row that end with transient faults: the mount is gone, not the files."""

T = TypeVar("T")


class FaultStreak:
    """Items of this process, over all its plans, that ended with a transient fault one after the other."""

    def __init__(self) -> None:
        self.length = 0

    def add(self, failure: Failure | None, item: str, node: str) -> None:
        """Count an outcome. UserError when too many in a row are transient faults."""
        self.length = self.length + 1 if failure is not None and failure.transient else 0
        if failure is not None and self.length >= MAX_TRANSIENT_IN_A_ROW:
            what = failure.detail.splitlines()[0]
            raise UserError(
                f"the last {self.length} items on node {node} could not be read, the last one was {item} ({what}). "
                "Is its file system mounted there? The run stops here instead of rejecting everything; mend the "
                "mount and run the same command again, with --retry-failed where it has it: what is finished is kept."
            )


class Context:
    """For one plan. Without arguments: outside of Ray, in this process."""

    def __init__(
        self,
        link: Link | None = None,
        plan: int = 0,
        timeout: float = 0,
        streak: FaultStreak | None = None,
    ):
        self._link, self._plan, self._timeout = link or Link(), plan, timeout
        self._streak = streak or FaultStreak()
        self._watchdog: Watchdog | None = None

    def heartbeat(self) -> None:
        """Say that the item advances; call it at every frame or the like. Costs less than a microsecond or two."""
        if self._watchdog:
            self._watchdog.heartbeat()

    def report(self, counts: Mapping[str, int]) -> None:
        """Send the counts of this plan so far: they replace those sent before, and never fail a run."""
        self._link.report(self._plan, counts)

    def attempt(self, name: str, function: Callable[[], T]) -> T | Failure:
        """What `function` returns, processed as the item `name`, or its Failure."""
        (outcome,) = self.item(name, lambda: [function()])
        return outcome

    def item(self, name: str, produce: Callable[[], Iterable[T]]) -> Iterator[T | Failure]:
        """What `produce` yields, processed as the item `name`; a Failure comes last if it could not go on.

        A retry after a transient fault calls `produce` again and leaves out what was yielded already, so `produce` must
        yield the same each time. UserError and full disks are raised: they end the run.
        """
        if not self._link.begin(name):
            yield Failure(
                Reason.WORKER_CRASHED,
                f"crashed its worker {MAX_CRASHES} times in a row; --retry-failed tries it again",
            )
            return
        failure = None
        try:
            with Watchdog(self._timeout) as self._watchdog:
                failure = yield from self._tries(produce)
        finally:
            self._watchdog = None
            self._link.end(name)
        self._streak.add(failure, name, self._link.node)
        if failure:
            yield failure

    def _tries(self, produce: Callable[[], Iterable[T]]) -> Generator[T, None, Failure | None]:
        """Yields records; returns the Failure, or None."""
        done = 0
        for pause in (*RETRY_AFTER_S, None):
            try:
                for record in islice(produce(), done, None):
                    done += 1
                    yield record
                return None
            except Exception as error:
                fault = run_fault(error)
                if fault is not None:
                    raise fault from error
                if pause is None or not is_transient(error):
                    return failure_of(error)
            self._sleep(pause)
        return None

    def _sleep(self, seconds: float) -> None:
        """Waiting is no hanging."""
        for _ in range(10):
            self.heartbeat()
            time.sleep(seconds / 10)
        self.heartbeat()
