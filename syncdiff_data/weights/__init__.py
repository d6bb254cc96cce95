"""Third-party weight files: one registry, one order of lookup, no download unasked."""

from syncdiff_data.weights.registry import WEIGHTS, WeightFile
from syncdiff_data.weights.store import file_sha256, find_weights, given_weights

__all__ = ["WEIGHTS", "WeightFile", "file_sha256", "find_weights", "given_weights"]
