"""Crash quarantine: an item whose worker crashes three times in a row is not tried again in this run.

A worker says before an item that it begins, and afterwards that it ended. An item that begins again without having
ended lost its worker in between. The counts are kept by an actor on the driver's node, so a finished item has none,
nothing is written into the output, and a run that was stopped proves nothing about an item.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

MAX_CRASHES = 3
MAX_LOST_NODES = 10
"""An item whose nodes are lost so many times may be the cause."""


class CrashCounts:
    """Which items are being processed where, and how often their workers crashed. is_lost(node) tells whether Ray
    says that a node is gone: its workers were lost with it, and their items did not crash."""

    def __init__(self, is_lost: Callable[[str], bool]):
        self.is_lost = is_lost
        self.node: dict[str, str] = {}
        """Item -> node of the worker that began it and has not ended it."""
        self.crashes: Counter[str] = Counter()
        self.lost_nodes: Counter[str] = Counter()

    def state(self) -> tuple[dict[str, str], Counter[str], Counter[str]]:
        """What `restore` takes: few entries, since a finished item has none."""
        return self.node, self.crashes, self.lost_nodes

    def restore(self, state: tuple[dict[str, str], Counter[str], Counter[str]]) -> None:
        self.node, self.crashes, self.lost_nodes = state

    def begin(self, item: str, node: str) -> bool:
        """Note that a worker on `node` begins an item. False: it is quarantined and must not be begun."""
        before = self.node.pop(item, None)
        if before is not None:
            (self.lost_nodes if self.is_lost(before) else self.crashes)[item] += 1
        if self.crashes[item] >= MAX_CRASHES or self.lost_nodes[item] >= MAX_LOST_NODES:
            return False
        self.node[item] = node
        return True

    def end(self, item: str) -> None:
        """The item is finished, or failed with an exception, which is no crash."""
        self.node.pop(item, None)
        self.crashes.pop(item, None)
        self.lost_nodes.pop(item, None)
