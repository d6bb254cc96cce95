"""The stream of training batches, and the loader that remembers how far training has come."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from syncdiff_data.loader.batch import Batch, BatchMaker
from syncdiff_data.loader.config import LoaderConfig
from syncdiff_data.loader.index import build_index
from syncdiff_data.loader.order import batch_of, epoch_order, spread_windows
from syncdiff_data.loader.read import ClipReader
from syncdiff_data.recipe import short_hash
from syncdiff_data.records import UserError
from syncdiff_data.shards import Store

LOST_WORKER = "DataLoader worker (pid"
"""How PyTorch's message on a lost process begins."""


class ClipWindows(IterableDataset[Batch]):
    """Batches of windows from a data set of clips and, for all but the autoencoder, its features.

    One item is a whole batch, a dict with T = window, K = context, S = crop size, B = batch_size. Images, landmarks and
    energies are there where `config.parts` asks for them:

    - frames uint8 [B, T, 3, S, S], identity uint8 [B, 3, S, S], pose uint8 [B, T, 3, S, S]: RGB; memory is laid out
      channels-last;
    - landmarks float32 [B, T, 68, 2] in crop pixels;
    - features float32 [B, T, K, D], when there are features;
    - energies float32 [B, T + 2 * parts.energies, 104], the sync expert's audio input;
    - pose_known bool [B, T]: False where the clip has no frame that much earlier, and pose shows its first;
    - clip_id list of B str; first_frame, num_frames int64 [B].

    Batches depend on the configuration, rank and world size alone; the workers of a DataLoader share them out in
    turn, and since a DataLoader asks its workers in turn, they arrive in the same order for any number of workers.
    """

    def __init__(
        self,
        clips: str | PathLike[str],
        features: str | PathLike[str] | None = None,
        config: LoaderConfig | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.config = config = config or LoaderConfig()
        self.rank, self.world_size = rank, world_size
        self.start = 0
        """Number of the first sample to deal out, counted over all ranks."""
        self._clips, self._features = Store(clips), None if features is None else Store(features)
        self.index = build_index(self._clips, self._features, config)
        self._order: tuple[int, np.ndarray, np.ndarray] | None = None

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
            [
                self.index.fingerprint,
                # The layout of shards decides the order too: blocks of shards are shuffled.
                hashlib.sha256(self.index.shard.astype("<i8").tobytes()).hexdigest(),
                config.seed,
                config.windows_per_visit,
                config.spread,
                config.shuffle_shards,
            ]
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
        reader = ClipReader(self._clips, self._features, self.index, self.config)
        maker = BatchMaker(self.config, self.index, reader)
        end = self.config.epochs * self.samples_per_epoch or None
        batches = itertools.count() if end is None else range(self._num_batches(end))
        for number in itertools.islice(batches, first, None, step):
            # Sample numbers of this rank's batch -> (clip, window) -> tensors of the batch.
            samples = [
                self.start + n for n in batch_of(number, self.config.batch_size, self.rank, self.world_size)
            ]
            batch = maker.batch([self.place_of(n) for n in samples if end is None or n < end])
            yield into_shared_memory(batch) if worker else batch

    def _num_batches(self, end: int) -> int:
        """Batches that each rank gets until sample `end`: equally many, or ranks that train together would wait for
        each other for ever. One rank alone gets a smaller last batch; several leave out an incomplete last step."""
        left = max(0, end - self.start)
        return left // self.global_batch if self.world_size > 1 else -(-left // self.global_batch)

    def place_of(self, sample: int) -> tuple[int, int]:
        """The clip, by its number in the index, of a sample, and the number of that window.

        Windows are numbered like samples, but visit by visit: window n is n % W of visit n // W.
        """
        epoch, place = divmod(sample, self.samples_per_epoch)
        if self._order is None or self._order[0] != epoch:
            config, shard = self.config, self.index.shard
            clips = epoch_order(shard, config.seed, epoch, config.shuffle_shards)
            windows = spread_windows(len(shard), config.windows_per_visit, config.spread)
            self._order = (epoch, clips, windows)
        _, clips, windows = self._order
        window = int(windows[place])
        clip = int(clips[window // self.config.windows_per_visit])
        return clip, epoch * self.samples_per_epoch + window


def into_shared_memory(batch: Batch) -> Batch:
    """The batch, from where the process that trains takes it. UserError where there is no room.

    A DataLoader does the same in a thread of its queue, where a batch without room is lost and training waits for ever.
    """
    tensors = [value for value in batch.values() if isinstance(value, torch.Tensor)]
    try:
        for tensor in tensors:
            tensor.share_memory_()
    except RuntimeError as error:
        size = sum(tensor.nbytes for tensor in tensors) / 1e6
        raise UserError(
            f"shared memory (/dev/shm) has no room for the next batch of {size:.0f} MB, and each worker of the loader "
            f"keeps some ({error}). Give the container more (docker run --shm-size 8g), or set loader_workers: 0 in "
            "the preset."
        ) from error
    return batch


def end_with_training(worker: int) -> None:
    """End this process as soon as the one that trains is gone. Without it a killed training would leave its workers for
    ever: they wait for their fork server to end, and that for them."""
    training = multiprocessing.parent_process()
    assert training

    def wait() -> None:
        training.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def is_lost_worker(error: RuntimeError) -> bool:
    """Whether a process that reads batches was ended from outside. PyTorch raises it anywhere, by a signal."""
    return str(error).startswith(LOST_WORKER)


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
        # The server imports once what every worker needs; it starts no thread of its own.
        multiprocessing.set_forkserver_preload(["syncdiff_data.loader.stream"])
        batches = DataLoader(
            self.dataset,
            batch_size=None,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
            # Threads of the parent (OpenCV's pool, an object store's client) do not survive a fork: a forked worker
            # that waits for them hangs for ever.
            multiprocessing_context="forkserver" if self._workers else None,
            worker_init_fn=end_with_training,
        )
        try:
            for batch in batches:
                self.samples += self.dataset.global_batch
                yield batch
        except UserError as error:
            # DataLoader wraps a worker's error in its traceback; the sentence stands in the last line.
            raise UserError(str(error).rpartition("UserError: ")[2].strip()) from error
        except (ConnectionError, EOFError) as error:
            # Those that a worker met itself are passed on with its traceback.
            if not self._workers or str(error).startswith("Caught "):
                raise
            raise RuntimeError(f"{LOST_WORKER}s {self._workers}) ended: {type(error).__name__}") from error
        self.samples = 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs in order to go on with the next sample."""
        return {"samples": self.samples, "order": self.dataset.order_fingerprint}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the last batch before `state` was taken.

        UserError when clips, seed or shuffling differ: the order is another, and samples would be missed or repeated.
        ValueError where `state` counts no samples.
        """
        if state["order"] != self.dataset.order_fingerprint:
            raise UserError(
                "the checkpoint was trained on another order of samples than this loader deals out: resume with the "
                "same clips in the same shards, split, window, windows_per_visit, spread, shuffle_shards and seed, or "
                "start a new run"
            )
        if not isinstance(state["samples"], int) or state["samples"] < 0:
            raise ValueError(f"it counts {state['samples']!r} samples")
        self.samples = state["samples"]
