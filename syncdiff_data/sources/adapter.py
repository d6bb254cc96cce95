"""What an adapter is, and the walk below a root that every adapter builds on."""

from __future__ import annotations

import codecs
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from syncdiff_data.records import Source, UserError
from syncdiff_data.tables import is_file

MEDIA_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m4v"}
    | {".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm"}
    | {".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"}
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    lists: the folder of a data set's list files, where they do not lie in the root.
    """

    root: Path
    split: str | None = None
    lists: Path | None = None


@dataclass(frozen=True)
class Adapter:
    """How one kind of data set is laid out.

    find: the sources, in any order and without texts; those of other splits may be among them.
    layout: the paths it looks for, in words a user can compare with the folder.
    fits: matches such a path, relative to the root and without its suffix.
    splits: the names `--split` may take; empty where the data set has none, None where its list says.
    text: (root, source) to the source's transcript; called only for the sources that are asked for.
    takes_lists: whether `Request.lists` means anything.
    """

    find: Callable[[Request], Iterator[Source]]
    layout: str
    fits: re.Pattern[str]
    splits: tuple[str, ...] | None = ()
    text: Callable[[Path, Source], str | None] | None = None
    takes_lists: bool = False


def media_files(
    root: Path, under: str = "", suffixes: frozenset[str] = MEDIA_SUFFIXES
) -> Iterator[tuple[str, int]]:
    """Every file with one of the suffixes below root/under: (path relative to root, size in bytes).

    Hidden names are left out, as are unfinished downloads (`*.tmp`, by their suffix). Links are followed, but
    no folder is entered twice, and a folder's own name wins over a link to it. A link that leads nowhere has
    0 bytes here, so that it ends as an unreadable source and not as nothing. One stat per file.

    Raises UserError for a folder that cannot be listed and for a name that is not UTF-8.
    """
    entered: set[tuple[int, int]] = set()
    folders, links = [under], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        entries, identity = _list_folder(root / folder)
        if identity in entered:
            continue
        entered.add(identity)
        # Both are stacks: reversed order makes the walk, and so the choice among links, alphabetical.
        for entry in reversed(entries):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if is_folder(entry):
                (links if entry.is_symlink() else folders).append(path)
        for entry in entries:
            if _suffix(entry.name).lower() in suffixes and not is_folder(entry):
                path = f"{folder}/{entry.name}" if folder else entry.name
                yield _utf8(root, path), _size(entry)


def fitting_files(
    root: Path, fits: re.Pattern[str], under: str = ""
) -> Iterator[tuple[str, int, re.Match[str]]]:
    """The media files below root/under whose path, without its suffix, fits; the log counts the others.

    A folder that is not there holds none.
    """
    fitting, strays = 0, list[str]()
    for path, size in media_files(root, under) if (root / under).is_dir() else ():
        if match := fits.fullmatch(stem(path)):
            fitting += 1
            yield path, size, match
        else:
            strays.append(path)
    if fitting and strays:
        log.warning(
            "%d media files below %s lie outside the layout, the first being %r", len(strays), root, strays[0]
        )


def read_text(path: Path, most: int = -1) -> str | None:
    """The first `most` bytes of a text file (-1: all): UTF-8, or UTF-16 with a byte order mark; other bytes become
    U+FFFD.

    None where there is no such file; a folder or a pipe is none. Raises UserError for one that may not be read.
    """
    if not is_file(path):
        return None
    try:
        with path.open("rb") as file:
            data = file.read(most)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check it and its rights.") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def _list_folder(folder: Path) -> tuple[list[os.DirEntry[str]], tuple[int, int]]:
    try:
        stat = folder.stat()
        with os.scandir(folder) as entries:
            visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be listed ({error.strerror}): check it and its rights."
        ) from error
    return visible, (stat.st_dev, stat.st_ino)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link that leads nowhere, or round in a circle
        return 0


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link round in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _utf8(root: Path, path: str) -> str:
    """A path that Parquet and JSON can hold."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"The file name {path!r} below {root} is not UTF-8: rename the file.") from error
    return path


def stem(path: str) -> str:
    """A relative path without its suffix: 's1/bbaf2n.mpg' to 's1/bbaf2n'."""
    return path.removesuffix(_suffix(path))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1]  # noqa: PTH122  Path(path).suffix takes most of the time of a walk
