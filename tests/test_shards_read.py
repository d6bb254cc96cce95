"""Reading a finished data set: clips and rejects, other libraries, object stores, summaries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from shard_data import RECIPE, SIZE, SOURCES, assert_same, build, flipped, synthetic_clip

from syncdiff_data.images import decode_jpeg
from syncdiff_data.records import UserError
from syncdiff_data.shards import Store, read_clips, read_features, read_rejects
from syncdiff_data.shards.inspect import contact_sheet, summarise
from syncdiff_data.shards.lifecycle import start_dataset
from syncdiff_data.shards.schema import shard_path
from syncdiff_data.shards.validate import validate


def test_read_api(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    clips = list(read_clips(store.uri))
    assert [(c.source, c.track) for c in clips] == [(f"v{i}.mp4", t) for i in (0, 2, 3, 5) for t in (0, 1)]
    assert_same(clips[2], synthetic_clip(SOURCES[2], 0))
    assert clips[0].face.shape == (3, SIZE, SIZE, 3)
    assert {c.source for c in read_clips(store.uri, split="train")} == {"v3.mp4", "v5.mp4"}
    assert [(r.source, r.reason, r.kind) for r in read_rejects(store.uri)] == [
        ("v1.mp4", "no_face", "filtered"),
        ("v4.mp4", "no_face", "filtered"),
    ]


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a data set"):
        list(read_clips(tmp_path))
    store = build(tmp_path / "d")
    with pytest.raises(UserError, match=r"data set of clips, where one of features was expected"):
        list(read_features(store.uri))
    path = Path(store.path(shard_path("clips", 0, 2)))
    path.write_bytes(flipped(path.read_bytes()))
    with pytest.raises(UserError, match=r"clips-00000-of-00002\.parquet of .* cannot be read"):
        list(read_clips(store.uri))
    dataset_json = tmp_path / "d" / "dataset.json"
    whole = dataset_json.read_text()
    dataset_json.write_text(whole.replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(UserError, match=r"schema version 99"):
        list(read_clips(store.uri))
    dataset_json.write_text(whole[:-30])
    with pytest.raises(UserError, match=r"dataset\.json of .* is damaged"):
        list(read_clips(store.uri))


def test_datasets_shows_the_faces_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    store = build(tmp_path / "d")
    clips = datasets.load_dataset(
        "parquet", data_files=f"{store.uri}/clips/*.parquet", split="train", cache_dir=str(tmp_path / "cache")
    )
    clips = clips.cast_column("face", datasets.List(datasets.Image()))
    first = next(read_clips(store.uri))
    assert clips[0]["clip_id"] == first.clip_id
    assert np.asarray(clips[0]["landmarks"]).shape == (3, 136)
    np.testing.assert_array_equal(np.asarray(clips[0]["face"][0]), first.face[0])


def test_a_data_set_on_an_object_store(object_store: Callable[[str], str]) -> None:
    Store(object_store("bucket")).filesystem.create_dir("bucket")
    uri = object_store("bucket/some/set")
    build(uri)
    assert validate(uri) == []
    assert len(list(read_clips(uri))) == 8
    with pytest.raises(UserError, match=r"another list of sources"):
        start_dataset(Store(uri), RECIPE, "0" * 16, 2)
    nowhere = object_store("nowhere/set").replace("&allow_bucket_creation=true", "")
    with pytest.raises(UserError, match=r"nowhere.*could not be written"):
        Store(nowhere).write_text("x", "y")


def test_inspect_shows_numbers_and_pictures(tmp_path: Path) -> None:
    from rich.console import Console

    store = build(tmp_path / "d")
    console = Console(record=True, width=200, file=(tmp_path / "log").open("w"))
    summarise(store.uri, console)
    text = console.export_text()
    assert "6 sources, 8 clips" in text
    assert "no_face" in text
    contact_sheet(store.uri, tmp_path / "sheet.png", clips=4)
    assert decode_jpeg((tmp_path / "sheet.png").read_bytes()).shape == (4 * 160, 6 * 160, 3)
