"""A list of pairs to dub: reading it, checking its outputs, and the report of what became of each pair."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from syncdiff_data.documents import parse_json
from syncdiff_data.records import UserError
from syncdiff_data.tables import at_home, is_file, plain_cell, read_csv
from syncdiff_model.checkpoint import write_text
from syncdiff_model.dubbing import DubConfig, DubFailure, DubPair

COLUMNS = ("video", "audio", "output")
REPORT = "dubs.csv"
RECIPE = "dubs.json"
FACES = ".faces"
"""Folder of the videos' faces, for a list in which a video has many sounds."""
LONGEST_NAME = 255
"""Bytes of a file name, on every common file system."""
LONGEST_PATH = 4000
"""Characters of a path."""
ENDS_BYTES = 64 * 1024

Row = dict[str, str]


def read_pairs(table: Path, out: Path) -> list[DubPair]:
    """Pairs from a CSV with the columns video, audio, output. Relative videos and sounds are sought beside the CSV,
    outputs go below `out`. UserError for a table that cannot be read or names an output twice or outside `out`."""
    rows = read_csv(table, COLUMNS)
    if not rows or any(not row[column] for row in rows for column in COLUMNS):
        raise UserError(f"{table}: expected a value in each of the columns {','.join(COLUMNS)} in every row.")
    check_outputs(table, [row["output"] for row in rows], out)
    beside = table.absolute().parent
    return [
        DubPair(
            beside / at_home(f"{table}: video", row["video"]),
            beside / at_home(f"{table}: audio", row["audio"]),
            out / row["output"],
        )
        for row in rows
    ]


def check_outputs(table: Path, names: Sequence[str], out: Path) -> None:
    """UserError, before any work, for outputs that lie outside `out`, are no mp4, or stand in each other's way.

    Two names clash where a file system that ignores case or Unicode form takes them for one, where one is a folder of
    the other, and with the reports.
    """
    taken = {_folded(Path(name)): name for name in (REPORT, RECIPE)}
    for name in names:
        path = Path(os.path.normpath(name))
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{table}: output {name} lies outside {out}: write it relative to --out.")
        if path.suffix.lower() != ".mp4":
            raise UserError(f"{table}: output {name} must end in .mp4, the one container that is written.")
        if "\0" in name or len(name) > LONGEST_PATH:
            raise UserError(f"{table}: output {name[:80]!r} can be no file's name.")
        if any(len(part.encode()) > LONGEST_NAME for part in path.parts):
            raise UserError(
                f"{table}: a name in output {name} is longer than {LONGEST_NAME} bytes: shorten it."
            )
        key = _folded(path)
        if key in taken:
            raise UserError(
                f"{table}: output {name} is named twice or clashes with {taken[key]}; name each file once."
            )
        taken[key] = name
    for key, name in taken.items():
        for parent in Path(key).parents:
            if str(parent) in taken:
                raise UserError(
                    f"{table}: output {taken[str(parent)]} is a file and the folder of {name}: rename one."
                )


def _folded(path: Path) -> str:
    return unicodedata.normalize("NFC", path.as_posix()).casefold()


def check_inputs_stay(pairs: Sequence[DubPair], removed: Sequence[Path] = ()) -> None:
    """UserError, before any work, where a video or a sound is an output too, or among the files to be removed."""
    replaced = {_file_key(path) for path in (*(pair.output for pair in pairs), *removed)}
    for path in (path for pair in pairs for path in (pair.video, pair.audio)):
        if _file_key(path) in replaced:
            raise UserError(
                f"{path} is read, and a dub would take its place: name another output, or another --out."
            )


def _file_key(path: Path) -> tuple[int, int] | str:
    """Equal for two names of one file; `x/../a.mp4` is a name of a.mp4 before there is an x."""
    plain = Path(os.path.normpath(path))
    for name in (path, plain):
        with suppress(OSError, ValueError):  # no such file, or no name of one
            found = name.stat()
            return found.st_dev, found.st_ino
    return str(plain)


