"""Finished work by content: a key says everything a result depends on, so a rerun only does what is new."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from syncdiff_data.shards.store import write_atomically


def key_of(**facts: object) -> str:
    """Hash of JSON-able facts, in any order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Cache:
    """Records as JSON and arrays as npz below one folder. The JSON is written last and marks the entry
    whole."""

    folder: Path

    def start_run(self, retry: Set[str]) -> None:
        """Sweep what stopped runs left, and forget the records whose reason is in `retry`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in (*self.folder.glob("*.tmp"), *self.folder.glob("*.attempts")):
            left.unlink()
        for path in self.folder.glob("*.json") if retry else ():
            if json.loads(path.read_text(encoding="utf-8")).get("reason") in retry:
                path.unlink()

    def read(self, key: str) -> dict[str, Any] | None:
        path = self.folder / f"{key}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def arrays(self, key: str) -> dict[str, np.ndarray]:
        """The arrays written with the record; empty where there are none."""
        path = self.folder / f"{key}.npz"
        if not path.exists():
            return {}
        with np.load(path) as file:
            return {name: file[name] for name in file.files}

    def write(
        self, key: str, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None
    ) -> None:
        if arrays:
            write_atomically(self.folder / f"{key}.npz", lambda file: np.savez(file, **dict(arrays)))  # type: ignore[arg-type]
        text = json.dumps(record, sort_keys=True, allow_nan=False)
        write_atomically(self.folder / f"{key}.json", lambda file: _put(file, text))

    def attempts(self, key: str) -> int:
        """How many times in a row work on this key began and did not end."""
        path = self.folder / f"{key}.attempts"
        return int(path.read_text()) if path.exists() else 0

    def begin(self, key: str) -> None:
        """Note that work begins. If the process dies, the note is what its successor finds."""
        count = str(self.attempts(key) + 1)
        write_atomically(self.folder / f"{key}.attempts", lambda file: _put(file, count))

    def end(self, key: str) -> None:
        (self.folder / f"{key}.attempts").unlink(missing_ok=True)


@dataclass(frozen=True)
class Shelf:
    """Arrays made from one clip's frames alone, kept for other rows that show the same frames: the reference
    with its own, a shifted and another clip's sound, or the same file under another protocol."""

    cache: Cache
    frames: Mapping[str, object]
    """Facts that say which frames these are."""

    def read(self, **maker: object) -> dict[str, np.ndarray] | None:
        """What `keep` was given under the same facts of the maker (name, version, weights); None where
        nothing was."""
        key = key_of(kind="shelf", frames=dict(self.frames), maker=maker)
        return self.cache.arrays(key) if self.cache.read(key) else None

    def keep(self, arrays: Mapping[str, np.ndarray], **maker: object) -> None:
        key = key_of(kind="shelf", frames=dict(self.frames), maker=maker)
        self.cache.write(key, {"status": "kept"}, arrays)


def _put(file: Any, text: str) -> None:
    file.write(text.encode())
