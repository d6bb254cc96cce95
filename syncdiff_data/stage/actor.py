"""The one actor of a run: progress and crash counts, pinned to the driver's node. Without it the work goes on.

Where a node's memory is full, Ray ends the task that fills it and this actor in one go. So the crash counts lie in
Ray's GCS too, where the actor's next process finds them: else an item that takes all memory would never be given up.
"""

from __future__ import annotations

import functools
import logging
import pickle
import secrets
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from syncdiff_data.progress import ProgressCounts
from syncdiff_data.stage.quarantine import CrashCounts

CALL_TIMEOUT_S = 30.0
NAMESPACE = b"syncdiff"
"""Of the keys in the GCS."""
log = logging.getLogger(__name__)


class RunActor:
    """Runs as a Ray actor. Counts by plan and crash counts by item; the loss of the former costs no result.

    key: in the GCS, of the crash counts; without one they end with this object.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self.progress = ProgressCounts()
        self.crashes = CrashCounts(_is_lost)
        self.begun_blocks: Counter[int] = Counter()
        self.unfinished_setups = 0
        self._key, self._state, self._changed = key, b"", threading.Event()
        self._is_restarted = key is not None and self._restore(key)
        self._store()  # in the first process too: by it the next one knows that it is a restart
        if key is not None:
            threading.Thread(target=self._write_changes, args=(key,), daemon=True).start()

    def report(self, counts: Mapping[int, Mapping[str, int]]) -> None:
        """counts: of some plans so far."""
        for plan, of_plan in counts.items():
            self.progress.report(plan, of_plan)

    def total(self) -> dict[str, int]:
        return self.progress.total()

    def begin(self, item: str, node: str, ended: str | None) -> bool:
        if ended is not None:
            self.crashes.end(ended)
        may_begin = self.crashes.begin(item, node)
        self._store()
        return may_begin

    def end(self, item: str) -> None:
        self.crashes.end(item)

    def begin_block(self, first: int) -> int:
        """How often the block was begun before, by workers that were lost: once or more where that is not known."""
        self.begun_blocks[first] += 1
        return self.begun_blocks[first] - 1 + self._is_restarted

    def begin_setup(self) -> int:
        """Setups in a row that began and did not end, this one included."""
        self.unfinished_setups += 1
        self._store()
        return self.unfinished_setups

    def end_setup(self) -> None:
        self.unfinished_setups = 0
        self._store()

    def _restore(self, key: bytes) -> bool:
        """Take over the counts of this actor's process before; False in the first."""
        from ray.experimental.internal_kv import _internal_kv_get

        stored = _internal_kv_get(key, namespace=NAMESPACE)
        if stored is not None:
            self.unfinished_setups, counts = pickle.loads(stored)
            self.crashes.restore(counts)
        return stored is not None

    def _store(self) -> None:
        """Have the counts written. Calls do not wait for it: they would take twice as long."""
        if self._key is not None:
            self._state = pickle.dumps((self.unfinished_setups, self.crashes.state()))
            self._changed.set()

    def _write_changes(self, key: bytes) -> None:
        from ray.experimental.internal_kv import _internal_kv_put

        while self._changed.wait():
            self._changed.clear()
            _internal_kv_put(key, self._state, namespace=NAMESPACE)


def _is_lost(node: str) -> bool:
    import ray

    return node not in {n["NodeID"] for n in ray.nodes() if n["Alive"]}


@functools.cache
def _remote_class() -> Any:
    """RunActor for Ray, made once: each `ray.remote` is another class, which driver, workers and GCS keep for ever."""
    import ray

    return ray.remote(RunActor)


class RunClient:
    """The calls of RunActor as driver and workers make them: an actor that is gone answers with a default."""

    def __init__(self, actor: Any, key: bytes | None = None):
        self.actor, self.key = actor, key

    @classmethod
    def start(cls) -> RunClient:
        """A new actor on the driver's node, so that the loss of another node does not end it."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": 2}
        key = secrets.token_bytes(8)
        return cls(_remote_class().options(**options, scheduling_strategy=here).remote(key), key)

    def stop(self) -> None:
        """End the actor's process: Ray Data keeps what it mapped, and with it handles, while the session lasts."""
        import ray
        from ray.experimental.internal_kv import _internal_kv_del

        ray.kill(self.actor)
        if self.key is not None:
            _internal_kv_del(self.key, namespace=NAMESPACE)

    def send(self, method: str, *arguments: Any) -> None:
        """Call without waiting for an answer."""
        try:
            getattr(self.actor, method).options(num_returns=0).remote(*arguments)
        except Exception as error:  # whatever Ray says of a dead actor: the work does not depend on it
            log.debug("run actor: %s", error)

    def ask(self, default: Any, method: str, *arguments: Any) -> Any:
        """The answer, or `default` where the actor gives none."""
        import ray

        try:
            return ray.get(getattr(self.actor, method).remote(*arguments), timeout=CALL_TIMEOUT_S)
        except Exception as error:
            log.debug("run actor: %s", error)
            return default

    def total(self) -> dict[str, int]:
        return dict(self.ask({}, "total"))


class LocalRun(RunClient):
    """The same without Ray, for a stage that runs in this process."""

    def __init__(self) -> None:
        super().__init__(RunActor())
        self.actor.crashes.is_lost = lambda node: False

    def stop(self) -> None:
        """There is no process to end."""

    def send(self, method: str, *arguments: Any) -> None:
        getattr(self.actor, method)(*arguments)

    def ask(self, default: Any, method: str, *arguments: Any) -> Any:
        return getattr(self.actor, method)(*arguments)
