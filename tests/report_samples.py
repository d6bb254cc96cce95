"""Reports made from drawn numbers: as large, as broken and as uneven as a test wants, without scoring a video."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from syncdiff_data.reasons import Reason
from syncdiff_eval.methods import GROUND_TRUTH, Baseline, Method, MethodType
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.base import MissingValue, applicable
from syncdiff_eval.per_clip import per_clip_table
from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.published import read_published
from syncdiff_eval.results import MetricInfo, Protocol, Reencoding, Results, Shift
from syncdiff_eval.summary import method_results, metric_infos

GAN, DIFFUSION, OTHER = MethodType.GAN, MethodType.DIFFUSION, MethodType.OTHER
METHODS = (
    Method("wav2lip", GAN, "Somebody et al. 2020."),
    Method("softgan", GAN),
    Method("latent", DIFFUSION, "Somebody else 2024."),
    Method("a_method_whose_name_says_everything-about-it", DIFFUSION),
    Method("pastes_mouths", OTHER),
)
FROZEN = Method("frozen_first_frame", OTHER, None, None, Baseline(frozen=True))
UNAVAILABLE = {"avs": "not available: python -m syncdiff_data weights import avhubert-base FILE"}
CENTRES = {"lse_c": 7.2, "lse_d": 6.8, "psnr": 31.0, "ssim": 0.85, "lmd": 2.1}
"""Of real numbers, by how a column's name begins; everything else lies about 0.4."""


@dataclass(frozen=True)
class Sample:
    results: Results
    per_clip: pa.Table

    @staticmethod
    def curve(method: str, clip: str) -> np.ndarray | None:
        """Every clip but the first has a confidence curve."""
        if clip == "clip000":
            return None
        rng = np.random.default_rng([ord(letter) for letter in method + clip])
        return (6 + np.cumsum(rng.normal(0, 0.4, 70))).astype(np.float32)


def sample(
    num_clips: int = 12,
    methods: Sequence[Method] = METHODS,
    failures: int = 2,
    reencoded: bool = False,
    published: str | None = None,
    bit_rates: Sequence[int] = (400_000,),
    failing: Mapping[str, int] = MappingProxyType({}),
    only: Collection[str] | None = None,
    clips_per_source: int = 1,
) -> Sample:
    """A report of drawn numbers: method k is k steps better than the first in every metric, and each fails on
    `failures` clips of its own. failing: method -> clips on which it fails instead. only: the methods that are in the
    report, with the numbers that they have in that of all."""
    families = applicable([FAMILIES[name] for name in SYNCDIFF.metrics], crossed=False)
    infos = metric_infos(families, UNAVAILABLE)
    rows = [GROUND_TRUTH, FROZEN, *methods]
    records = []
    for k, row in enumerate(rows):
        fails = 0 if k < 2 else failing.get(row.name, failures)
        for i in range(num_clips):
            failed = (i - k) % num_clips < fails
            record = _record(rows, k, i, infos, failed, bit_rates[k % len(bit_rates)])
            records.append(record | {"source": f"video{i // clips_per_source:03d}"})
    identical = MissingValue(Reason.IDENTICAL_TO_REFERENCE)
    pooled = {
        (method.name, info.name): identical
        if k == 0
        else 600.0
        if info.name.endswith("_frames")
        else 12.5 - k
        for k, method in enumerate(rows)
        for info in infos
        if info.pooled and not info.not_available
    }
    if only is not None:
        rows = [row for row in rows if row.baseline or row.name in only]
        records = [record for record in records if record["method"] in {row.name for row in rows}]
    sources = {record["clip"]: record["source"] for record in records}
    summary, comparisons = method_results(
        rows,
        infos,
        records,
        pooled,
        dict.fromkeys((row.name for row in rows), 0),
        replace(SYNCDIFF, resamples=500, seed=3),
        sources,
    )
    results = Results(
        schema_version=3,
        protocol=Protocol(
            name=SYNCDIFF.name, version=SYNCDIFF.version, summary=SYNCDIFF.summary, setting="own-audio",
            pairing="timestamp",
            max_length_gap=5, face_backend="embedded", seed=3, resamples=500, confidence=0.95, least_coverage=0.9,
        ),
        n_clips=num_clips,
        n_sources=len(set(sources.values())),
        metrics=infos,
        methods=summary,
        comparisons=comparisons,
        reencoding=_reencoding(rows, infos, num_clips) if reencoded else [],
        published=read_published(published) if published else [],
        weights={"syncnet": "5c" * 32},
        versions={"syncdiff": version("syncdiff"), "numpy": "2.0", "scipy": "1.17"},
        git_commit="0" * 40,
        scoring_version=5,
        family_versions={family.name: family.version for family in families if family.name not in UNAVAILABLE},
    )  # fmt: skip
    return Sample(results, per_clip_table(records, infos))


def _record(
    rows: Sequence[Method], k: int, i: int, infos: Sequence[MetricInfo], failed: bool, bit_rate: int
) -> dict[str, Any]:
    record: dict[str, Any] = {"method": rows[k].name, "clip": f"clip{i:03d}"}
    if failed:
        return record | {
            "status": "failed",
            "reason": "unreadable",
            "detail": "the file breaks off at byte 9",
        }
    rng = np.random.default_rng([k, i])
    values, missing = {}, {}
    for info in infos:
        if info.pooled or info.not_available:
            continue
        if k == 0 and info.name.startswith(("psnr", "ssim", "lmd", "opening")):
            missing[info.name] = "identical_to_reference"
            continue
        centre = next((value for key, value in CENTRES.items() if info.name.startswith(key)), 0.4)
        step = 0.02 * k * (1 if info.higher_is_better else -1)
        values[info.name] = float(centre * (1 + step + rng.normal(0, 0.02)))
    facts = {"sha256": f"{k:02x}{i:02x}" * 16, "codec": "h264", "width": 256, "height": 256, "fps": 25.0,
             "bit_rate": bit_rate, "has_audio": True, "decoder": "pyav", "sound_late_s": 0.002 * k}  # fmt: skip
    return record | {"status": "scored", "reason": None, "num_frames": 75, "values": values,
                     "audio_sha256": f"{i:02x}" * 32, "missing": missing, "facts": facts}  # fmt: skip


def _reencoding(rows: Sequence[Method], infos: Sequence[MetricInfo], num_clips: int) -> list[Reencoding]:
    def shift(info: MetricInfo) -> Shift:
        return Shift(n=num_clips, mean=-0.12, mean_abs=0.2, largest_abs=0.9, reencoded=7.0, n_reencoded=num_clips,
                     reason=None)  # fmt: skip

    return [
        Reencoding(method=row.name, encoder="libx264 at quality 23", n_attempted=num_clips, failures={},
                   shifts={info.name: shift(info) for info in infos if not info.pooled})
        for row in rows
        if row is not FROZEN
    ]  # fmt: skip
