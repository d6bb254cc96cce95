"""The order of samples: pure functions of the seed and the sample's number.

The loader yields one endless sequence of samples, numbered from 0. Sample n belongs to epoch n // (N * W) for N
clips and W windows per visit to a clip. An epoch visits every clip once and samples its W windows at that visit, since
reading a clip costs about as much as decoding one window; but they come `spread` samples apart, so that a batch holds
windows of different clips. Nothing else decides what a sample is: not the workers, not the ranks, not the samples
before it. What the trade-offs cost is in docs/loader.md.
"""

from __future__ import annotations

import numpy as np


def epoch_order(shard: np.ndarray, seed: int, epoch: int, shuffle_shards: int) -> np.ndarray:
    """The order in which one epoch visits the clips.

    The shards are permuted and taken `shuffle_shards` at a time; the clips of such a block are permuted among
    themselves. So a reader needs only that many open files, and neighbours in an epoch come from
    `shuffle_shards` times the clips of a shard. 0 keeps the order of the data set.

    shard: int [N], the shard of each clip. Returns int64 [N], a permutation of 0..N-1.
    """
    if shuffle_shards == 0:
        return np.arange(len(shard))
    # shard [N] -> block of each shard [shards] -> order of clips [N]: by block, at random inside it
    rng = np.random.default_rng((seed, epoch))
    block = rng.permutation(int(shard.max()) + 1) // shuffle_shards
    return np.lexsort((rng.random(len(shard)), block[shard]))


def spread_windows(visits: int, windows: int, spread: int) -> np.ndarray:
    """The order in which one epoch yields the windows of its visits.

    Visits begin in groups of spread // windows. A row of the epoch, `spread` samples, holds window 0 of one group,
    window 1 of the group before, and so on, taken in turn; the rows of the first groups hold the last ones' windows.
    So a visit's windows lie spread + 1 samples apart, in the same place of later batches, every batch begins equally
    many visits, and `spread` visits are under way at any time. Fewer clips than that are spread as far as they go.

    Returns int64 [visits * windows]: visit * windows + window, each once.
    """
    size = max(1, min(spread // windows, -(-visits // windows)))
    # sample number -> its visit and window -> its row of the epoch and place in the row
    visit, window = np.divmod(np.arange(visits * windows), windows)
    group, place = np.divmod(visit, size)
    row = (group + window) % -(-visits // size)
    return np.lexsort((window, place, row))


def sample_rng(seed: int, window: int, attempt: int = 0) -> np.random.Generator:
    """The random state of a window: where it lies, its identity frame, its augmentation.

    attempt: counts the clips that took the place of damaged ones.
    """
    return np.random.default_rng((seed, window, attempt + 1))


def batch_of(number: int, batch_size: int, rank: int, world_size: int) -> range:
    """Sample numbers, counted from the start of the run, of a rank's batch `number`.

    Ranks interleave by whole batches: the first `batch_size` samples go to rank 0, the next to rank 1, ..., so that
    the union over ranks is the sequence itself.
    """
    first = (number * world_size + rank) * batch_size
    return range(first, first + batch_size)
