"""dataset.json: what a data set holds and what made it; written when the data set is complete."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from syncdiff_data.documents import parse_json
from syncdiff_data.recipe import Recipe, canonical_json
from syncdiff_data.records import UserError
from syncdiff_data.shards.schema import DAMAGED_PARQUET, SCHEMA_VERSION, Footer, has_columns, shard_path
from syncdiff_data.shards.store import Store

DATASET_FILE = "dataset.json"
FOLDERS = {"clips": ("clips", "rejects"), "features": ("features", "rejects")}
"""Kind -> the tables of such a data set, each in a folder of its name."""
MOST_SHARDS = 1_000_000
"""A file that says more is damaged: their names alone would fill the memory."""
MAKE_AGAIN = "Delete it and run the command that makes the data set again: only this shard is made anew."


@dataclass(frozen=True)
class Dataset:
    """The typed content of dataset.json. No times, no hosts: equal runs give equal files."""

    kind: str
    """`clips` or `features`."""
    name: str
    recipe: Mapping[str, Any]
    """As `Recipe`; its `config` is a mapping."""
    fingerprint: str
    plan_hash: str
    num_shards: int
    complete: bool
    """False from the first shard until the last one is there and checked."""
    counts: Mapping[str, Any] = field(default_factory=dict)
    """sources, clips, frames, rejects and rejects by reason (clips), or clips and frames (features)."""
    environments: list[dict[str, str]] = field(default_factory=list)
    """What the shards were made with: versions of libraries, machine, device. More than one where a run was resumed
    elsewhere."""
    schema_version: int = SCHEMA_VERSION

    def shards(self, kind: str | None = None) -> list[str]:
        """Names of all shards of a table, in order."""
        return [shard_path(kind or self.kind, i, self.num_shards) for i in range(self.num_shards)]

    def setting(self, what: str) -> Any:
        """One of the recipe's settings. UserError where dataset.json does not say it."""
        found = self.recipe.get("config", {})
        if what not in found:
            raise UserError(
                f"The {DATASET_FILE} of {self.name!r} is damaged: its recipe does not say {what}."
            )
        return found[what]

    def count(self, what: str) -> int:
        """One of the counts. UserError where dataset.json does not say it."""
        found = self.counts.get(what)
        if not isinstance(found, int):
            raise UserError(f"The {DATASET_FILE} of {self.name!r} is damaged: it does not count its {what}.")
        return found

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
    try:
        raw = parse_json(store.read_text(DATASET_FILE))
        version = raw["schema_version"]
        dataset = _checked(Dataset(**raw)) if version == SCHEMA_VERSION else None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{DATASET_FILE} of {store.uri} is damaged ({error}). Delete the folder, or put a copy of the file back."
        ) from error
    if dataset is None:
        raise UserError(
            f"{store.uri} has schema version {version}, this release reads {SCHEMA_VERSION}. Make it again with "
            "this release, in another folder."
        )
    if kind and dataset.kind != kind:
        raise UserError(f"{store.uri} is a data set of {dataset.kind}, where one of {kind} was expected.")
    if must_be_complete and not dataset.complete:
        raise UserError(f"{store.uri} is not finished: run the command that makes it again, it resumes.")
    return dataset


def _checked(dataset: Dataset) -> Dataset:
    """The description itself. ValueError where a field is not what it should be: others may have written it."""
    canonical_json(asdict(dataset)).encode()  # ValueError for lone surrogates, which JSON may hold
    right = {
        "kind": dataset.kind in FOLDERS,
        "recipe": _is_recipe(dataset.recipe),
        "num_shards": isinstance(dataset.num_shards, int) and 0 <= dataset.num_shards <= MOST_SHARDS,
        "complete": isinstance(dataset.complete, bool),
        "counts": isinstance(dataset.counts, dict),
        "environments": isinstance(dataset.environments, list),
        **{name: isinstance(getattr(dataset, name), str) for name in ("name", "fingerprint", "plan_hash")},
    }
    for name, is_right in right.items():
        if not is_right:
            raise ValueError(f"its {name} cannot be {str(getattr(dataset, name))[:80]!r}")
    return dataset


