"""How texts are damaged, for fuzz.py: CSV, YAML, JSON. Damages are as those of damages.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from damages import ANY_BYTES, Damage

MARKS = (
    '"',
    "'",
    ",",
    ";",
    "\n",
    "\r",
    "\r\n",
    "\t",
    "\x00",
    "\ufeff",
    "{",
    "[",
    "]",
    "}",
    ":",
    "&a ",
    "*a",
    "!!",
    "- ",
    "|",
    "<",
    "=",
    "..",
    "/",
    "\\",
)
CELLS = (
    "", " ", "../../x.mp4", "/etc/passwd", "=1+1", "@a", "null", "NaN", "-inf", "1e999", "9" * 400, "x" * 300,
    "a\nb", '"', "\x00", "\u202ea", "<b>", "\\input{x}", "http://localhost/a.mp4", "file:///etc/passwd",
    "concat:a.mp4|b.mp4", "\ud7ff", "é", "e\u0301", "true", "2001-99-99", "0x_", "~",
    "!!python/object/apply:os.system [id]", "&a [*a]", "{}", "[]",
)  # fmt: skip
"""What a cell or value may hold instead."""
ENCODINGS = ("latin-1", "utf-16", "utf-32", "cp1252", "shift_jis", "utf-8-sig")


def text_marks(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Characters with a meaning, anywhere."""
    text = data.decode("utf-8", "replace")
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(len(text) + 1))
        text = text[:at] + MARKS[int(rng.integers(len(MARKS)))] + text[at + int(rng.integers(2)) :]
    return bytearray(text.encode("utf-8", "replace"))


def text_cells(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A word in place of another: a cell, key or value."""
    words = data.decode("utf-8", "replace")
    spans = list(_words(words))
    if not spans:
        return text_marks(data, rng)
    start, stop = spans[int(rng.integers(len(spans)))]
    return bytearray(
        (words[:start] + CELLS[int(rng.integers(len(CELLS)))] + words[stop:]).encode("utf-8", "replace")
    )


def _words(text: str) -> Iterator[tuple[int, int]]:
    start = None
    for at, character in enumerate(text + " "):
        inside = character.isalnum() or character in "_.-/"
        if inside and start is None:
            start = at
        elif not inside and start is not None:
            yield start, at
            start = None


def text_encoding(data: bytearray, rng: np.random.Generator) -> bytearray:
    """The text in another encoding."""
    name = ENCODINGS[int(rng.integers(len(ENCODINGS)))]
    return bytearray(("é" + data.decode("utf-8", "replace")).encode(name, "replace"))


def text_nested(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Brackets nested up to 100,000 deep, in place of a word or of everything."""
    mark = ("[", '{"a":', "- ", "{a: ")[int(rng.integers(4))]
    deep = mark * int(10 ** rng.uniform(1, 5))
    text = data.decode("utf-8", "replace")
    spans = list(_words(text))
    if not spans or rng.random() < 0.3:
        return bytearray(deep.encode())
    start, stop = spans[int(rng.integers(len(spans)))]
    return bytearray((text[:start] + deep + text[stop:]).encode())


def text_aliases(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A YAML of a few hundred bytes whose aliases stand for a billion entries."""
    depth = int(rng.integers(2, 10))
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)]
    text = data.decode("utf-8", "replace")
    bomb = "\n".join(lines) + "\n"
    spans = list(_words(text))
    if spans and rng.random() < 0.7:
        start, stop = spans[int(rng.integers(len(spans)))]
        return bytearray((bomb + text[:start] + f"*a{depth - 1}" + text[stop:]).encode())
    return bytearray((bomb + text).encode())


TEXTS: tuple[Damage, ...] = (
    text_marks,
    text_marks,
    text_cells,
    text_cells,
    text_cells,
    text_encoding,
    text_nested,
    text_aliases,
)


def damaged_text(data: bytes, rng: np.random.Generator) -> bytearray:
    """One to three damages of a text."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if not out:
            break
        kinds = TEXTS if rng.random() < 0.75 else ANY_BYTES
        out = kinds[int(rng.integers(len(kinds)))](out, rng)
    return out
