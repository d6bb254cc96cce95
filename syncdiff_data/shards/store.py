"""A data set's folder, local or on an object store, behind a handful of calls.

Files are written under a temporary name and then renamed; an object store copies the finished object within itself.
A reader sees the old bytes or the new ones, never half of them.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import fs

from syncdiff_data.records import UserError
from syncdiff_data.tables import at_home

LEFTOVER = re.compile(
    r"^probe-[0-9a-f]{16}(-[0-9a-f]+)?\.tmp$"
    r"|\.(parquet|json|csv|md|tex|html|npz|png|pt|yaml|txt)\.[^.]\S*-\d+\.tmp$"
)
"""Names of probe files, and of what `write_atomically` had not finished: the file's name, the node and the process."""
_NO_FOLDER_ERRNO = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EACCES}
"""Of paths that can be no folder, or none for this user; what a disk or mount does for a while is found elsewhere."""


class Store:
    """Files below one folder or `s3://bucket/prefix` URI, named by paths relative to it."""

    def __init__(self, uri: str | os.PathLike[str]):
        self.uri = str(uri)
        if "://" in self.uri:
            try:
                self.filesystem, self.base = fs.FileSystem.from_uri(self.uri)
            except (ValueError, OSError, pa.ArrowException) as error:
                raise UserError(
                    f"{self.uri} cannot be used ({error}): give a folder or an s3:// URI."
                ) from error
        else:
            self.filesystem, self.base = fs.LocalFileSystem(), _local_folder(self.uri)
        self.is_local = isinstance(self.filesystem, fs.LocalFileSystem)

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    def path(self, name: str) -> str:
        """The path of `name` as this store's filesystem understands it."""
        return f"{self.base.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        return self.filesystem.get_file_info(self.path(name)).type == fs.FileType.File

    def list(self, folder: str = "") -> list[str]:
        """Sorted names of the files directly below `folder`, relative to the store."""
        selector = fs.FileSelector(self.path(folder).rstrip("/"), allow_not_found=True)
        files = [info for info in self.filesystem.get_file_info(selector) if info.type == fs.FileType.File]
        prefix = f"{folder}/" if folder else ""
        return sorted(prefix + info.base_name for info in files)

    def open(self, name: str) -> Any:
        """A seekable pyarrow file for reading."""
        return self.filesystem.open_input_file(self.path(name))

    def read_text(self, name: str) -> str:
        with self.open(name) as file:
            return file.read().decode()

    def write(self, name: str, fill: Callable[[IO[bytes]], None]) -> None:
        """Let `fill` write a file and put it in place when it is whole; on any error nothing changes."""
        if self.is_local:
            write_atomically(Path(self.path(name)), fill)
            return
        temporary = f"{self.path(name)}.{platform.node()}-{os.getpid()}.tmp"
        try:
            with tempfile.TemporaryFile() as file:
                fill(file)
                file.seek(0)
                # Closing the stream completes the upload even when the copy was interrupted, so its key is temporary.
                with self.filesystem.open_output_stream(temporary) as out:
                    shutil.copyfileobj(file, out, 1 << 20)
            self.filesystem.move(temporary, self.path(name))
        except OSError as error:
            self._discard(temporary)
            raise _not_written(f"{self.uri}/{name}", error) from error
        except BaseException:
            self._discard(temporary)
            raise

    def _discard(self, path: str) -> None:
        with suppress(OSError):  # it may never have come into being
            self.filesystem.delete_file(path)

    def write_text(self, name: str, text: str) -> None:
        self.write(name, lambda file: _write(file, text.encode()))

    def delete(self, name: str) -> None:
        self.filesystem.delete_file(self.path(name))

    def sweep(self, folder: str) -> None:
        """Remove what killed writers left in `folder`. Only for a moment when nobody writes there."""
        for name in self.list(folder):
            if LEFTOVER.search(name.rpartition("/")[2]):
                self.delete(name)


def _local_folder(given: str) -> str:
    """The absolute path of a folder, which need not be there. UserError for what can be none."""
    folder = os.path.realpath(at_home("folder", given))
    problem = None
    try:
        if not stat.S_ISDIR(Path(folder).stat().st_mode):
            problem = "a file, not a folder"
        elif not os.access(folder, os.R_OK | os.X_OK):
            problem = os.strerror(errno.EACCES)
    except OSError as error:
        problem = error.strerror if error.errno in _NO_FOLDER_ERRNO else None
    if problem:
        raise UserError(f"{given} cannot be used ({problem}): give a folder or an s3:// URI.")
    return folder


def write_atomically(path: Path, fill: Callable[[IO[bytes]], None]) -> None:
    """Let `fill` write `path`: temporary name beside it, fsync, rename. On any error the old file stays.

    Raises UserError when the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _not_written(str(path), error) from error
    finally:
        with suppress(OSError):  # for example below a file, where nothing was written
            temporary.unlink(missing_ok=True)


def sweep_leftovers(folder: Path) -> None:
    """Remove what killed commands left of `write_atomically` and of probe files. Only for a moment when nobody writes
    there; other files that end in .tmp stay."""
    for path in folder.glob("*.tmp"):
        if LEFTOVER.search(path.name):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """The same for text, as UTF-8."""
    write_atomically(path, lambda file: _write(file, text.encode()))


def _not_written(where: str, error: OSError) -> UserError:
    return UserError(
        f"{where} could not be written: {error.strerror or error}. What was there before is untouched; "
        "make room or choose another place, and run the same command again."
    )


def _write(file: IO[bytes], data: bytes) -> None:
    file.write(data)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some mounts do not sync folders; the file itself is synced.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
