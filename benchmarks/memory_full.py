"""One item of a run takes all memory of its node: is it given up, and are the others finished?

    python benchmarks/memory_full.py [--allowed 2] [--allocated 5]

Ray's memory monitor ends workers where a node's memory is full. Here it is set to what is used at the start and
--allowed GB more; of twelve items one allocates --allocated GB and waits. The monitor ends its worker, and with it the
actor that counts crashes, so both must be there again at the next try. The item must end as a failure `worker_crashed`
after three tries, all others with their results. Status 0 where that is so.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np
import psutil
import tyro

from syncdiff_data.cli import RayOptions
from syncdiff_data.stage import Context, Failure, Stage, ray_session, run_stage

ITEMS, HUNGRY = 12, 5


@dataclass(frozen=True)
class Options:
    allowed: float = 2.0
    """GB beside what is used at the start."""
    allocated: float = 5.0
    """GB that one item takes."""
    workers: int = 2


@dataclass(frozen=True)
class Allocating(Stage[int, str]):
    """Plans are numbers; one of them allocates so many GB."""

    gigabytes: float

    title = "memory"
    unit = "items"
    plans_per_block = 1

    def item_name(self, plan: int) -> str:
        return f"item {plan}"

    def process(self, plan: int, context: Context) -> str:
        if plan == HUNGRY:
            np.ones(int(self.gigabytes * 1e9 / 8)).sum()
            time.sleep(60)
        return "finished"

    def failed(self, plan: int, failure: Failure) -> str:
        return str(failure.reason)


def main(options: Options) -> None:
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + options.allowed * 1e9) / memory.total
    os.environ |= {"RAY_memory_usage_threshold": f"{limit:.3f}"}
    began = time.monotonic()
    ray_options = RayOptions(workers=options.workers)
    with ray_session(ray_options):
        results = run_stage(Allocating(options.allocated), range(ITEMS), ray_options)
    expected = ["worker_crashed" if number == HUNGRY else "finished" for number in range(ITEMS)]
    print(f"{results.count('finished')} of {ITEMS} finished, item {HUNGRY}: {results[HUNGRY]}")
    print(f"{time.monotonic() - began:.0f} s, of which Ray waits longer before each new try")
    raise SystemExit(results != expected)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
