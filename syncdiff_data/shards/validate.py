"""Does a data set keep its promises? Every invariant of docs/dataset.md, read from the shards alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from os import PathLike, fspath

from syncdiff_data.plans import plan_hash
from syncdiff_data.records import UserError
from syncdiff_data.shards.check import ShardChecker, ShardReport
from syncdiff_data.shards.dataset import FOLDERS, Dataset, missing_sentence, shards_there
from syncdiff_data.shards.store import Store

CheckShards = Callable[[ShardChecker, Sequence[int]], Sequence[ShardReport]]
"""Gives the reports of the shards of these numbers, in order."""


def check_in_turn(checker: ShardChecker, numbers: Sequence[int]) -> list[ShardReport]:
    """The reports, one after another in this process."""
    return [checker.check(number) for number in numbers]


def validate(
    dataset: str | PathLike[str],
    clips: str | PathLike[str] | None = None,
    check_shards: CheckShards = check_in_turn,
) -> list[str]:
    """What is wrong with a data set of clips or features, one sentence each; an empty list when all is well.

    Reads every byte. clips: the clips data set that features are checked against, row by row. check_shards: how the
    shards are checked (`syncdiff_data.validation` does it on Ray).
    Raises UserError when the folder is no data set at all.
    """
    checker = ShardChecker(fspath(dataset), None if clips is None else fspath(clips))
    description, beside = checker.description, checker.clips_description
    if clips is not None and description.kind == "clips":
        raise UserError(
            f"{checker.dataset} is a data set of clips: --clips is what features are compared with."
        )
    problems = [] if description.complete else ["dataset.json says that the run is not finished"]
    if beside is not None and beside.num_shards != description.num_shards:
        problems.append(f"{description.num_shards} shards of features for {beside.num_shards} of clips")
    # Rejects of features are read where dataset.json counts some.
    folders = FOLDERS["clips"] if description.kind == "clips" else ("features",)
    store = Store(checker.dataset)
    there = shards_there(store, description, folders)
    missing = missing_sentence(store, description, folders, there)
    problems += [missing] if missing else []
    reports = check_shards(checker, there)
    problems += (problem for report in reports for problem in report.problems)
    problems += _problems_of_all(description, reports, all_there=not missing)
    return list(dict.fromkeys(problems))


def _problems_of_all(dataset: Dataset, reports: Sequence[ShardReport], all_there: bool) -> Iterator[str]:
    """What shows only over all shards: ids that repeat, sums that differ from dataset.json's."""
    ids = Counter(clip_id for report in reports for clip_id in report.clip_ids)
    yield from (f"clip_id {clip_id} occurs {n} times" for clip_id, n in ids.items() if n > 1)
    if not (all_there and all(report.readable for report in reports)):
        return  # Sums over part of the shards would only repeat that.
    if dataset.kind == "clips" and plan_hash([report.plan_hash for report in reports]) != dataset.plan_hash:
        yield "the shards' plans are not those of dataset.json"
    if not dataset.complete:
        return
    keys = ("sources", "clips", "frames", "rejects") if dataset.kind == "clips" else ("clips",)
    for key in keys:
        held = sum(report.counts.get(key, 0) for report in reports)
        if dataset.counts.get(key) != held:
            yield f"dataset.json counts {dataset.counts.get(key)} {key}, the shards hold {held}"
