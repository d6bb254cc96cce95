"""What a stage is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from syncdiff_data.records import UserError
from syncdiff_data.stage.context import Context
from syncdiff_data.stage.outcome import Failure

Plan = TypeVar("Plan")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Resources:
    """What one task of a stage takes from a node; the GPU share is the user's (`RayOptions.gpu_share`)."""

    cpus: int = 1
    """CPUs, and threads of torch, OpenCV and BLAS."""


class Stage(ABC, Generic[Plan, Result]):
    """The work of many plans; pickled once for each worker process, before `setup`. See the package's docstring."""

    title: str = "stage"
    """Name of the work in the progress line and in messages."""
    unit: str = "items"
    """The key of `context.report`'s counts that counts towards the total."""
    plans_per_block: int = 64
    """Most plans in one Ray task: 1 where a plan takes minutes, more where Ray's 10 ms per task would be felt."""
    plans_together: int = 1
    """Neighbouring plans that share work in a worker's memory: a Ray task has whole multiples of them, where that
    leaves a task for every worker."""
    heartbeat_timeout: float = 0
    """Seconds without a heartbeat after which the worker of an item is ended; 0: never."""
    resources: Resources = Resources()

    def setup(self) -> None:
        """Load models; called once in each worker process, before its first item and outside of its heartbeat.

        Raises UserError for what the user can mend; any exception ends the run.
        """

    @abstractmethod
    def process(self, plan: Plan, context: Context) -> Result:
        """The result of one plan. Idempotent: after a lost worker it is called again for the same plan."""

    def item_name(self, plan: Plan) -> str | None:
        """The name of a plan that is one item, unique in the run; None where `process` calls `context.item`."""
        return None

    def failed(self, plan: Plan, failure: Failure) -> Result:
        """The result of a plan whose item failed; needed where `item_name` gives names."""
        raise UserError(f"{self.title}: {self.item_name(plan)} failed: {failure.detail}")
