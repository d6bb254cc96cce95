"""The scalars and pictures of a training run in TensorBoard's files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from syncdiff_data.records import UserError

EVENTS = "tensorboard"
"""Folder below the run."""
EventLog = SummaryWriter


@contextmanager
def open_event_log(run: Path, step: int) -> Iterator[EventLog]:
    """A log below `run` for the body of a `with`; what an earlier process logged of later steps than `step` is hidden.

    UserError where it cannot be written.
    """
    folder = run / EVENTS
    with _writer_threads_silent():
        try:
            log = SummaryWriter(str(folder), purge_step=step + 1)
            yield log
            log.close()
        except OSError as error:
            raise UserError(
                f"{folder} could not be written: {error.strerror or error}. Make room, and go on with --resume."
            ) from error


@contextmanager
def _writer_threads_silent() -> Iterator[None]:
    """TensorBoard writes in a thread, whose errors reach the next call here; the stack that the thread prints is left
    out."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
