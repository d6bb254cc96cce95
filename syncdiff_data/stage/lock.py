"""One command at a time in one output folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncdiff_data.records import UserError


@contextmanager
def exclusive(out: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the output folder for the body of a `with`; UserError when another command holds it.

    A lock of the folder itself: it leaves no file and goes with the process. Object stores, and file systems that do
    not lock folders (some network mounts), are not protected.
    """
    if "://" in str(out):
        yield
        return
    folder = Path(out).expanduser()
    handle = _open(folder)
    try:
        if handle is not None:
            _lock(handle, folder)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _open(folder: Path) -> int | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # The first write will say what is wrong with it.
        return None


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{folder} is being written by another command. Wait for it or stop it, or choose another --out."
        ) from None
    except OSError:  # EBADF, EINVAL, ENOLCK, ENOTSUP: no locks on folders here.
        return
