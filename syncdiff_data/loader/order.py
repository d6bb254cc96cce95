"""Which sample comes when: pure functions of the seed and the sample's number.

The loader deals out one endless sequence of samples, numbered from 0. Sample n belongs to epoch n // (N * W) for N
clips and W windows per visit to a clip; inside an epoch, sample m is a window of the clip at place m // W of that
epoch's order. Nothing else decides what a sample is: not the workers, not the ranks, not the samples before it.

The trade-off: a visit reads a whole clip (1.2 MB for 3 s at 256 x 256), so a sample costs 9.6 ms of CPU with
W = 1, 7.3 with 2, 5.7 with 4 and 5.1 with 8, and a batch of B holds windows of B / W clips. See docs/loader.md.
"""

from __future__ import annotations

import numpy as np


def epoch_order(shard: np.ndarray, seed: int, epoch: int, shuffle_shards: int) -> np.ndarray:
    """The order in which one epoch visits the clips.

    The shards are permuted and taken `shuffle_shards` at a time; the clips of such a block are permuted among
    themselves. So a reader needs only that many open files, and neighbours in an epoch are drawn from
    `shuffle_shards` times the clips of a shard. 0 keeps the order of the data set.

    shard: int [N], the shard of each clip. Returns int64 [N], a permutation of 0..N-1.
    """
    if shuffle_shards == 0:
        return np.arange(len(shard))
    rng = np.random.default_rng((seed, epoch))
    block = rng.permutation(int(shard.max()) + 1) // shuffle_shards
    return np.lexsort((rng.random(len(shard)), block[shard]))


def sample_rng(seed: int, sample: int) -> np.random.Generator:
    """The one source of chance for a sample: where its window lies, its identity frame, its augmentation."""
    return np.random.default_rng((seed, sample, 1))


def batch_of(number: int, batch_size: int, rank: int, world_size: int) -> range:
    """Sample numbers, counted from the start of the run, of a rank's batch `number`.

    Ranks interleave by whole batches: the first `batch_size` samples go to rank 0, the next to rank 1, ..., so that
    windows of one visit to a clip stay together and the union over ranks is the sequence itself.
    """
    first = (number * world_size + rank) * batch_size
    return range(first, first + batch_size)
