"""Third-party weight files: one registry, one order of lookup, no download unasked."""

from syncdiff_data.weights.registry import WEIGHTS, WeightFile
from syncdiff_data.weights.store import (
    check_hash,
    file_sha256,
    find_weights,
    given_weights,
    how_to_get,
    locate,
    lookup,
)

__all__ = [
    "WEIGHTS",
    "WeightFile",
    "check_hash",
    "file_sha256",
    "find_weights",
    "given_weights",
    "how_to_get",
    "locate",
    "lookup",
]
