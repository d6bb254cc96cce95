"""Crash quarantine: a source whose worker crashes three times in a row is not tried again in this run.

A worker writes a source's crash count, raised by one, beside the shard before it starts on that source, and removes
it when the source is finished. When the worker dies in between, the raised count is what the next worker finds. A
finished source has no count, so a worker killed for any other reason leaves none. The file goes when the shard is
committed, or when a run starts: a run that was stopped three times at one source proves nothing about the source.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from syncdiff_data.shards.store import Store

MAX_CRASHES = 3


class CrashQuarantine:
    """The crash counts of one shard's sources, in a file beside the shard."""

    def __init__(self, store: Store, shard_name: str):
        self.store, self.name = store, shard_name + ".crash-count.tmp"
        self.crash_count: dict[str, int] = (
            json.loads(store.read_text(self.name)) if store.exists(self.name) else {}
        )
        """Source -> workers that died while they processed it."""

    def is_quarantined(self, source: str) -> bool:
        return self.crash_count.get(source, 0) >= MAX_CRASHES

    @contextmanager
    def processing(self, source: str) -> Iterator[None]:
        """Count a crash of `source` in advance, and take it back when the body ends.

        An exception is no crash: it removes the file, which works on a full disk too.
        """
        self.crash_count[source] = self.crash_count.get(source, 0) + 1
        self.store.write_text(self.name, json.dumps(self.crash_count))
        try:
            yield
        except BaseException:
            self.clear()
            raise
        del self.crash_count[source]

    def clear(self) -> None:
        """Remove the file: the shard is committed."""
        if self.store.exists(self.name):
            self.store.delete(self.name)
