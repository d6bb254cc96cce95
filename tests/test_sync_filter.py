"""Offsets as columns of a data set, and training that leaves clips out and repairs others by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from runs import extract, preprocess

from syncdiff_data.clips import ClipConfig
from syncdiff_data.demo import talker_clip
from syncdiff_data.faces import FaceConfig
from syncdiff_data.loader import ClipWindows
from syncdiff_data.loader.config import LoaderConfig
from syncdiff_data.loader.sync import SyncFilter, shift_sound
from syncdiff_data.media import write_video
from syncdiff_data.records import SAMPLES_PER_FRAME, UserError
from syncdiff_data.shards import Store, load_dataset, read_clips, read_features
from syncdiff_data.shards.inspect import summarise
from syncdiff_data.shards.validate import validate
from syncdiff_model.sync_data import load_sync_clips

FRAMES, LATE = 75, 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """One talker three times: in step, with the sound five frames late, and with no sound but noise."""
    folder = tmp_path_factory.mktemp("sync")
    frames, audio, _ = talker_clip(3, num_frames=FRAMES)
    sounds = {
        "a": audio,
        "b": np.concatenate([np.zeros(LATE * SAMPLES_PER_FRAME, np.int16), audio])[: len(audio)],
        "c": np.random.default_rng(0).normal(0, 300, len(audio)).astype(np.int16),
    }
    (folder / "videos").mkdir()
    for name, sound in sounds.items():
        write_video(folder / "videos" / f"{name}.mp4", frames, sound)
    config = ClipConfig(faces=FaceConfig(crop_size=64))
    preprocess(folder / "videos", folder / "clips", clips=config)
    extract(folder / "clips", folder / "sync", "sync", sync_expert="evaluation")
    extract(folder / "clips", folder / "logfbank")
    return folder


def test_the_columns_are_the_contracts_and_the_data_set_is_valid(data: Path) -> None:
    rows = dict(read_features(data / "sync"))
    by_name = {clip.source[0]: rows[clip.clip_id] for clip in read_clips(data / "clips")}
    assert set(by_name["a"]) == {"sync_offset", "sync_confidence", "sync_curve"}
    assert by_name["a"]["sync_curve"].shape == (31,)
    best = int(np.nanargmax(by_name["b"]["sync_curve"])) - 15
    assert best == int(by_name["b"]["sync_offset"]), "the curve runs as the offset counts"
    late = int(by_name["b"]["sync_offset"]) - int(by_name["a"]["sync_offset"])
    assert abs(late - LATE) <= 1, "positive: the sound comes late"
    assert float(by_name["c"]["sync_confidence"]) < float(by_name["a"]["sync_confidence"]) / 2
    assert validate(data / "sync", data / "clips") == []


def test_another_expert_makes_another_data_set(data: Path) -> None:
    assert "sync_expert" in load_dataset(Store(data / "sync"), "features").recipe["weights"]


def test_the_loader_leaves_clips_out_and_moves_the_sound(data: Path) -> None:
    clips, features = data / "clips", data / "logfbank"
    names = {clip.clip_id: clip.source[0] for clip in read_clips(clips)}
    plain = ClipWindows(clips, features, LoaderConfig(window=FRAMES, batch_size=1, epochs=1, context=1))
    sync = SyncFilter(str(data / "sync"), min_confidence=0.1)
    kept = ClipWindows(
        clips, features, LoaderConfig(window=FRAMES, batch_size=1, epochs=1, context=1, sync=sync)
    )
    assert sorted(names[name] for name in kept.index.clip_id) == ["a", "b"]
    few = SyncFilter(str(data / "sync"), max_offset=LATE - 2, min_confidence=0.1)
    in_step = ClipWindows(
        clips, features, LoaderConfig(window=FRAMES, batch_size=1, epochs=1, context=1, sync=few)
    )
    assert [names[name] for name in in_step.index.clip_id] == ["a"]
    before = {batch["clip_id"][0]: batch["features"][0, :, 0].numpy() for batch in plain}
    for batch in kept:
        clip_id = batch["clip_id"][0]
        (late,) = kept.index.sound_late[kept.index.clip_id == clip_id]
        np.testing.assert_array_equal(batch["features"][0, :, 0], shift_sound(before[clip_id], int(late)))
    assert kept.order_fingerprint != plain.order_fingerprint


def test_training_of_the_expert_takes_the_repaired_clips(data: Path) -> None:
    sync = SyncFilter(str(data / "sync"), min_confidence=0.1)
    repaired = load_sync_clips(data / "clips", None, 28, sync)
    assert len(repaired) == 2
    assert len(load_sync_clips(data / "clips", None, 28)) == 3


@given(st.integers(1, 40), st.integers(-20, 20))
def test_sound_is_moved_and_edges_are_repeated(frames: int, late: int) -> None:
    moved = shift_sound(np.arange(frames), late)
    expected = [min(max(t + late, 0), frames - 1) for t in range(frames)]
    assert moved.tolist() == expected


def test_what_is_no_sync_data_set_is_a_sentence(data: Path) -> None:
    clips = load_dataset(Store(data / "clips"), "clips")
    with pytest.raises(UserError, match="expected sync_offset and sync_confidence"):
        SyncFilter(str(data / "logfbank")).shifts(clips)
    other = load_dataset(Store(data / "logfbank"), "features")
    with pytest.raises(UserError, match="made from other clips"):
        SyncFilter(str(data / "sync")).shifts(other)
    with pytest.raises(UserError, match="has the features none"):
        ClipWindows(data / "clips", data / "sync", LoaderConfig(window=5))


def test_inspect_shows_histograms_and_the_clips_out_of_step(data: Path) -> None:
    console = Console(width=120, record=True)
    summarise(data / "sync", console, str(data / "clips"))
    text = console.export_text()
    assert "frames by which the sound comes late" in text
    assert "confidence from" in text
    assert "b.mp4 track 0 at 0.0 s" in text
