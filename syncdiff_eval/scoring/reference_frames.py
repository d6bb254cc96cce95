"""One reference for all its methods: its frames are decoded once, and what metrics derive from them is made once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from syncdiff_eval.videos import FileFacts, TimedFrame, frames

T = TypeVar("T")

HELD_BYTES = 512 << 20
"""Pixels of one reference that a worker holds: 80 frames of 1080p, 24 s of 512 x 512. A longer one is decoded anew for
each method, and nothing derived from it is kept, so memory does not grow with its length."""


class ReferenceFrames:
    """Of one video, for the rows that one worker scores one after another."""

    def __init__(self, path: Path, facts: FileFacts, num_frames: int, held_bytes: int = HELD_BYTES):
        self._path = path
        self._fits = num_frames * facts.width * facts.height * 3 <= held_bytes
        self._held: list[TimedFrame] | None = None
        self._made: dict[Hashable, Any] = {}

    def frames(self) -> Iterator[TimedFrame]:
        """As `videos.frames`; nobody may write into the pictures. Raises MediaError."""
        if self._held is not None:
            yield from self._held
            return
        read: list[TimedFrame] = []
        for timed in frames(self._path):
            if self._fits:
                read.append(timed)
            yield timed
        if self._fits:
            self._held = read  # only once all of it has decoded

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """See `ClipContext.once`."""
        if not self._fits:
            return make()
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made
