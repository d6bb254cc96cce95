"""What a driver keeps of each stage that it has run, the work itself left out.

    python benchmarks/driver_memory.py [--runs 200]

One process with one Ray runs a stage of twelve plans that do nothing, again and again, as soak.py does with real ones.
After each fifth of the runs a row: anonymous pages of the driver beyond those after warming up, and what a run of that
fifth has added. The first runs fill the allocator's arenas; later ones add what Ray keeps.
"""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass

import tyro
from soak import anonymous

from syncdiff_data.cli import RayOptions
from syncdiff_data.stage import Context, Stage, ray_session, run_stage

PLANS = range(12)
WARMING_UP = 30


@dataclass(frozen=True)
class Options:
    runs: int = 200


@dataclass(frozen=True)
class Nothing(Stage[int, int]):
    """A stage whose plans take no time."""

    title: str = "nothing"
    unit: str = "plans"
    plans_per_block: int = 1

    def process(self, plan: int, context: Context) -> int:
        context.report({"plans": 1})
        return plan


def used_kib() -> float:
    gc.collect()
    return 1024 * anonymous(os.getpid())


def main(options: Options) -> None:
    ray, fifth = RayOptions(workers=2), options.runs // 5
    with ray_session(ray):
        for _ in range(WARMING_UP):
            run_stage(Nothing(), PLANS, ray)
        grown = [used_kib()]
        for _ in range(5):
            for _ in range(fifth):
                run_stage(Nothing(), PLANS, ray)
            grown.append(used_kib())
    print("| runs | KiB more than at first | KiB a run, of this fifth |")
    print("|--:|--:|--:|")
    for number in range(1, 6):
        added = (grown[number] - grown[number - 1]) / fifth
        print(f"| {number * fifth} | {grown[number] - grown[0]:.0f} | {added:.0f} |")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
