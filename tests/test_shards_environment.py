"""Kind 47: a data set says which libraries, machine and device its shards were made with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shard_data import RECIPE, SOURCES, build, fill

from syncdiff_data.environment import environment
from syncdiff_data.plans import make_plans, plan_hash
from syncdiff_data.shards import write
from syncdiff_data.shards.dataset import DATASET_FILE
from syncdiff_data.shards.lifecycle import finish_dataset, start_dataset
from syncdiff_data.shards.store import Store


def test_kind_47_a_data_set_names_its_environment(tmp_path: Path) -> None:
    build(tmp_path / "clips")
    (found,) = json.loads((tmp_path / "clips" / DATASET_FILE).read_text())["environments"]
    assert found == environment("cpu")
    assert found["device"] == "cpu"
    assert found["pyarrow"].split(".")[0].isdigit()


def test_kind_47_a_run_resumed_with_other_libraries_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shards that were there are kept: the recipe is the same."""
    store, plans = Store(tmp_path / "clips"), make_plans(SOURCES, 3)
    dataset = start_dataset(store, RECIPE, plan_hash([p.hash for p in plans]), len(plans))
    fill(store, plans[0], dataset.fingerprint)
    monkeypatch.setattr(write, "environment", lambda device: environment(device) | {"torch": "99"})
    again = start_dataset(store, RECIPE, plan_hash([p.hash for p in plans]), len(plans))
    fill(store, plans[1], again.fingerprint)
    done = finish_dataset(store, again, {"sources": 6, "clips": 8})
    assert [e["torch"] for e in done.environments] in (
        [environment()["torch"], "99"],
        ["99", environment()["torch"]],
    )
