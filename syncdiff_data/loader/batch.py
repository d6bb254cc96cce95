"""Batches: clips read, windows sampled, crops decoded straight into place."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from syncdiff_data.features.audio import LOGFBANK_DIM
from syncdiff_data.loader.augment import IMAGES, augment
from syncdiff_data.loader.config import LoaderConfig
from syncdiff_data.loader.index import DamagedShard, Index
from syncdiff_data.loader.order import sample_rng
from syncdiff_data.loader.read import ClipReader
from syncdiff_data.loader.sample import EncodedWindow, decode_window, sample_window
from syncdiff_data.records import UserError

REPLACEMENTS = 100
"""How many clips in a row may be damaged before skipping them stops making sense."""

Batch = dict[str, Any]


class BatchMaker:
    """Makes batches one after another; the windows of a visit are kept until their sample numbers come."""

    def __init__(self, config: LoaderConfig, index: Index, reader: ClipReader):
        self._config, self._index, self._reader = config, index, reader
        self._kept: OrderedDict[int, dict[int, EncodedWindow]] = OrderedDict()
        """Visit -> window -> encoded."""
        self._damaged: set[int] = set()

    def batch(self, places: Sequence[tuple[int, int]]) -> Batch:
        """A batch of windows: the clip of each, and its number, visit by visit."""
        arrays = empty_batch(len(places), self._config, self._index)
        rows = [{name: array[row, ...] for name, array in arrays.items()} for row in range(len(places))]
        names = [self._fill(row, clip, window) for row, (clip, window) in zip(rows, places)]
        return as_tensors(arrays) | {"clip_id": names}

    def _fill(self, row: dict[str, np.ndarray], clip: int, window: int) -> str:
        """Write a window into its row of the batch, or another clip's where its own is damaged; the clip_id."""
        for attempt in range(REPLACEMENTS):
            try:
                with self._naming(clip):
                    encoded = (
                        self._kept_window(clip, window)
                        if attempt == 0
                        else self._windows(clip, [window], attempt)[0]
                    )
                    self._decode(encoded, row)
                return encoded.clip_id
            except DamagedShard as error:
                self._report(clip, error)
                rng = sample_rng(self._config.seed, window, attempt)
                clip = int(rng.integers(len(self._index.shard)))
        raise UserError(f"{REPLACEMENTS} clips in a row are damaged: check the storage of the data set")

    def _kept_window(self, clip: int, window: int) -> EncodedWindow:
        """That window; the first of a visit reads the clip and samples the others too."""
        size = self._config.windows_per_visit
        visit = window // size
        if window not in self._kept.get(visit, {}):
            windows = range(visit * size, (visit + 1) * size)
            self._kept[visit] = dict(zip(windows, self._windows(clip, windows)))
            if len(self._kept) > max(self._config.spread, 1):  # The oldest one's other windows go elsewhere.
                self._kept.popitem(last=False)
        encoded = self._kept[visit].pop(window)
        if not self._kept[visit]:
            del self._kept[visit]
        return encoded

    def _windows(self, clip: int, windows: Sequence[int], attempt: int = 0) -> list[EncodedWindow]:
        config, stored = self._config, self._reader.read(clip)
        rngs = [sample_rng(config.seed, window, attempt) for window in windows]
        return [sample_window(stored, config, rng) for rng in rngs]

    @contextmanager
    def _naming(self, clip: int) -> Iterator[None]:
        """What a clip raises that is stored as no clip is: nulls, other lengths, bytes that are no picture."""
        try:
            yield
        except (ValueError, TypeError, IndexError, AttributeError, RuntimeError) as error:
            path = self._index.clip_shards[self._index.shard[clip]]
            raise DamagedShard(
                f"{path} holds a clip {self._index.clip_id[clip]} that cannot be decoded ({error})"
            ) from error

    def _decode(self, encoded: EncodedWindow, row: dict[str, np.ndarray]) -> None:
        decode_window(encoded, row)
        augmented = augment(
            row, self._index.crop_size, self._config.flip, self._config.colour_jitter, encoded.rng
        )
        for name, value in augmented.items():
            if value is not row[name]:
                row[name][...] = value

    def _report(self, clip: int, error: DamagedShard) -> None:
        if self._config.damaged == "fail":
            raise UserError(f"{error}: make the shard again, or skip damaged shards") from error
        if clip not in self._damaged:
            self._damaged.add(clip)
            warnings.warn(f"{error}; other clips take its place ({len(self._damaged)} so far)", stacklevel=2)


def empty_batch(count: int, config: LoaderConfig, index: Index) -> dict[str, np.ndarray]:
    """The arrays of a batch, images [count, ..., S, S, 3], to be written into."""
    window, parts, image = config.window, config.parts, (index.crop_size, index.crop_size, 3)
    arrays: dict[str, np.ndarray] = {
        "first_frame": np.empty(count, np.int64),
        "num_frames": np.empty(count, np.int64),
        "pose_known": np.empty((count, window), bool),
    }
    if parts.landmarks:
        arrays["landmarks"] = np.empty((count, window, 68, 2), np.float32)
    for name in parts.images:
        shape = (count, *image) if name == "identity" else (count, window, *image)
        arrays[name] = np.empty(shape, np.uint8)
    if parts.energies:
        arrays["energies"] = np.empty((count, window + 2 * parts.energies, LOGFBANK_DIM), np.float32)
    if index.feature is not None:
        arrays["features"] = np.empty((count, window, config.context, index.feature_dim), np.float32)
    return arrays


def as_tensors(arrays: dict[str, np.ndarray]) -> Batch:
    """The same memory as tensors, images viewed as [count, ..., 3, S, S]."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return tensors | {name: tensors[name].movedim(-1, -3) for name in IMAGES if name in tensors}