def dub_recipe(config: DubConfig, pairs: Sequence[DubPair], out: Path, model: str) -> dict[str, Any]:
    """What decides the bytes of a folder of dubs; paths by their names, since folders move.

    model: the model's fingerprint.
    """
    contents = {path: content_hash(path) for pair in pairs for path in (pair.video, pair.audio)}
    return {
        "model": model,
        "config": {name: value for name, value in asdict(config).items() if name != "face_cache"},
        "pairs": [[p.video.name, p.audio.name, p.output.relative_to(out).as_posix()] for p in pairs],
        "contents": [[contents[p.video], contents[p.audio]] for p in pairs],
    }


def content_hash(path: Path) -> str | None:
    """16 hex digits of the size and ENDS_BYTES of either end, so that a long list is checked at once. None for a file
    that cannot be read, and for what is no file: opening a named pipe would wait for ever."""
    if not is_file(path):
        return None
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest = hashlib.sha256(str(size).encode())
            for start in (0, max(0, size - ENDS_BYTES)):
                file.seek(start)
                digest.update(file.read(ENDS_BYTES))
    except OSError:
        return None
    return digest.hexdigest()[:16]


def stale_dubs(out: Path, recipe: dict[str, Any], overwrite: bool) -> list[Path]:
    """Files of another recipe's dubs in `out`, to be removed, or of dubs whose video or sound has changed since; none
    for this recipe's, or an empty folder.

    UserError when they may not be overwritten, when `out` holds other things, and when its RECIPE is damaged.
    """
    path = out / RECIPE
    if (out / REPORT).is_dir():
        raise UserError(f"{out / REPORT} is a folder: rename it, or choose another --out.")
    if not path.is_file():
        if out.is_dir() and any(not name.name.endswith((".tmp", FACES)) for name in out.iterdir()):
            raise UserError(f"{out} is not empty and holds no dubs: choose another --out.")
        return []
    try:
        found = parse_json(path.read_bytes())
        outputs = [str(output) for _, _, output in found["pairs"]]
        check_outputs(path, outputs, out)  # they may be removed
        contents = found.pop("contents", [[None, None] for _ in outputs])  # earlier versions wrote none
        contents = [(video, sound) for video, sound in contents]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is damaged ({error}): choose another --out, or delete this file and the dubs."
        ) from error
    dubs = [out / output for output in outputs]
    now = json.loads(json.dumps(recipe))
    contents_now = now.pop("contents", [])
    if found != now:
        if not overwrite:
            raise UserError(
                f"{out} holds dubs of another model, other settings or other pairs: choose another --out, or "
                "--overwrite them."
            )
        # A folder of the user's in the place of one stays, and what should be written there fails.
        return [path for path in (*dubs, out / REPORT) if not path.is_dir()]
    pairs = zip(dubs, contents, contents_now)
    changed = [dub for dub, before, after in pairs if dub.is_file() and _differ(before, after)]
    if changed and not overwrite:
        raise UserError(
            f"the video or the sound of {changed[0]} has changed since ({len(changed)} such dubs): --overwrite "
            "makes these anew, or choose another --out."
        )
    return changed


def _differ(before: Sequence[str | None], after: Sequence[str | None]) -> bool:
    """Whether the hash of the video or of the sound is another one; None, where it was not read, is no other."""
    return any(None not in pair and pair[0] != pair[1] for pair in zip(before, after))


def start_dubs(out: Path, recipe: dict[str, Any], stale: Sequence[Path]) -> None:
    """Remove stale dubs and write the RECIPE of the new ones."""
    for path in stale:
        path.unlink(missing_ok=True)
    write_text(out / RECIPE, json.dumps(recipe, indent=2, sort_keys=True) + "\n")


def report_row(pair: DubPair, out: Path, failure: DubFailure | None) -> Row:
    """One line of REPORT."""
    return {
        "video": plain_cell(pair.video.name),
        "audio": plain_cell(pair.audio.name),
        "output": plain_cell(pair.output.relative_to(out).as_posix()),
        "status": "failed" if failure else "ok",
        "reason": failure.reason if failure else "",
        "detail": plain_cell(failure.detail) if failure else "",
    }


def write_report(path: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
