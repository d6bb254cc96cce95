"""Samples of the loader: one clock for all parts, other libraries and stores, what a window may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loader_data import FEATURE_SIZE, SIZE, frame_numbers, names, numbered_clip, read

from syncdiff_data.extract import ExtractConfig, ExtractStage
from syncdiff_data.loader import LoaderConfig
from syncdiff_data.loader.sample import choose_frames
from syncdiff_data.records import UserError
from syncdiff_data.shards import Store, read_features
from syncdiff_data.shards.dataset import Dataset
from syncdiff_data.stage import Context


def test_every_part_of_a_sample_shows_the_same_moment(dataset):
    window, context, offset = 5, 3, 2
    for batch in read(dataset, 8, window=window, context=context, pose_offset=offset):
        numbers = torch.tensor([int(name[4:]) for name in batch["clip_id"]])
        last = (numbers + 9)[:, None]
        times = batch["first_frame"][:, None] + torch.arange(window)
        assert batch["frames"].shape == (4, window, 3, SIZE, SIZE)
        assert batch["features"].shape == (4, window, context, FEATURE_SIZE)
        assert batch["features"].dtype == batch["landmarks"].dtype == torch.float32
        assert torch.equal(frame_numbers(batch["frames"]), times)
        assert torch.equal(frame_numbers(batch["pose"]), (times - offset).clamp(min=0))
        around = (times[..., None] + torch.arange(-1, 2)).clamp(min=0).minimum(last[..., None])
        assert torch.equal(batch["features"][..., 1].long(), around)
        assert torch.equal(batch["features"][..., 0].long(), numbers[:, None, None].expand_as(around))
        identity = frame_numbers(batch["identity"])
        assert ((identity < times[:, 0]) | (identity > times[:, -1])).all()
        assert (identity <= last[:, 0]).all()
        for number, time, crop in zip(numbers, times, batch["landmarks"]):
            clip = numbered_clip(int(number), 10 + int(number))
            turn, shift = clip.face_to_source[0, :, :2], clip.face_to_source[0, :, 2]
            np.testing.assert_allclose(crop.numpy() @ turn.T + shift, clip.landmarks[time], atol=1e-3)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(-9, 9), st.integers(0, 2**32))
def test_frames_lie_inside_the_clip(num_frames, window, offset, seed):
    window = min(window, num_frames)
    config = LoaderConfig(pose_offset=offset)
    chosen = choose_frames(num_frames, window, config, np.random.default_rng(seed))
    assert chosen.window.tolist() == list(range(chosen.window[0], chosen.window[0] + window))
    assert 0 <= chosen.window[0] <= chosen.window[-1] < num_frames
    assert 0 <= chosen.identity < num_frames
    assert num_frames == window or chosen.identity not in chosen.window
    assert chosen.pose_known.tolist() == [0 <= t - offset < num_frames for t in chosen.window]
    assert chosen.pose.tolist() == [min(max(t - offset, 0), num_frames - 1) for t in chosen.window]


def test_without_features_and_by_split(dataset):
    batch = read((dataset[0], None), 1, split="val", windows_per_visit=1)[0]
    assert "features" not in batch
    assert set(batch["clip_id"]) <= {"clip0008", "clip0009", "clip0010"}
    with pytest.raises(UserError, match="splits: train, val"):
        read(dataset, 1, split="test")
    with pytest.raises(UserError, match="with 21 frames"):
        read(dataset, 1, window=21)
    with pytest.warns(UserWarning, match="9 clips of .* under 19 frames"):
        assert {name for name, _ in names(read(dataset, 4, window=19))} == {"clip0009", "clip0010"}


def test_the_chain_from_a_checkpoint_to_a_batch(dataset, checkpoint, tmp_path):
    """A random AV-HuBERT of the published layout -> feature shards -> a batch that holds its numbers."""
    store = Store(tmp_path / "features")
    config = ExtractConfig("avhubert", (2, None))
    work = ExtractStage(dataset[0], store.uri, "f", config, (("avhubert-base", str(checkpoint)),), "cpu")
    for shard in range(4):
        work.process(shard, Context())
    Dataset("features", "made", {"config": {"clips": "clips"}}, "f", "plan", 4, complete=True).save(store)

    stored = {clip: columns["layer2"] for clip, columns in read_features(store.uri)}
    batch = read((dataset[0], store.uri), 1, feature="layer2", context=1)[0]
    assert batch["features"].abs().max() > 0
    for name, first, features in zip(batch["clip_id"], batch["first_frame"], batch["features"]):
        np.testing.assert_array_equal(
            features[:, 0].numpy(), stored[name][first : first + 5].astype(np.float32)
        )


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_object_store_gives_the_same_batches(dataset, object_store, workers):
    from pyarrow import fs

    store, _ = fs.FileSystem.from_uri(object_store("shards"))
    store.create_dir("shards")
    fs.copy_files(str(Path(dataset[0]).parent), "shards/made", destination_filesystem=store)
    bucket = object_store("shards/made/clips"), object_store("shards/made/features")
    for one, other in zip(read(dataset, 6), read(bucket, 6, workers=workers)):
        assert one["clip_id"] == other["clip_id"]
        assert all(torch.equal(one[name], other[name]) for name in one if name != "clip_id")
