"""The loader's order: no sample missing or twice, the same for any number of workers, resumable."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loader_data import names, read

from syncdiff_data.loader import ClipWindows, Loader, LoaderConfig
from syncdiff_data.loader.order import epoch_order, spread_windows
from syncdiff_data.loader.read import ClipReader
from syncdiff_data.loader.sample import choose_frames
from syncdiff_data.records import UserError


def test_every_window_and_identity_frame_has_its_chance():
    rng = np.random.default_rng(0)
    drawn = [choose_frames(6, 3, LoaderConfig(identity_distance=0), rng) for _ in range(300)]
    assert {(int(d.window[0]), d.identity) for d in drawn} == {
        (first, identity) for first in range(4) for identity in range(6) if not first <= identity < first + 3
    }


def test_an_epoch_visits_every_clip_and_no_epoch_is_like_another(dataset):
    visit, clips = 3, 11
    stream = names(read(dataset, 33, batch_size=2, windows_per_visit=visit))
    epochs = [stream[start : start + visit * clips] for start in (0, visit * clips)]
    for epoch in epochs:
        counts = Counter(name for name, _ in epoch)
        assert counts == {f"clip{number:04d}": visit for number in range(clips)}
    assert epochs[0] != epochs[1]
    assert names(read(dataset, 6, seed=1)) != names(read(dataset, 6))
    in_order = names(read(dataset, windows_per_visit=1, shuffle_shards=0, epochs=1))
    assert [name for name, _ in in_order] == [f"clip{number:04d}" for number in range(clips)]


@given(st.integers(1, 300), st.integers(1, 9), st.integers(0, 200))
def test_windows_are_dealt_out_once_each(visits, windows, spread):
    order = spread_windows(visits, windows, spread)
    assert sorted(order.tolist()) == list(range(visits * windows))


@pytest.mark.parametrize(("workers", "ranks"), [(1, 1), (2, 1), (3, 2), (1, 4)])
def test_windows_of_a_visit_lie_apart_and_fall_to_one_worker(workers, ranks):
    windows, spread, batch_size = 4, 96, 8
    visit = spread_windows(480, windows, spread) // windows
    batches = visit.reshape(-1, batch_size)
    assert all(len(set(batch)) == batch_size for batch in batches.tolist())
    readers = np.arange(len(batches)) % (workers * ranks)
    for number in set(visit.tolist()):
        places = (visit == number).nonzero()[0]
        assert set(np.diff(places)) <= {spread + 1, *range(spread * 16, len(visit))}
        assert len(set(readers[places // batch_size])) == 1


def test_each_clip_is_read_once_an_epoch(dataset, monkeypatch):
    clips_read = []
    plain_read = ClipReader.read
    monkeypatch.setattr(
        ClipReader, "read", lambda self, clip: clips_read.append(clip) or plain_read(self, clip)
    )
    assert len(names(read(dataset, epochs=1, windows_per_visit=3))) == 33
    assert sorted(clips_read) == list(range(11))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 8), st.integers(0, 99))
def test_the_shuffle_keeps_few_shards_open(shards, block, epoch):
    shard = np.sort(np.array(shards))
    order = epoch_order(shard, 0, epoch, block)
    assert sorted(order.tolist()) == list(range(len(shard)))
    if block:
        visits = shard[order]
        spans = [(visits == number).nonzero()[0][[0, -1]] for number in set(shards)]
        open_at = [sum(first <= place <= last for first, last in spans) for place in range(len(visits))]
        assert max(open_at) <= block


def test_the_order_is_the_same_for_any_number_of_workers(dataset):
    alone = read(dataset, 9, workers=0, flip=True, colour_jitter=0.2)
    for workers in (1, 2):
        for one, other in zip(alone, read(dataset, 9, workers=workers, flip=True, colour_jitter=0.2)):
            assert one["clip_id"] == other["clip_id"]
            assert all(torch.equal(one[name], other[name]) for name in one if name != "clip_id")


def test_ranks_share_the_sequence_batch_by_batch(dataset):
    whole = names(read(dataset, 8, batch_size=3))
    config = LoaderConfig(batch_size=3)
    ranks = [itertools.islice(ClipWindows(*dataset, config, rank, 2), 4) for rank in range(2)]
    assert names(itertools.chain.from_iterable(zip(*ranks))) == whole


@pytest.mark.parametrize("workers", [(0, 2), (2, 1)])
def test_resuming_misses_no_sample_and_repeats_none(dataset, workers):
    whole = names(read(dataset, 12))
    before, after = workers
    loader = Loader(ClipWindows(*dataset, LoaderConfig(batch_size=4)), before)
    seen = names(itertools.islice(loader, 5))
    state = json.loads(json.dumps(loader.state_dict()))
    resumed = Loader(ClipWindows(*dataset, LoaderConfig(batch_size=4)), after)
    resumed.load_state_dict(state)
    seen += names(itertools.islice(resumed, 7))
    assert resumed.state_dict()["samples"] == 48
    assert seen == whole


def test_ranks_and_batch_size_may_change_at_a_checkpoint(dataset):
    whole = names(read(dataset, 6))
    loader = Loader(ClipWindows(*dataset, LoaderConfig(batch_size=6)), 0)
    seen = names(itertools.islice(loader, 2))
    ranks = []
    for rank in range(2):
        resumed = Loader(ClipWindows(*dataset, LoaderConfig(batch_size=3), rank, 2), 0)
        resumed.load_state_dict(loader.state_dict())
        ranks.append(itertools.islice(resumed, 2))
    assert seen + names(itertools.chain.from_iterable(zip(*ranks))) == whole


def test_a_checkpoint_of_another_order_is_refused(dataset):
    state = Loader(ClipWindows(*dataset, LoaderConfig()), 0).state_dict()
    for options in ({"seed": 1}, {"split": "train"}, {"windows_per_visit": 1}):
        with pytest.raises(UserError, match="another order"):
            Loader(ClipWindows(*dataset, LoaderConfig(**options)), 0).load_state_dict(state)


def test_a_bounded_loader_ends_with_a_short_batch_and_starts_anew(dataset):
    loader = Loader(ClipWindows(*dataset, LoaderConfig(batch_size=4, epochs=1, windows_per_visit=2)), 2)
    first, second = list(loader), list(loader)
    assert [len(batch["clip_id"]) for batch in first] == [4, 4, 4, 4, 4, 2]
    assert names(first) == names(second)
