"""Kinds of exceptions: faults of the run, transient faults of a disk or mount, and all others."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator

from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError, UserError
from syncdiff_data.stage.outcome import Failure

RUN_ERRNO = {errno.ENOSPC, errno.EDQUOT}
"""The disk of the output or of temporary files is full: every further item would fail."""
PASSING_ERRNO = {
    errno.EIO,
    errno.ESTALE,
    errno.ENOENT,  # The file was there when the sources were listed: its mount may be gone.
    errno.ENXIO,
    errno.ENODEV,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ENETUNREACH,
    errno.ENOLINK,
    errno.EREMOTEIO,
    errno.ESHUTDOWN,
}
"""What a disk, a network mount or a crowded node does for a while."""
MAX_STACK_CHARS = 8000


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, then those that it was raised from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def first_line(error: BaseException) -> str:
    """The first line of what an exception says; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def is_transient(error: BaseException) -> bool:
    """True when a disk, mount or crowded node raised the exception or one that it was raised from."""
    return any(isinstance(e, OSError) and e.errno in PASSING_ERRNO for e in chain(error))


def run_fault(error: BaseException) -> UserError | None:
    """The sentence of an exception that must end the run, None for all others."""
    for cause in chain(error):
        if isinstance(cause, UserError):
            return cause
        if isinstance(cause, OSError) and cause.errno in RUN_ERRNO:
            where = f" ({cause.filename})" if cause.filename else ""
            return UserError(
                f"{cause.strerror}{where}: make room, also in the folder of temporary files, and run the same "
                "command again. What is finished is kept."
            )
    return None


def failure_of(error: BaseException) -> Failure:
    """What becomes of an item that raised `error`, with the stack in its detail unless it is a MediaError."""
    # The last two names of a path are enough to find the line, and the same on every machine.
    stack = re.sub(
        r'File "[^"\n]*?([^/"\n]+/[^/"\n]+)"', r'File "\1"', "".join(traceback.format_exception(error))
    )
    if len(stack) > MAX_STACK_CHARS:
        stack = f"{stack[: MAX_STACK_CHARS // 2]}\n...\n{stack[-MAX_STACK_CHARS // 2 :]}"
    # Names of files need not be UTF-8, stored text must be.
    # A MediaError says in its own words what is wrong with the file.
    text = (
        str(error) if isinstance(error, MediaError) else f"{type(error).__name__}: {_text_of(error)}\n{stack}"
    )
    detail = text.encode("utf-8", "backslashreplace").decode()
    if not is_transient(error):
        return Failure(Reason.UNEXPECTED_ERROR, detail)
    if any(isinstance(e, MediaError) and e.bytes_can_be_read for e in chain(error)):
        return Failure(Reason.UNREADABLE, detail)
    return Failure(Reason.READ_ERROR, detail, transient=True)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception of a library may fail at its own text
        return "(no text)"
