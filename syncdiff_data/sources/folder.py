"""Any folder of videos, or a CSV that lists them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from syncdiff_data.records import Source, UserError
from syncdiff_data.sources.adapter import Adapter, Request, media_files
from syncdiff_data.tables import is_file, read_csv, repeated


def _find(request: Request) -> Iterator[Source]:
    if request.root.is_file():
        return iter(read_manifest(request.root))
    if request.split is not None:
        raise UserError(
            f"--split {request.split} was given, but the plain folder {request.root} has no splits: leave it "
            "out, or list the files in a CSV with the columns path and split."
        )
    return (Source(path, size) for path, size in media_files(request.root))


def read_manifest(path: Path) -> list[Source]:
    """Sources of a CSV with the header `path[,split,speaker,text]`; further columns are not read.

    Paths are relative to the CSV's folder; empty cells are None. Any suffix will do: the user named the file.

    Raises UserError for a file that is no such CSV and for paths that are absolute, given twice or not there.
    """
    rows = _read_rows(path)
    paths = [str(PurePosixPath(row["path"].strip())) for row in rows]
    absolute = [name for name in paths if name.startswith("/") or ".." in PurePosixPath(name).parts]
    sizes = {name: _size(path.parent / name) for name in paths}
    missing = [name for name, size in sizes.items() if size is None]
    for names, fault in (
        (
            absolute,
            "are absolute or lead out of the folder with ..: write them relative to the CSV, below its folder",
        ),
        (repeated(paths), "are listed more than once: keep one line for each"),
        (missing, "are not there: correct them, relative to the CSV, or take them out"),
    ):
        if names:
            raise UserError(
                f"Of the {len(paths)} paths in {path}, {len(names)} {fault}. The first is {names[0]}."
            )
    labels = [
        {key: (row.get(key) or "").strip() or None for key in ("split", "speaker", "text")} for row in rows
    ]
    return [Source(name, sizes[name] or 0, **label) for name, label in zip(paths, labels)]


def _read_rows(path: Path) -> list[dict[str, str]]:
    rows = read_csv(path, ["path"])
    for number, row in enumerate(rows, start=1):
        if not row["path"]:
            raise UserError(f"Entry {number} of {path} has no path.")
    return rows


def _size(path: Path) -> int | None:
    return path.stat().st_size if is_file(path) else None


FOLDER = Adapter(
    find=_find,
    layout="media files in any folder, or a CSV with the header path[,split,speaker,text]",
    fits=re.compile(".*", re.DOTALL),
    splits=None,
)
