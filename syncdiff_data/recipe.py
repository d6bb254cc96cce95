"""What made a data set: frozen configuration, hand-bumped version, weights' hashes, and their fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

FINGERPRINT_CHARS = 16


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text on every machine."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def short_hash(value: Any) -> str:
    """The first 16 hex digits of the SHA-256 of a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:FINGERPRINT_CHARS]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the bytes of a data set, besides its sources and the library versions."""

    kind: str
    """`clips` or `features`."""
    name: str
    """Data set name; part of every clip_id."""
    version: int
    """The pipeline's version, bumped by hand when its output changes."""
    config: Mapping[str, Any]
    weights: Mapping[str, str]
    """Name of each weight file used -> its SHA-256."""

    @classmethod
    def of(cls, kind: str, name: str, version: int, config: Any, weights: Mapping[str, str]) -> Recipe:
        """A recipe from a configuration dataclass (or a plain mapping)."""
        plain = asdict(config) if is_dataclass(config) and not isinstance(config, type) else dict(config)
        return cls(kind, name, version, json.loads(canonical_json(plain)), dict(weights))

    @property
    def fingerprint(self) -> str:
        return short_hash(asdict(self))
