"""Videos to a data set of aligned face clips.

    python pipelines/preprocess.py --source lrs3 --root /data/lrs3 --out /data/clips
    ray job submit --working-dir . -- python pipelines/preprocess.py --source lrs3 --root /data/lrs3 --out /data/clips

Run it again after any interruption: finished shards are kept, the rest is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from syncdiff_data.cli import RayOptions, WeightFlags, run, shared_path
from syncdiff_data.clips import VERSION, ClipConfig
from syncdiff_data.plans import Plan, make_plans, plan_hash
from syncdiff_data.preprocess import PreprocessStage, recipe_config, recipe_weights, totals
from syncdiff_data.ranges import AT_LEAST_0, AT_LEAST_1, check_ranges
from syncdiff_data.reasons import Reason
from syncdiff_data.recipe import Recipe
from syncdiff_data.registry import choices
from syncdiff_data.shards.dataset import Dataset
from syncdiff_data.shards.lifecycle import finish_dataset, start_dataset
from syncdiff_data.shards.store import Store
from syncdiff_data.sources import SOURCES, list_sources, source_root
from syncdiff_data.stage import (
    exclusive,
    probe_nodes,
    raise_unexpected,
    ray_session,
    refuse_if_unread,
    run_stage,
)
from syncdiff_data.stage.probe import sample
from syncdiff_data.weights import given_weights


@dataclass(frozen=True)
class Options:
    source: Annotated[str, tyro.conf.arg(metavar=choices(SOURCES))]
    """Layout of the root (docs/sources.md); module:NAME is an Adapter of your own."""
    root: Path
    """Folder of the videos; for `folder` also a CSV with a column `path`."""
    out: str
    """Folder or s3:// URI of the data set."""
    name: str | None = None
    """Data set name, part of every clip_id; unset means the source's."""
    split: str | None = None
    """Only this split; unset takes all."""
    limit: int | None = None
    """Only the first so many sources of the sorted list; unset takes all."""
    lists: Path | None = None
    """Folder of the list files of LRS2 or TalkVid; unset means the root."""
    shard_size: int = 32
    """Sources per shard."""
    retry_failed: bool = False
    """Run shards again that hold rejects of kind `failed`."""
    verify: bool = False
    """Read every byte of the shards that are there already, and make damaged ones again; unset reads their footers."""
    source_timeout: float = 300
    """Seconds without a heartbeat (a new frame) after which a source's worker is ended; 0: never."""
    weights: WeightFlags = ()
    """Use this file for a weight; repeatable. `python -m syncdiff_data weights list` names them. mean-face=FILE takes
    AV-HuBERT's own 20words_mean_face.npy instead of the mean face that comes with syncdiff."""
    overwrite: bool = False
    """Replace a data set of another recipe instead of refusing."""
    clips: ClipConfig = field(default_factory=ClipConfig)
    ray: RayOptions = field(default_factory=RayOptions)


def main(options: Options) -> None:
    check_ranges(options, {"shard_size": AT_LEAST_1, "source_timeout": AT_LEAST_0})
    root, out = Path(shared_path("--root", options.root)), shared_path("--out", options.out)
    plans = make_plans(
        list_sources(options.source, root, options.split, options.limit, options.lists), options.shard_size
    )
    files, hashes = recipe_weights(options.clips, given_weights(options.weights))
    recipe = Recipe.of("clips", options.name or options.source, VERSION, recipe_config(options.clips), hashes)

    with exclusive(out):
        done = make_dataset(options, Path(source_root(root)), out, plans, recipe, files)
    counts = done.counts
    rejects = ", ".join(f"{count} {reason}" for reason, count in counts["rejects_by_reason"].items())
    print(f"{out}: {counts['clips']} clips of {counts['sources']} sources; rejects: {rejects or 'none'}")
    unexpected = counts["rejects_by_reason"].get(Reason.UNEXPECTED_ERROR, 0)
    raise_unexpected(unexpected, counts["sources"], "sources", f"{out}/rejects")


def make_dataset(
    options: Options, root: Path, out: str, plans: list[Plan], recipe: Recipe, files: Mapping[str, Path]
) -> Dataset:
    """Start or resume the data set, make what is missing on Ray, and mark it complete."""
    store = Store(out)
    dataset = start_dataset(store, recipe, plan_hash([p.hash for p in plans]), len(plans), options.overwrite)
    stage = PreprocessStage(
        root=str(root),
        out=out,
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        config=options.clips,
        weights=tuple((name, str(file)) for name, file in files.items()),
        device=options.ray.device,
        retry_failed=options.retry_failed,
        verify=options.verify,
        heartbeat_timeout=options.source_timeout,
    )
    sources = [source for plan in plans for source in plan.sources]
    with ray_session(options.ray):
        probe_nodes(out, sample(root / source.path for source in sources))
        shards = run_stage(stage, plans, options.ray, len(sources))
    counts = totals(shards)
    unread = counts["rejects_by_reason"].get(Reason.READ_ERROR, 0)
    refuse_if_unread(unread, len(sources), "sources", str(root))
    return finish_dataset(store, dataset, counts)


def command() -> None:
    """The command line."""
    run(main, Options, __doc__)


if __name__ == "__main__":
    command()
