"""What a stage is, and what becomes of an item that fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError

if TYPE_CHECKING:
    from syncdiff_data.stage.context import Context

Plan = TypeVar("Plan")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Resources:
    """What one task of a stage takes from a node; the GPU share is the user's (`RayOptions.gpu_share`)."""

    cpus: int = 1
    """CPUs, and threads of torch, OpenCV and BLAS."""


@dataclass(frozen=True)
class Failure:
    """Why an item has no result."""

    reason: Reason
    """unexpected_error, read_error or worker_crashed."""
    detail: str
    """Exception name, text and stack, or a sentence."""
    passing: bool = False
    """True: another run may succeed, nothing is known about the file; never cache it as a property of the file."""


class Stage(ABC, Generic[Plan, Result]):
    """The work of many plans; pickled once for each worker process, before `setup`. See the package's docstring."""

    title: str = "stage"
    """Name of the work in the progress line and in messages."""
    unit: str = "items"
    """The key of `context.report`'s counts that counts towards the total."""
    plans_per_block: int = 64
    """Most plans in one Ray task: 1 where a plan takes minutes, more where Ray's 10 ms per task would be felt."""
    heartbeat_timeout: float = 0
    """Seconds without a heartbeat after which the worker of an item is ended; 0: never."""
    resources: Resources = Resources()

    def setup(self) -> None:  # noqa: B027: most stages load nothing
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


class UnexpectedFailures(UserError):
    """The output is complete, but some items failed with exceptions that nobody foresaw."""

    exit_status = 3


def raise_unexpected(count: int, total: int, unit: str, where: str) -> None:
    """Say at the end of a pipeline, by exit status 3, that `count` of `total` items have the reason unexpected_error.

    where: which files hold the stacks. Does nothing when count is 0.
    """
    if count:
        raise UnexpectedFailures(
            f"{count} of {total} {unit} failed with an unexpected error; everything else is finished. "
            f"The stacks are in {where} under the reason {Reason.UNEXPECTED_ERROR}: please report them."
        )


MOSTLY = 0.9


def refuse_if_unread(count: int, total: int, unit: str, where: str) -> None:
    """End the run when nearly all of `total` items have the reason read_error: the mount is at fault, not the files.

    For runs that are too short for the engine to notice on the way. where: what should be mounted.
    """
    if count and count >= MOSTLY * total:
        raise UserError(
            f"{count} of {total} {unit} could not be read from {where}: is it mounted on every node? The output is "
            "left unfinished; mend the mount and run the same command again with --retry-failed."
        )
