"""Sources: a user's files and what their data set says of them (split, speaker, transcript)."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

from syncdiff_data.records import Source, UserError
from syncdiff_data.registry import import_own, is_own, lookup, make_own
from syncdiff_data.sources.adapter import MEDIA_SUFFIXES, Adapter, Request, is_folder, media_files, stem
from syncdiff_data.sources.folder import FOLDER
from syncdiff_data.sources.layouts import GRID, HDTF, LRS2, LRS3, VOXCELEB2
from syncdiff_data.sources.talkvid import TALKVID
from syncdiff_data.tables import repeated

__all__ = ["MEDIA_SUFFIXES", "SOURCES", "Adapter", "list_sources", "source_root"]

SOURCES: dict[str, Adapter] = {
    "folder": FOLDER,
    "grid": GRID,
    "lrs2": LRS2,
    "lrs3": LRS3,
    "voxceleb2": VOXCELEB2,
    "hdtf": HDTF,
    "talkvid": TALKVID,
}


def source_root(root: Path) -> Path:
    """The folder that `Source.path` is relative to: the root, or the folder of a root that is a CSV."""
    return root.parent if root.is_file() else root


def list_sources(
    kind: str, root: Path, split: str | None = None, limit: int | None = None, lists: Path | None = None
) -> list[Source]:
    """The sources of a data set, sorted by path.

    kind: a key of SOURCES, or `module:NAME` of an Adapter. split: one split, or None for all. limit: the first so
    many of the sorted list.
    lists: the folder of a data set's list files where they do not lie in the root (LRS2).
    Nothing of the list depends on the machine, the time or the order in which a file system names its files.

    Raises UserError where the root is missing, is no such data set or holds nothing of the split, and for
    list files that name clips which are not there.
    """
    adapter = find_adapter(kind)
    request = Request(root, split, lists)
    _check_request(kind, adapter, request, limit)
    found = sorted(adapter.find(request), key=lambda source: source.path)
    if is_own(kind):
        _check_paths(kind, [source.path for source in found])
    sources = [source for source in found if split is None or source.split == split]
    if not sources:
        raise UserError(_nothing_found(kind, adapter, request, {source.split for source in found}))
    return [_with_text(adapter, root, source) for source in sources[:limit]]


def find_adapter(kind: str) -> Adapter:
    """The adapter of that name; `module:NAME` is an Adapter, or a class or function that makes one. UserError else."""
    if not is_own(kind):
        return lookup(kind, SOURCES, "source")
    found = import_own(kind, "source")
    adapter = make_own(kind, "source", found) if callable(found) else found
    if not isinstance(adapter, Adapter):
        raise UserError(f"The source {kind!r} is a {type(adapter).__name__}, and must be an Adapter.")
    return adapter


def _with_text(adapter: Adapter, root: Path, source: Source) -> Source:
    return source if adapter.text is None else replace(source, text=adapter.text(root, source))


def _check_request(kind: str, adapter: Adapter, request: Request, limit: int | None) -> None:
    root = request.root
    if not os.path.exists(root):  # noqa: PTH110  Path.exists raises for names that cannot be and closed folders
        raise UserError(
            f"The root {root} does not exist, or a folder above it is closed to you: check --root."
        )
    if root.is_file() and not (adapter is FOLDER and root.suffix.lower() == ".csv"):
        expected = "a folder, or a CSV of paths" if adapter is FOLDER else "a folder"
        raise UserError(f"The root {root} is a file, and --source {kind} expects {expected}.")
    if adapter.splits is not None and request.split not in (None, *adapter.splits):
        known = f"the splits {', '.join(adapter.splits)}" if adapter.splits else "no splits"
        raise UserError(f"--split {request.split} is unknown: --source {kind} has {known}.")
    if request.lists is not None and not adapter.takes_lists:
        raise UserError(f"--lists means nothing to --source {kind}: leave it out.")
    if request.lists is not None and not os.path.isdir(request.lists):  # noqa: PTH112  as above
        raise UserError(f"--lists {request.lists} is not a folder: name the one that holds the list files.")
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit} leaves no source: give 1 or more, or leave it out.")


def _check_paths(kind: str, paths: list[str]) -> None:
    """UserError where an adapter of the user's own names a file twice or one outside of the root."""
    outside = [path for path in paths if path.startswith("/") or ".." in path.split("/")]
    for faulty, fault in (
        (outside, "are absolute or lead out of it with .."),
        (repeated(paths), "are given twice"),
    ):
        if faulty:
            raise UserError(
                f"--source {kind} must give each file once, relative to the root; of its {len(paths)} paths "
                f"{len(faulty)} {fault}, the first being {faulty[0]}."
            )


def _nothing_found(kind: str, adapter: Adapter, request: Request, splits: set[str | None]) -> str:
    """One sentence on what was looked for and what was seen, and one of advice where another reading fits."""
    root = request.root
    if root.is_file():
        named = ", ".join(sorted(filter(None, splits))) or "none"
        if request.split is None:
            return f"The list {root} names no source: add lines below its header."
        return f"The list {root} names no source of the split {request.split}: its splits are {named}."
    wanted = f"{request.split} clips" if request.split else "clips"
    seen = f"looked for {adapter.layout}; saw {_what_is_there(root)}."
    return f"{root} holds no {kind} {wanted}: {seen}{_advice(kind, root)}"


def _what_is_there(root: Path, shown: int = 5) -> str:
    with os.scandir(root) as entries:
        names = sorted(f"{entry.name}/" if is_folder(entry) else entry.name for entry in entries)
    if not names:
        return "an empty folder"
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _advice(kind: str, root: Path, looked_at: int = 1000) -> str:
    """The adapter or the root that would fit the first media files found, if any does."""
    paths = [stem(path) for path, _ in islice(media_files(root), looked_at)]
    if not paths:
        return " There is no media file in it."
    own = find_adapter(kind).fits
    name = root.absolute().name
    if any(own.fullmatch(f"{name}/{path}") for path in paths):
        return f" Try --root {root.absolute().parent}, the folder above."
    for path in paths:
        first, _, rest = path.partition("/")
        if own.fullmatch(rest):
            return f" Try --root {root / first}, the folder below."
    for other, adapter in SOURCES.items():
        fitting = sum(adapter.fits.fullmatch(path) is not None for path in paths)
        if other not in ("folder", kind) and fitting > len(paths) / 2:
            return f" It looks like {other}: try --source {other}."
    return " Any folder of videos can be read with --source folder."
