"""A data set that is started again: other recipes and sources, overwriting, finishing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from shard_data import RECIPE, SIZE, SOURCES, build

from syncdiff_data.plans import make_plans, plan_hash
from syncdiff_data.recipe import Recipe
from syncdiff_data.records import UserError
from syncdiff_data.shards import Store, load_dataset, read_clips
from syncdiff_data.shards.lifecycle import finish_dataset, start_dataset
from syncdiff_data.shards.schema import Footer, shard_path
from syncdiff_data.shards.validate import validate
from syncdiff_data.shards.write import is_committed


def test_another_recipe_is_refused_and_the_differences_named(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    before = load_dataset(store)
    other = Recipe.of(
        "clips", "synthetic", 2, {"faces": {"crop_size": 128}, "mouth": True}, {"net": "cd" * 32}
    )
    with pytest.raises(UserError) as refused:
        start_dataset(store, other, before.plan_hash, 2)
    text = str(refused.value)
    assert "config.faces.crop_size: 16 there, 128 now" in text
    assert "version: 1 there, 2 now" in text
    assert "weights.net" in text
    assert "mouth" not in text
    assert load_dataset(store) == before
    assert len(list(read_clips(store.uri))) == 8


def test_a_changed_list_of_sources_is_refused(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    with pytest.raises(UserError, match=r"another list of sources"):
        start_dataset(store, RECIPE, "0" * 16, 2)
    assert validate(store.uri) == []


def test_overwrite_takes_its_own_files_and_no_others(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    store.write_text("notes.md", "mine")
    other = replace(RECIPE, version=2)
    start_dataset(store, other, "0" * 16, 5, overwrite=True)
    assert store.list("clips") == store.list("rejects") == []
    assert store.read_text("notes.md") == "mine"
    with pytest.raises(UserError, match=r"not finished"):
        load_dataset(store)


def test_overwrite_for_other_sources_keeps_the_shards_that_are_the_same(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    changed = [*SOURCES[:5], replace(SOURCES[5], size=999)]
    plans = make_plans(changed, 3)
    start_dataset(store, RECIPE, plan_hash([p.hash for p in plans]), 2, overwrite=True)
    footers = [
        Footer("clips", RECIPE.fingerprint, plan.hash, plan.shard, 2, crop_size=SIZE) for plan in plans
    ]
    assert [is_committed(store, footer) for footer in footers] == [True, False]


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(UserError, match=r"not empty and is not a data set"):
        start_dataset(Store(tmp_path), RECIPE, "0" * 16, 1, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_finishing_without_a_shard_is_refused(tmp_path: Path) -> None:
    store = build(tmp_path / "d")
    store.delete(shard_path("rejects", 1, 2))
    with pytest.raises(UserError, match=r"rejects-00001-of-00002\.parquet"):
        finish_dataset(store, load_dataset(store), {})