def shards_there(store: Store, dataset: Dataset, folders: Sequence[str]) -> list[int]:
    """Numbers of the shards that are there in each of these tables. A folder is listed once: that takes seconds where
    dataset.json counts a million of them."""
    there = {name for folder in folders for name in store.list(folder)}
    return [
        number
        for number in range(dataset.num_shards)
        if all(shard_path(folder, number, dataset.num_shards) in there for folder in folders)
    ]


def missing_sentence(
    store: Store, dataset: Dataset, folders: Sequence[str], there: Sequence[int]
) -> str | None:
    """What to say where only the shards `there` are there; None where all are."""
    count = dataset.num_shards - len(there)
    if not count:
        return None
    first = next(i for i, number in enumerate([*there, -1]) if number != i)
    names = [shard_path(folder, first, dataset.num_shards) for folder in folders]
    return (
        f"{store.uri} lacks {count:,} of the {dataset.num_shards:,} shards that its {DATASET_FILE} counts, the first "
        f"is {next(name for name in names if not store.exists(name))}. Run the command that makes the data set again: "
        "only what is missing is made."
    )


def _is_recipe(recipe: object) -> bool:
    """Whether what others ask of a recipe has its type: how clips were cropped, the licences of features."""
    config = recipe.get("config", {}) if isinstance(recipe, dict) else None
    if not isinstance(config, dict) or not isinstance(config.get("mouth", True), bool):
        return False
    faces, licences = config.get("faces", {}), config.get("licences", {})
    if not isinstance(faces, dict) or not isinstance(licences, dict):
        return False
    return all(isinstance(licence, str) for licence in licences.values())


class Shard(pq.ParquetFile):
    """A Parquet file of a data set. Damage comes out as a UserError that names the file, whenever it is met."""

    def __init__(self, store: Store, name: str):
        self.where = f"shard {name} of {store.uri}"
        with self.naming():
            super().__init__(store.open(name), page_checksum_verification=True)

    def read_row_group(self, *args: Any, **kwargs: Any) -> pa.Table:
        with self.naming():
            return super().read_row_group(*args, **kwargs)

    def read(self, *args: Any, **kwargs: Any) -> pa.Table:
        with self.naming():
            return super().read(*args, **kwargs)

    @cached_property
    def footer(self) -> Footer | None:
        return Footer.of(self.schema_arrow)

    @contextmanager
    def naming(self) -> Iterator[None]:
        try:
            yield
        except DAMAGED_PARQUET as error:
            raise UserError(f"{self.where} cannot be read ({error}). {MAKE_AGAIN}") from error


def open_shard(store: Store, name: str, dataset: Dataset) -> Shard:
    """Open a shard and check that it belongs to the data set.

    Raises UserError naming the file when it is missing, damaged, made by another recipe, or another table.
    """
    shard = Shard(store, name)
    if shard.footer is None:
        raise UserError(
            f"{shard.where} does not say in its footer what it is, or not as a shard does. {MAKE_AGAIN}"
        )
    if shard.footer.fingerprint != dataset.fingerprint:
        raise UserError(f"{shard.where} was made by another recipe than its dataset.json says.")
    with shard.naming():
        known = has_columns(name.partition("/")[0], shard.schema_arrow)
    if not known:
        raise UserError(f"the columns of {shard.where} are not those of the table. {MAKE_AGAIN}")
    return shard


def iterate_shards(store: Store, dataset: Dataset, kind: str | None = None) -> Iterator[tuple[str, Shard]]:
    """Open the shards dataset.json names, and no others, one after another."""
    for name in dataset.shards(kind):
        with open_shard(store, name, dataset) as file:
            yield name, file


def clips_without_features(store: Store, features: Dataset) -> frozenset[str]:
    """Ids of the clips that a features data set rejected: their rows hold no vectors."""
    if not features.counts.get("rejects"):
        return frozenset()
    details: list[str] = []
    for _, shard in iterate_shards(store, features, "rejects"):
        details += shard.read(columns=["detail"]).column(0).to_pylist()
    # The detail of such a reject begins with "clip ID:".
    return frozenset(detail.removeprefix("clip ").partition(":")[0] for detail in details)
