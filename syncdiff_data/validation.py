"""The check of a data set on Ray: its shards in parallel, one worker process each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from syncdiff_data.cli import RayOptions
from syncdiff_data.shards.check import ShardChecker, ShardReport
from syncdiff_data.shards.validate import CheckShards, check_in_turn
from syncdiff_data.stage import Context, Failure, Stage, ray_session, run_stage


@dataclass(frozen=True)
class ValidateStage(Stage[int, ShardReport]):
    """Checks shards; a plan is a shard's number, and one item."""

    checker: ShardChecker

    title = "validate"
    unit = "shards"
    plans_per_block = 1
    heartbeat_timeout: float = 600

    def item_name(self, plan: int) -> str:
        return f"shard {plan}"

    def process(self, plan: int, context: Context) -> ShardReport:
        report = self.checker.check(plan, context.heartbeat)
        context.report({"shards": 1})
        return report

    def failed(self, plan: int, failure: Failure) -> ShardReport:
        problem = f"shard {plan} could not be checked: {failure.reason}: {failure.detail}"
        return ShardReport([problem], readable=False)


def check_on_ray(options: RayOptions) -> CheckShards:
    """A way to check shards for `validate`; a single shard is checked in this process."""

    def check(checker: ShardChecker, numbers: Sequence[int]) -> list[ShardReport]:
        if len(numbers) <= 1:
            return check_in_turn(checker, numbers)
        with ray_session(options):
            return run_stage(ValidateStage(ShardChecker(checker.dataset, checker.clips)), numbers, options)

    return check
