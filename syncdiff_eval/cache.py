"""Finished work by content: a key says everything a result depends on, so a rerun only does what is new.

Runs may share a folder, also at the same time. Whole entries serve all of them. Temporary files of killed runs are
swept when a run starts and no other holds the folder's lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from syncdiff_data.documents import parse_json
from syncdiff_data.records import UserError
from syncdiff_data.shards.store import sweep_leftovers, write_atomically, write_text

LOCK = "lock"
ENTRY = re.compile(r"[0-9a-f]{32}(-[0-9a-f]{16})?\.(json|npz)")
"""Names of entries; what else lies there is not ours."""

OWN_KEY = "key of this entry"
"""Array of an npz that tells it from others; entries of older versions have none."""


def key_of(**facts: object) -> str:
    """Hash of JSON-able facts, in any order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Cache:
    """Records as JSON and arrays as npz below one folder. The JSON is written last and marks the entry
    whole."""

    folder: Path

    def read(self, key: str) -> dict[str, Any] | None:
        """The record; None where there is none, or a damaged one: it is then made again."""
        return _read_record(self.folder / f"{key}.json")

    def arrays(self, key: str) -> dict[str, np.ndarray]:
        """The arrays written with the record; empty where there are none. UserError where they are damaged."""
        path = self.folder / f"{key}.npz"
        if not path.exists():
            return {}
        data = io.BytesIO(path.read_bytes())  # what the disk does is raised as it is
        try:
            with np.load(data, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if str(arrays.pop(OWN_KEY, key)) != key:
                raise ValueError("it is a copy of another entry")
            return arrays
        except Exception as error:  # numpy and zipfile raise half a dozen kinds for damaged files
            raise UserError(f"{path} of the cache is damaged ({error}): delete it, and run again.") from error

    def has_arrays(self, key: str) -> bool:
        """Whether arrays of that key are there: users delete them to free disk space."""
        return (self.folder / f"{key}.npz").exists()

    def write_arrays(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """An entry without a record."""
        named: dict[str, Any] = {**arrays, OWN_KEY: np.array(key)}
        write_atomically(self.folder / f"{key}.npz", lambda file: np.savez(file, **named))

    def write(
        self, key: str, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None
    ) -> None:
        if arrays:
            self.write_arrays(key, arrays)
        write_text(self.folder / f"{key}.json", json.dumps(record, sort_keys=True, allow_nan=False))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """The path of a temporary file, there for as long as the body runs."""
        path = self.folder / f"{uuid.uuid4().hex}.tmp"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = parse_json(path.read_bytes()) if path.exists() else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


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
            sweep_leftovers(folder)
            for left in folder.glob(f"{'[0-9a-f]' * 32}.tmp"):
                left.unlink()
        with suppress(OSError):  # a file system without locks: nothing is ever swept there
            fcntl.flock(lock, fcntl.LOCK_SH)
        for path in folder.glob("*.json") if retry else ():
            if ENTRY.fullmatch(path.name) and (_read_record(path) or {}).get("reason") in retry:
                path.unlink(missing_ok=True)
        yield Cache(folder)


def forget_all(folder: Path) -> None:
    """Empty a cache of its entries. Raises UserError where a run is using it."""
    if not folder.exists():
        return
    try:
        file = (folder / LOCK).open("ab")
    except OSError as error:
        raise UserError(
            f"The cache {folder} cannot be emptied ({error.strerror}): choose another --out."
        ) from error
    with file as lock:
        if not _is_alone(lock):
            raise UserError(f"{folder} is in use by another run and is not emptied; wait for its end.")
        for path in folder.iterdir():
            if ENTRY.fullmatch(path.name):
                path.unlink()


@dataclass(frozen=True)
class FrameFeatureCache:
    """Arrays that depend on one clip's frames alone, for other rows that show the same frames: the reference with its
    own, a shifted and another clip's sound, or the same file under another protocol."""

    cache: Cache
    frames: Mapping[str, object]
    """Facts that say which frames these are."""

    def key(self, **producer: object) -> str:
        """Of the entry that a producer (name, version, weights) makes of these frames."""
        return key_of(kind="frame features", frames=dict(self.frames), producer=producer)

    def read(self, **producer: object) -> dict[str, np.ndarray] | None:
        """What the producer stored; None where it stored nothing."""
        key = self.key(**producer)
        return self.cache.arrays(key) if self.cache.read(key) and self.cache.has_arrays(key) else None

    def store(self, arrays: Mapping[str, np.ndarray], **producer: object) -> None:
        self.cache.write(self.key(**producer), {"status": "stored"}, arrays)


def _is_alone(lock: IO[bytes]) -> bool:
    """Whether no other run holds the lock, which is then held exclusively. Its holder's death frees it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
