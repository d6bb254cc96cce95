"""Heartbeats: work reports that it advances; a process that has sent no heartbeat for too long is ended."""

from __future__ import annotations

import faulthandler
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
Heartbeat = Callable[[], None]
"""Called whenever the work has advanced, for example after every decoded frame."""


def no_heartbeat() -> None:
    """The heartbeat of work without a watchdog."""


def with_heartbeat(items: Iterable[Item], heartbeat: Heartbeat) -> Iterator[Item]:
    """The items as they come, a heartbeat before each."""
    for item in items:
        heartbeat()
        yield item


class Watchdog:
    """Ends this process when the body of a `with` sends no heartbeat for `seconds` (0: never).

    A decoder that hangs inside C code cannot be interrupted from Python; a process can be ended, and then counts as
    any other crash. The stack goes to the worker's standard error.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.started = -math.inf

    def heartbeat(self) -> None:
        """Restart the clock, unless it was restarted a moment ago: each restart starts a thread."""
        now = time.monotonic()
        if self.seconds and now - self.started > self.seconds / 100:
            self.started = now
            faulthandler.dump_traceback_later(self.seconds, exit=True)

    def __enter__(self) -> Watchdog:
        self.heartbeat()
        return self

    def __exit__(self, *_: Any) -> None:
        faulthandler.cancel_dump_traceback_later()
