"""Options inside their ranges, or a sentence before any work starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from syncdiff_data.records import UserError

Range = tuple[float, float]
"""Lowest and highest value."""
AT_LEAST_0: Range = (0.0, math.inf)
AT_LEAST_1: Range = (1.0, math.inf)
SHARE: Range = (0.0, 1.0)
SEED: Range = (0, 2**53)
WIDTH: Range = (1, 2**16)
"""Channels of a network, windows of a batch."""
DEPTH: Range = (1, 1000)
"""Layers of a network."""


def check_ranges(config: Any, ranges: Mapping[str, Range]) -> None:
    """UserError for the first option of `config` that lies outside its range, as nan and inf always do.

    An option that is None is unset, and every one of a list must fit.
    """
    for name, (lowest, highest) in ranges.items():
        value = getattr(config, name)
        if value == ():
            raise UserError(f"{name} is empty: expected at least one value.")
        for one in value if isinstance(value, tuple | list) else (value,):
            if one is not None and not (lowest <= one <= highest and abs(one) < math.inf):
                expected = f"at least {lowest:g}" if highest == math.inf else f"{lowest:g} to {highest:g}"
                raise UserError(f"{name} is {one}: expected {expected}.")
