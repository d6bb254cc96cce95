"""The stream of training batches, and the loader that remembers how far training has come."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from syncdiff_data.loader.augment import augment
from syncdiff_data.loader.index import DamagedShard, build_index
from syncdiff_data.loader.order import batch_of, epoch_order, sample_rng
from syncdiff_data.loader.read import ClipReader
from syncdiff_data.loader.sample import StoredClip, make_sample
from syncdiff_data.recipe import short_hash
from syncdiff_data.records import UserError
from syncdiff_data.shards import Store

REPLACEMENTS = 100
"""How many clips in a row may be damaged before skipping them stops making sense."""

Batch = dict[str, Any]


@dataclass(frozen=True)
class LoaderConfig:
    """What a batch is made of and in which order samples come."""

    batch_size: int = 8
    """Windows per batch and rank."""
    window: int = 5
    """Frames per window; shorter clips are left out."""
    pose_offset: int = 1
    """The pose frame of t is t minus this, kept inside the clip."""
    context: int = 5
    """Feature frames around each frame."""
    feature: str | None = None
    """Column of the features; None takes the only one."""
    split: str | None = None
    """Only clips of this split; None takes all."""
    windows_per_visit: int = 2
    """Windows cut from a clip each time it is read; they lie side by side in a batch. See docs/loader.md."""
    shuffle_shards: int = 16
    """Clips are shuffled within this many shards, and the shards among themselves; 0 keeps the stored order."""
    seed: int = 0
    epochs: int = 0
    """Passes over the clips; 0 never ends."""
    flip: bool = False
    """Mirror half of the samples."""
    colour_jitter: float = 0.0
    """Change brightness, contrast and saturation by up to ± this; 0 turns it off."""
    damaged: Literal["fail", "skip"] = "fail"
    """A damaged shard stops training, or its clips are replaced by others with a warning that names it."""


class ClipWindows(IterableDataset[Batch]):
    """Batches of windows from a data set of clips and, for all but the autoencoder, its features.

    One item is a whole batch, a dict with T = window, K = context, S = crop size, B = batch_size:

    - frames uint8 [B, T, 3, S, S], identity uint8 [B, 3, S, S], pose uint8 [B, T, 3, S, S]: RGB; memory is laid out
      channels-last;
    - landmarks float32 [B, T, 68, 2] in crop pixels;
    - features float32 [B, T, K, D], when there are features;
    - clip_id list of B str; first_frame int64 [B].

    Batches depend on the configuration, rank and world size alone; the workers of a DataLoader share them out in
    turn, and since a DataLoader asks its workers in turn, they arrive in the same order for any number of workers.
    """

    def __init__(
        self,
        clips: str | PathLike[str],
        features: str | PathLike[str] | None = None,
        config: LoaderConfig = LoaderConfig(),
        rank: int = 0,
        world_size: int = 1,
    ):
        self.config = config
        self.rank, self.world_size = rank, world_size
        self.start = 0
        """Number of the first sample to deal out, counted over all ranks."""
        self._clips, self._features = Store(clips), None if features is None else Store(features)
        skip = config.damaged == "skip"
        self.index = build_index(
            self._clips, self._features, config.feature, config.split, config.window, skip
        )
        self._order: tuple[int, np.ndarray] | None = None

    @property
    def is_local(self) -> bool:
        return self._clips.is_local and (self._features is None or self._features.is_local)

    @property
    def samples_per_epoch(self) -> int:
        return len(self.index.shard) * self.config.windows_per_visit

    @property
    def order_fingerprint(self) -> str:
        """A hash of all that decides which sample comes when."""
        config = self.config
        return short_hash(
            [self.index.fingerprint, config.seed, config.windows_per_visit, config.shuffle_shards]
        )

    @property
    def global_batch(self) -> int:
        """Samples that all ranks together take per step."""
        return self.config.batch_size * self.world_size

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker:
            cv2.setNumThreads(1)
        reader = ClipReader(
            self._clips, self._features, self.index, open_files=max(self.config.shuffle_shards, 1)
        )
        make = _SampleMaker(self, reader)
        end = self.config.epochs * self.samples_per_epoch or None
        for number in itertools.count(first, step):
            samples = [
                self.start + n for n in batch_of(number, self.config.batch_size, self.rank, self.world_size)
            ]
            samples = [n for n in samples if end is None or n < end]
            if not samples:
                return
            yield collate([make.sample(n) for n in samples])

    def clip_of(self, sample: int) -> int:
        """The clip, by its number in the index, that a sample is cut from."""
        epoch, place = divmod(sample, self.samples_per_epoch)
        if self._order is None or self._order[0] != epoch:
            order = epoch_order(self.index.shard, self.config.seed, epoch, self.config.shuffle_shards)
            self._order = (epoch, order)
        return int(self._order[1][place // self.config.windows_per_visit])


class _SampleMaker:
    """Makes samples one after another, holding the clip last read for the next window of the same visit."""

    def __init__(self, stream: ClipWindows, reader: ClipReader):
        self._stream, self._reader = stream, reader
        self._held: tuple[int, StoredClip] | None = None
        self._damaged: set[int] = set()

    def sample(self, number: int) -> dict[str, Any]:
        config = self._stream.config
        rng = sample_rng(config.seed, number)
        clip = self._stream.clip_of(number)
        for _ in range(REPLACEMENTS):
            try:
                return self._cut(clip, rng)
            except DamagedShard as error:
                self._report(clip, error)
                clip = int(rng.integers(len(self._stream.index.shard)))
        raise UserError(f"{REPLACEMENTS} clips in a row are damaged: check the storage of the data set")

    def _cut(self, clip: int, rng: np.random.Generator) -> dict[str, Any]:
        config = self._stream.config
        if self._held is None or self._held[0] != clip:
            self._held = (clip, self._reader.read(clip))
        stored = self._held[1]
        try:
            sample = make_sample(stored, config.window, config.pose_offset, config.context, rng)
        except ValueError as error:
            path = self._stream.index.clip_shards[self._stream.index.shard[clip]]
            raise DamagedShard(
                f"{path} holds a clip {stored.clip_id} that cannot be decoded ({error})"
            ) from error
        return augment(sample, config.flip, config.colour_jitter, rng) | {"clip_id": stored.clip_id}

    def _report(self, clip: int, error: DamagedShard) -> None:
        if self._stream.config.damaged == "fail":
            raise UserError(f"{error}: make the shard again, or skip damaged shards") from error
        if clip not in self._damaged:
            self._damaged.add(clip)
            warnings.warn(f"{error}; other clips take its place ({len(self._damaged)} so far)", stacklevel=2)


def collate(samples: list[dict[str, Any]]) -> Batch:
    """Samples to a batch: arrays stacked, images [B, ..., S, S, 3] viewed as [B, ..., 3, S, S]."""
    batch: Batch = {
        name: _stack([sample[name] for sample in samples]) for name in samples[0] if name != "clip_id"
    }
    return batch | {"clip_id": [sample["clip_id"] for sample in samples]}


def _stack(arrays: list[np.ndarray]) -> torch.Tensor:
    tensor = torch.from_numpy(np.stack(arrays))
    return tensor.movedim(-1, -3) if tensor.dtype == torch.uint8 else tensor


class Loader:
    """A DataLoader over ClipWindows that counts what training has received, so that a checkpoint can hold it.

    Workers run ahead of training; the count is of batches handed out here. Resuming is arithmetic: nothing is read
    or decoded to get there, and the number of workers, ranks or samples per batch may have changed.
    """

    def __init__(self, dataset: ClipWindows, workers: int = 2, pin_memory: bool = False):
        self.dataset = dataset
        self._workers, self._pin_memory = workers, pin_memory
        self.samples = 0
        """Samples handed out so far, over all ranks."""

    def __iter__(self) -> Iterator[Batch]:
        self.dataset.start = self.samples
        batches = DataLoader(
            self.dataset,
            batch_size=None,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
            # An object store's client has threads, which do not survive a fork.
            multiprocessing_context="spawn" if self._workers and not self.dataset.is_local else None,
        )
        try:
            for batch in batches:
                self.samples += self.dataset.global_batch
                yield batch
        except UserError as error:
            # DataLoader wraps a worker's error in its traceback; the sentence stands in the last line.
            raise UserError(str(error).rpartition("UserError: ")[2].strip()) from error
        self.samples = 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs in order to go on with the next sample."""
        return {"samples": self.samples, "order": self.dataset.order_fingerprint}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the last batch before `state` was taken.

        UserError when clips, seed or shuffling differ: the order is another, and samples would be missed or repeated.
        """
        if state["order"] != self.dataset.order_fingerprint:
            raise UserError(
                "the checkpoint was trained on another order of samples than this loader deals out: resume with the "
                "same clips, split, window, windows_per_visit, shuffle_shards and seed, or start a new run"
            )
        self.samples = state["samples"]
