"""Plans: the sorted list of sources, split into the parts that each make one shard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from syncdiff_data.recipe import short_hash
from syncdiff_data.records import Source


@dataclass(frozen=True)
class Plan:
    """The sources of one shard. `hash` covers their relative paths, sizes and labels."""

    shard: int
    num_shards: int
    sources: tuple[Source, ...]

    @property
    def hash(self) -> str:
        return hash_of(entry_of(source) for source in self.sources)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        raw = json.loads(text)
        return cls(raw["shard"], raw["num_shards"], tuple(Source(**source) for source in raw["sources"]))


def entry_of(source: Source) -> tuple[str, int, str]:
    """(relative path, size in bytes, hash of split, speaker and text) of a source, as a shard's footer holds it."""
    return source.path, source.size, short_hash([source.split, source.speaker, source.text])


def hash_of(entries: Iterable[Sequence[str | int]]) -> str:
    """The hash of one plan, from the entries of its sources."""
    return short_hash([list(entry) for entry in entries])


def make_plans(sources: Sequence[Source], shard_size: int) -> list[Plan]:
    """Split the sorted sources into plans of `shard_size`; depends on nothing but the list."""
    ordered = sorted(sources, key=lambda source: source.path)
    pieces = [tuple(ordered[i : i + shard_size]) for i in range(0, len(ordered), shard_size)]
    return [Plan(shard, len(pieces), piece) for shard, piece in enumerate(pieces)]


def plan_hash(hashes: Sequence[str]) -> str:
    """The hash of a whole list of plans: it changes when a source comes, goes or changes its size or labels."""
    return short_hash(list(hashes))
