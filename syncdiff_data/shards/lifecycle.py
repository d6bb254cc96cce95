"""Starting, resuming and finishing a data set without ever losing what was there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pyarrow import fs

from syncdiff_data.recipe import Recipe
from syncdiff_data.records import UserError
from syncdiff_data.shards.dataset import DATASET_FILE, FOLDERS, Dataset, load_dataset, new_dataset, open_shard
from syncdiff_data.shards.schema import environment_of
from syncdiff_data.shards.store import LEFTOVER, Store


def start_dataset(
    store: Store, recipe: Recipe, plan_hash: str, num_shards: int, overwrite: bool = False
) -> Dataset:
    """The data set to fill: a new one, or the one that is there when recipe and plan are the same.

    Raises UserError, and changes nothing, when the folder holds a data set of another recipe or of other sources,
    or something that is no data set. `overwrite` replaces the data set instead (its shards and dataset.json, no
    other file); where only the sources changed, the shards whose sources did not are kept.
    """
    fresh = new_dataset(recipe, plan_hash, num_shards)
    stale: list[str] = []
    if store.exists(DATASET_FILE):
        found = load_dataset(store, must_be_complete=False)
        if (found.fingerprint, found.plan_hash) == (fresh.fingerprint, fresh.plan_hash):
            _sweep(store, found.kind)
            return found
        if found.kind != fresh.kind:
            raise UserError(
                f"{store.uri} is a data set of {found.kind}, not of {fresh.kind}. Choose another --out."
            )
        if not overwrite:
            raise UserError(f"{store.uri} {_difference(found, fresh)}")
        stale = _shards_beside(store, found, fresh)
    elif _is_occupied(store):
        raise UserError(f"{store.uri} is not empty and is not a data set. Choose another --out.")
    fresh.save(store)  # From here on the shards that are there count only if their footers agree.
    for name in stale:
        store.delete(name)
    return fresh


def finish_dataset(store: Store, dataset: Dataset, counts: Mapping[str, Any]) -> Dataset:
    """Check that every shard is there, and mark the data set complete.

    Raises UserError naming the first shard that is missing or strange.
    """
    environments: list[dict[str, str]] = []
    for folder in FOLDERS[dataset.kind]:
        for name in dataset.shards(folder):
            with open_shard(store, name, dataset) as shard:
                if (found := environment_of(shard.schema_arrow)) not in environments:
                    environments.append(found)
    _sweep(store, dataset.kind)
    environments.sort(key=lambda found: sorted(found.items()))
    done = replace(dataset, complete=True, counts=dict(counts), environments=environments)
    if done != dataset:
        done.save(store)
    return done


def _difference(found: Dataset, fresh: Dataset) -> str:
    if found.fingerprint == fresh.fingerprint:
        return (
            "was made from another list of sources: files came, went, or changed their size or their labels "
            "(split, speaker, text) since. Choose another --out, or --overwrite it: "
            "shards whose sources are the same are kept."
        )
    old, new = _flat(found.recipe), _flat(fresh.recipe)
    changed = [
        f"{key}: {old.get(key)} there, {new.get(key)} now"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]
    return (
        f"was made with another recipe ({'; '.join(changed[:5])}). Choose another --out, or --overwrite it."
    )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"config.faces.crop_size": 256, ...} of nested mappings."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    out: dict[str, Any] = {}
    for key, inner in value.items():
        out |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return out


def _is_occupied(store: Store) -> bool:
    entries = store.filesystem.get_file_info(fs.FileSelector(store.base, allow_not_found=True))
    return any(not LEFTOVER.search(info.base_name) for info in entries)


def _sweep(store: Store, kind: str) -> None:
    for folder in ("", *FOLDERS[kind]):
        store.sweep(folder)


def _shards_beside(store: Store, found: Dataset, fresh: Dataset) -> list[str]:
    """Shards of the data set `found` that cannot be of `fresh`: all, or with the same recipe those of other names."""
    stale = []
    for folder in FOLDERS[found.kind]:
        kept = set(fresh.shards(folder)) if found.fingerprint == fresh.fingerprint else set()
        stale += [name for name in store.list(folder) if name not in kept]
    return stale
