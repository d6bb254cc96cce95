"""What becomes of items that fail, and of a run in which some or nearly all did."""

from __future__ import annotations

from dataclasses import dataclass

from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError


@dataclass(frozen=True)
class Failure:
    """Why an item has no result."""

    reason: Reason
    """unexpected_error, read_error, worker_crashed, or unreadable where EIO stays though the disk gives every byte."""
    detail: str
    """Exception name, text and stack, or a sentence."""
    transient: bool = False
    """True: another run may succeed, nothing is known about the file; never cache it as a property of the file."""


class UnexpectedFailures(UserError):
    """The output is complete, but some items failed with exceptions that nobody foresaw."""

    exit_status = 3


def raise_unexpected(count: int, total: int, unit: str, where: str) -> None:
    """Say at the end of a pipeline, by exit status 3, that `count` of `total` items have the reason unexpected_error.

    where: which files hold the stacks. Does nothing when count is 0.
    """
    if count:
        raise UnexpectedFailures(
            f"{count} of {total} {unit} failed with an unexpected error; all others were processed. "
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
            "left unfinished; mend the mount and run the same command again, with --retry-failed where it has it."
        )
