"""Where the CPU time of a function goes, as text."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Callable
from io import StringIO


def profile_text(work: Callable[[], object], rows: int = 16) -> str:
    """The functions that take the most CPU seconds of their own (tottime). The profile itself slows Python code, not
    libraries."""
    profile, text = cProfile.Profile(time.process_time), StringIO()
    profile.runcall(work)
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(rows)
    return "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines()) + "\n"
