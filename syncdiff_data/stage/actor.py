"""The one actor of a run: progress and crash counts, pinned to the driver's node. Without it the work goes on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from syncdiff_data.progress import ProgressCounts
from syncdiff_data.stage.quarantine import CrashCounts

CALL_TIMEOUT_S = 30.0
log = logging.getLogger(__name__)


class RunActor:
    """Runs as a Ray actor. Counts by plan and crash counts by item; the loss of both costs no result."""

    def __init__(self) -> None:
        self.progress = ProgressCounts()
        self.crashes = CrashCounts(_is_lost)
        self.unfinished_setups = 0

    def report(self, plan: int, counts: Mapping[str, int]) -> None:
        self.progress.report(plan, counts)

    def total(self) -> dict[str, int]:
        return self.progress.total()

    def begin(self, item: str, node: str) -> bool:
        return self.crashes.begin(item, node)

    def end(self, item: str) -> None:
        self.crashes.end(item)

    def begin_setup(self) -> int:
        """Setups that began and did not end, this one included."""
        self.unfinished_setups += 1
        return self.unfinished_setups

    def end_setup(self) -> None:
        self.unfinished_setups = 0


def _is_lost(node: str) -> bool:
    import ray

    alive = {n["NodeID"] for n in ray.nodes() if n["Alive"]}
    return node not in alive


class RunClient:
    """The calls of RunActor as driver and workers make them: an actor that is gone answers with a default."""

    def __init__(self, actor: Any):
        self.actor = actor

    @classmethod
    def start(cls) -> RunClient:
        """A new actor on the driver's node, so that the loss of another node does not end it."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(RunActor).options(
            num_cpus=0, max_restarts=-1, max_task_retries=2, scheduling_strategy=here
        )
        return cls(actor.remote())

    def report(self, plan: int, counts: Mapping[str, int]) -> None:
        """Sent without waiting for an answer."""
        self._send("report", plan, dict(counts))

    def end(self, item: str) -> None:
        self._send("end", item)

    def end_setup(self) -> None:
        self._send("end_setup")

    def begin(self, item: str, node: str) -> bool:
        """Waits until the actor knows: the worker may be killed in the next moment."""
        return bool(self._ask(True, "begin", item, node))

    def begin_setup(self) -> int:
        return int(self._ask(1, "begin_setup"))

    def total(self) -> dict[str, int]:
        return dict(self._ask({}, "total"))

    def _send(self, method: str, *arguments: Any) -> None:
        try:
            getattr(self.actor, method).remote(*arguments)
        except Exception as error:  # whatever Ray says of a dead actor: the work does not depend on it
            log.debug("run actor: %s", error)

    def _ask(self, default: Any, method: str, *arguments: Any) -> Any:
        import ray

        try:
            return ray.get(getattr(self.actor, method).remote(*arguments), timeout=CALL_TIMEOUT_S)
        except Exception as error:
            log.debug("run actor: %s", error)
            return default


class LocalRun(RunClient):
    """The same without Ray, for a stage that runs in this process."""

    def __init__(self) -> None:
        self.local = RunActor()
        self.local.crashes = CrashCounts(lambda node: False)

    def _send(self, method: str, *arguments: Any) -> None:
        getattr(self.local, method)(*arguments)

    def _ask(self, default: Any, method: str, *arguments: Any) -> Any:
        return getattr(self.local, method)(*arguments)
