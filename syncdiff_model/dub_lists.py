"""A list of pairs dubbed on Ray: one plan and one row of the report for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from syncdiff_data.cli import RayOptions
from syncdiff_data.media.write import sweep_temporary
from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.shards.store import sweep_leftovers
from syncdiff_data.stage import Context, Failure, Stage, probe_nodes, refuse_if_unread, run_stage
from syncdiff_data.stage.probe import sample
from syncdiff_data.tables import is_file
from syncdiff_model.dub_pairs import (
    FACES,
    REPORT,
    Row,
    check_inputs_stay,
    dub_recipe,
    report_row,
    stale_dubs,
    start_dubs,
    write_report,
)
from syncdiff_model.dubbing import Dubber, DubConfig, DubFailure, DubPair
from syncdiff_model.generators import load_generator, model_files, model_fingerprint, resolve_model


@dataclass(frozen=True)
class DubStage(Stage[int, Row]):
    """Dubs the pair of that number, by itself, so that its bytes depend on no other pair."""

    model: str
    """A checkpoint, or the name of a published model."""
    config: DubConfig
    weights: tuple[tuple[str, str], ...]
    """(name, file) of weights that the user gave."""
    device: str
    pairs: Sequence[DubPair]
    out: Path
    heartbeat_timeout: float
    """Seconds without a new frame after which a pair's worker is ended; 0: never."""

    title = "dub"
    unit = "videos"
    plans_per_block = 1

    @cached_property
    def _dubber(self) -> Dubber:
        weights = {name: Path(file) for name, file in self.weights}
        generator = load_generator(self.model, self.config.sampling, weights, self.device)
        return Dubber(generator, self.config, weights, self.device)

    def setup(self) -> None:
        _ = self._dubber

    def item_name(self, plan: int) -> str:
        return self._output(plan)

    def process(self, plan: int, context: Context) -> Row:
        """The pair's row; an output that is there already is kept."""
        pair = self.pairs[plan]
        failure = None if pair.output.is_file() else self._dubber.dub(pair, context.heartbeat)
        context.report({"videos": 1, "failed": int(failure is not None)})
        return report_row(pair, self.out, failure)

    def failed(self, plan: int, failure: Failure) -> Row:
        return report_row(self.pairs[plan], self.out, DubFailure(failure.reason, failure.detail))

    def _output(self, plan: int) -> str:
        return self.pairs[plan].output.relative_to(self.out).as_posix()


@dataclass(frozen=True)
class DubList:
    """What a user chooses for one list of dubs. Paths are absolute."""

    model: str
    """A training run, a checkpoint, or the name of a published model."""
    pairs: Sequence[DubPair]
    out: Path
    ray: RayOptions
    config: DubConfig
    weights: tuple[tuple[str, str], ...] = ()
    overwrite: bool = False
    """Replace dubs of another model, other settings or other pairs."""
    pair_timeout: float = 300
    """Seconds without a new frame after which a pair's worker is ended; 0: never."""


def dub_list(job: DubList) -> list[Row]:
    """Dub every pair, leaving out those that are there already, and write REPORT; its rows, in order.

    Needs an open `ray_session`. Pairs that failed in an earlier run are tried again. Raises UserError for faults of
    the run, and, before anything is removed, where `out` holds other dubs that may not be overwritten, where no pair
    has its files, and where the model does not load.
    """
    # A run in training makes new checkpoints meanwhile: all workers load the one that is the newest now.
    weights = {name: Path(file) for name, file in job.weights}
    model = resolve_model(job.model)
    recipe = dub_recipe(job.config, job.pairs, job.out, model_fingerprint(model, weights))
    stale = stale_dubs(job.out, recipe, job.overwrite)
    check_inputs_stay(job.pairs, stale)
    missing = {pair.output: _missing_input(pair) for pair in job.pairs}
    there = [pair for pair in job.pairs if not missing[pair.output]]
    if not there:
        raise UserError(
            f"none of the {len(job.pairs)} pairs has both of its files: {missing[job.pairs[0].output]}."
        )
    load_generator(model, job.config.sampling, weights)
    videos, sounds = [pair.video for pair in there], [pair.audio for pair in there]
    probe_nodes(str(job.out), sample(videos, sounds, model_files(model, weights)))
    for folder in (job.out, job.out / FACES):
        sweep_leftovers(folder)  # of a run that was killed
    sweep_temporary(pair.output.parent for pair in job.pairs)
    start_dubs(job.out, recipe, stale)
    stage = DubStage(
        model=model,
        config=replace(job.config, face_cache=job.config.face_cache or job.out / FACES),
        weights=job.weights,
        device=job.ray.device,
        pairs=there,
        out=job.out,
        heartbeat_timeout=job.pair_timeout,
    )
    made = dict(zip((pair.output for pair in there), run_stage(stage, range(len(there)), job.ray)))
    sweep_temporary(pair.output.parent for pair in job.pairs)  # of workers that crashed
    rows = [
        made.get(pair.output)
        or report_row(pair, job.out, DubFailure(Reason.MISSING_INPUT, str(missing[pair.output])))
        for pair in job.pairs
    ]
    write_report(job.out / REPORT, rows)
    unread = sum(row["reason"] == Reason.READ_ERROR for row in rows)
    refuse_if_unread(unread, len(rows), "pairs", "the folders of the videos and sounds")
    return rows


def _missing_input(pair: DubPair) -> str | None:
    """A sentence on the first of the pair's files that does not exist."""
    return next((f"{path} does not exist" for path in (pair.video, pair.audio) if not is_file(path)), None)
