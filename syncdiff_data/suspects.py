"""The poison-source rule: a source that takes its worker down three times running is set aside.

A worker writes down which source it has in hand before it starts on it. When the worker dies, the note is what the
next one finds: the source in hand gets a strike. A source that is finished loses its strikes, so a worker killed for
any other reason leaves no trace. The note lies beside the shard and goes when the shard is committed, or when a run
starts: who stops a run three times at the same source has not proved it poisonous.
"""

from __future__ import annotations

import faulthandler
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from syncdiff_data.shards.store import Store

MAX_STRIKES = 3


class Suspects:
    """The note of one shard: how often each source was in hand when the worker died."""

    def __init__(self, store: Store, shard_name: str):
        self.store, self.name = store, shard_name + ".in-hand.tmp"
        self.strikes: dict[str, int] = (
            json.loads(store.read_text(self.name)) if store.exists(self.name) else {}
        )

    def is_poison(self, source: str) -> bool:
        return self.strikes.get(source, 0) >= MAX_STRIKES

    @contextmanager
    def in_hand(self, source: str) -> Iterator[None]:
        """Note that `source` is being worked on, for as long as the body runs.

        An exception is no crash: it clears the note, which works on a full disk too.
        """
        self.strikes[source] = self.strikes.get(source, 0) + 1
        self.store.write_text(self.name, json.dumps(self.strikes))
        try:
            yield
        except BaseException:
            self.clear()
            raise
        del self.strikes[source]

    def clear(self) -> None:
        """Forget everything: the shard is committed."""
        if self.store.exists(self.name):
            self.store.delete(self.name)


class Watchdog:
    """Ends this process when the body of a `with` shows no sign of life for `seconds` (0: never).

    A decoder that hangs inside C code cannot be interrupted from Python; a process can be ended, and then counts as
    any other crash. The stack goes to the worker's standard error.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.started = -math.inf

    def alive(self) -> None:
        """Call at every sign of life; restarts the clock, unless that was done a moment ago: it starts a thread."""
        now = time.monotonic()
        if self.seconds and now - self.started > self.seconds / 100:
            self.started = now
            faulthandler.dump_traceback_later(self.seconds, exit=True)

    def __enter__(self) -> Watchdog:
        self.alive()
        return self

    def __exit__(self, *_: Any) -> None:
        faulthandler.cancel_dump_traceback_later()
