"""The one reader of CSV files that users write, and of the names in them."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from syncdiff_data.records import UserError


def read_csv(path: Path, required: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV in UTF-8 with a header line; cells without blanks around them, "" where a cell is missing.

    A byte order mark, any kind of line end, blanks after commas and empty lines are accepted, as spreadsheets write
    them. required: columns that the header needs. Raises UserError naming the file and the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV in UTF-8 ({error}).") from error
    lines = [(number, row) for number, row in lines if any(row)]
    header = lines[0][1] if lines else []
    missing = [name for name in required if name not in header]
    if missing:
        raise UserError(
            f"{path} needs a header line with the column {', '.join(missing)}, but its first line is "
            f"{','.join(header)!r}."
        )
    if twice := repeated(name for name in header if name):
        raise UserError(f"{path} has more than one column {', '.join(twice)}: keep one of each name.")
    rows = []
    for number, row in lines[1:]:
        if len(row) > len(header):
            raise UserError(
                f"Line {number} of {path} does not fit the header {','.join(header)!r}: it has {len(row)} cells, and "
                "a cell that holds commas needs quotes."
            )
        rows.append(dict(zip(header, row + [""] * (len(header) - len(row)))))
    return rows


def repeated(names: Iterable[str]) -> list[str]:
    """Those that occur more than once, each once."""
    return [name for name, count in Counter(names).items() if count > 1]


def videos_of_split(table: Path, split: str) -> list[Path]:
    """The videos of a CSV with the columns path and split; relative paths are below its folder. Raises UserError."""
    rows = read_csv(table, ("path", "split"))
    return [table.parent / row["path"] for row in rows if row["split"] == split]


def is_file(path: Path) -> bool:
    """Whether a name out of a table is a file's: none where no file can have it, such as one of 300 letters."""
    return os.path.isfile(path)  # noqa: PTH113  Path.is_file raises for such names


def at_home(where: str, text: str) -> Path:
    """The path with ~ and ~user written out. UserError where there is no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{where} {text!r} begins with the home of a user who is not there: write it out."
        ) from error


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def plain_cell(text: str) -> str:
    """A text that a spreadsheet does not take for a formula: an apostrophe is put before = + - @, tab and CR."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def formula_text(cell: str) -> str:
    """The text of a cell that `plain_cell` wrote: a name that begins with a dash, say, reads as it was."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
