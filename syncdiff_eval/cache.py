"""Finished work by content: a key says everything a result depends on, so a rerun only does what is new.

Runs may share a folder, also at the same time. Whole entries serve all of them. What a run leaves half done bears its
name: notes of work begun, and temporary files. They are swept when a run starts and no other holds the folder's lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from syncdiff_data.records import UserError
from syncdiff_data.shards.store import write_atomically, write_text

LOCK = "lock"


def key_of(**facts: object) -> str:
    """Hash of JSON-able facts, in any order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Cache:
    """Records as JSON and arrays as npz below one folder. The JSON is written last and marks the entry
    whole."""

    folder: Path
    run: str = "alone"
    """Whose attempts are counted: three crashes in one run are a verdict, one crash in each of three is not."""

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
        write_text(self.folder / f"{key}.json", json.dumps(record, sort_keys=True, allow_nan=False))

    def attempts(self, task: str) -> int:
        """How many times in a row this task of this run began and did not end. Not by key: files that are the same
        are several tasks, which may be at work at once."""
        path = self._note(task)
        return int(path.read_text()) if path.exists() else 0

    def begin(self, task: str) -> None:
        """Note that work begins. If the process dies, the note is what its successor finds."""
        write_text(self._note(task), str(self.attempts(task) + 1))

    def end(self, task: str) -> None:
        self._note(task).unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """The path of a temporary file, there for as long as the body runs."""
        path = self.folder / f"{uuid.uuid4().hex}.tmp"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _note(self, task: str) -> Path:
        return self.folder / f"{task}.{self.run}.attempts"


@contextmanager
def open_run(folder: Path, retry: Set[str] = frozenset()) -> Iterator[Cache]:
    """The cache in `folder` for one run, for as long as the body lasts; records whose reason is in `retry` are
    forgotten first. Raises UserError where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("ab")
    except OSError as error:
        raise UserError(
            f"The cache {folder} cannot be written ({error.strerror}); choose another --cache or --out."
        ) from error
    with file as lock:
        if _is_alone(lock):
            for left in (*folder.glob("*.tmp"), *folder.glob("*.attempts")):
                left.unlink()
        with suppress(OSError):  # a file system without locks: nothing is ever swept there
            fcntl.flock(lock, fcntl.LOCK_SH)
        for path in folder.glob("*.json") if retry else ():
            if json.loads(path.read_text(encoding="utf-8")).get("reason") in retry:
                path.unlink(missing_ok=True)
        yield Cache(folder, uuid.uuid4().hex[:8])


def forget_all(folder: Path) -> None:
    """Empty a cache. Raises UserError where a run is using it."""
    if not folder.exists():
        return
    with (folder / LOCK).open("ab") as lock:
        if not _is_alone(lock):
            raise UserError(f"{folder} is in use by another run and is not emptied; wait for its end.")
        for path in folder.iterdir():
            if path.name != LOCK:
                path.unlink()


@dataclass(frozen=True)
class FrameFeatureCache:
    """Arrays made from one clip's frames alone, kept for other rows that show the same frames: the reference
    with its own, a shifted and another clip's sound, or the same file under another protocol."""

    cache: Cache
    frames: Mapping[str, object]
    """Facts that say which frames these are."""

    def read(self, **producer: object) -> dict[str, np.ndarray] | None:
        """What `store` was given under the same facts of the producer (name, version, weights); None where
        nothing was."""
        key = key_of(kind="frame features", frames=dict(self.frames), producer=producer)
        return self.cache.arrays(key) if self.cache.read(key) else None

    def store(self, arrays: Mapping[str, np.ndarray], **producer: object) -> None:
        key = key_of(kind="frame features", frames=dict(self.frames), producer=producer)
        self.cache.write(key, {"status": "kept"}, arrays)


def _is_alone(lock: IO[bytes]) -> bool:
    """Whether no other run holds the lock, which is then held exclusively. Its holder's death frees it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
