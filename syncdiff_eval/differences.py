"""In what two reports differ beside their methods: protocol, metrics, weights, versions, clips, real videos."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from syncdiff_eval.methods import GROUND_TRUTH, MethodType
from syncdiff_eval.report.files import Report
from syncdiff_eval.results import MetricInfo, Results

ABSENT, PRESENT = "absent", "present"
PROGRAM = frozenset({"version of syncdiff", "commit"})
"""What does not decide numbers by itself: where one moved, scoring or its metrics have another version."""


@dataclass(frozen=True)
class Difference:
    """What differs, and what it is in the one and in the other report."""

    what: str
    a: str
    b: str

    @property
    def brief(self) -> tuple[str, str]:
        """a and b with hashes cut to their first letters."""
        return _cut(self.a), _cut(self.b)


def differing_settings(a: Results, b: Results) -> list[Difference]:
    """Protocol, metrics, weights and versions that are not the same in both."""
    first, second = _settings(a), _settings(b)
    return [
        Difference(what, first.get(what, ABSENT), second.get(what, ABSENT))
        for what in dict.fromkeys([*first, *second])
        if first.get(what) != second.get(what)
    ]


def differing_clips(a: Report, b: Report) -> list[Difference]:
    """Clips that only one report has, then those whose source, real video or driving audio differs."""
    first, second = _clips(a), _clips(b)
    alone = [
        Difference(f"clip {clip}", *((PRESENT, ABSENT) if clip in first else (ABSENT, PRESENT)))
        for clip in sorted(first.keys() ^ second.keys())
    ]
    other = [
        Difference(f"{what} of clip {clip}", facts[what], second[clip][what])
        for clip, facts in first.items()
        for what in facts.keys() & second.get(clip, {}).keys()
        if facts[what] != second[clip][what]
    ]
    return [*alone, *sorted(other, key=lambda difference: difference.what)]


def same_clips(a: Report, b: Report) -> list[str]:
    """Clips of both reports with one source, real video and driving audio, as far as both know them; in order."""
    first, second = _clips(a), _clips(b)
    return [
        clip
        for clip, facts in first.items()
        if clip in second and all(second[clip].get(what, fact) == fact for what, fact in facts.items())
    ]


def _settings(results: Results) -> dict[str, str]:
    protocol = results.protocol.model_dump(exclude={"summary"})
    found = {f"protocol {key.replace('_', ' ')}": value for key, value in protocol.items()}
    found |= {f"metric {metric.name}": _state(metric) for metric in results.metrics}
    found |= {f"weights {name}": sha256 for name, sha256 in results.weights.items()}
    found |= {"version of scoring": results.scoring_version or "unknown"}
    found |= {f"version of metrics {name}": number for name, number in results.family_versions.items()}
    found |= {f"version of {name}": number for name, number in results.versions.items()}
    found |= {"commit": results.git_commit or "unknown"}
    return {what: str(value) for what, value in found.items()}


def _cut(text: str) -> str:
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b", "\\1…", text)


def _state(metric: MetricInfo) -> str:
    if metric.not_available:
        return metric.not_available
    return "scored" if metric.in_protocol else "scored, no part of the protocol"


def _clips(report: Report) -> Mapping[str, Mapping[str, str]]:
    """clip -> its source, and the hashes of its real video and its driving audio, where a row has them."""
    real = {row.name for row in report.results.methods if row.type is MethodType.REFERENCE}
    found: dict[str, dict[str, str]] = {}
    for record in report.records:
        facts = found.setdefault(record["clip"], {"source": record["source"]})
        if record["method"] == GROUND_TRUTH.name and "facts" in record:
            facts["real video"] = record["facts"]["sha256"]
        if record["method"] not in real and record["audio_sha256"]:
            facts["driving audio"] = record["audio_sha256"]
    return found
