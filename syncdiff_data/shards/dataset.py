"""dataset.json: what a data set holds and what made it; written when the data set is complete."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow.parquet as pq

from syncdiff_data.recipe import Recipe
from syncdiff_data.records import UserError
from syncdiff_data.shards.schema import SCHEMA_VERSION, Footer, shard_path
from syncdiff_data.shards.store import Store

DATASET_FILE = "dataset.json"


@dataclass(frozen=True)
class Dataset:
    """The typed content of dataset.json. No times, no hosts: equal runs give equal files."""

    kind: str
    """`clips` or `features`."""
    name: str
    recipe: Mapping[str, Any]
    fingerprint: str
    plan_hash: str
    num_shards: int
    complete: bool
    """False from the first shard until the last one is there and checked."""
    counts: Mapping[str, Any] = field(default_factory=dict)
    """sources, clips, frames, rejects and rejects by reason (clips), or clips and frames (features)."""
    schema_version: int = SCHEMA_VERSION

    def shards(self, kind: str | None = None) -> list[str]:
        """Names of all shards of a table, in order."""
        return [shard_path(kind or self.kind, i, self.num_shards) for i in range(self.num_shards)]

    def save(self, store: Store) -> None:
        store.write_text(DATASET_FILE, json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")


def new_dataset(recipe: Recipe, plan_hash: str, num_shards: int) -> Dataset:
    """The dataset.json of a run that starts."""
    return Dataset(
        kind=recipe.kind,
        name=recipe.name,
        recipe=asdict(recipe),
        fingerprint=recipe.fingerprint,
        plan_hash=plan_hash,
        num_shards=num_shards,
        complete=False,
    )


def load_dataset(store: Store, kind: str | None = None, must_be_complete: bool = True) -> Dataset:
    """Read dataset.json.

    Raises UserError when there is none, when it is of another schema or kind, or when the run that makes the data
    set has not finished.
    """
    if not store.exists(DATASET_FILE):
        raise UserError(
            f"{store.uri} is not a data set: it has no {DATASET_FILE}. Give the folder that --out named."
        )
    raw = json.loads(store.read_text(DATASET_FILE))
    if raw.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{store.uri} has schema version {raw.get('schema_version')}, this release reads {SCHEMA_VERSION}. "
            "Make it again with this release."
        )
    dataset = Dataset(**raw)
    if kind and dataset.kind != kind:
        raise UserError(f"{store.uri} is a data set of {dataset.kind}, where one of {kind} was expected.")
    if must_be_complete and not dataset.complete:
        raise UserError(f"{store.uri} is not finished: run the command that makes it again, it resumes.")
    return dataset


def open_shard(store: Store, name: str, dataset: Dataset) -> pq.ParquetFile:
    """Open a shard and check that it belongs to the data set.

    Raises UserError naming the file when it is missing, damaged, or made by another recipe or plan.
    """
    try:
        file = pq.ParquetFile(store.open(name), page_checksum_verification=True)
    except (OSError, ValueError) as error:  # pyarrow raises ArrowInvalid, a ValueError, for damaged files
        raise UserError(
            f"shard {name} of {store.uri} cannot be read ({error}). Delete it and run the command that makes the "
            "data set again: only this shard is made anew."
        ) from error
    footer = Footer.of(file.schema_arrow)
    if footer is None or footer.fingerprint != dataset.fingerprint:
        raise UserError(f"shard {name} of {store.uri} was made by another recipe than its dataset.json says.")
    return file


def iterate_shards(
    store: Store, dataset: Dataset, kind: str | None = None
) -> Iterator[tuple[str, pq.ParquetFile]]:
    """Open the shards dataset.json names, and no others, one after another."""
    for name in dataset.shards(kind):
        with open_shard(store, name, dataset) as file:
            yield name, file
