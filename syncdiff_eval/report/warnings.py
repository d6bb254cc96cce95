"""Warnings about the numbers of a report; the same sentences on the page, in Markdown and in the terminal."""

from __future__ import annotations

from itertools import count

from syncdiff_eval.methods import MethodType
from syncdiff_eval.report.cells import failures
from syncdiff_eval.report.groups import frame_count_of
from syncdiff_eval.results import MethodResult, Results

ENOUGH_FRAMES = 2048
"""Dimension of FID's features: on fewer frames their covariance is not of full rank."""
UNEVEN = 1.5
"""Ratio of median bit rates above which files count as differently encoded."""


def warnings(results: Results) -> list[str]:
    """Sentences, the most important first; may be empty."""
    return [*_few_clips(results), *_failures(results), *_few_frames(results), *_encoding(results)]


def _ranked(results: Results) -> list[MethodResult]:
    return [row for row in results.methods if row.type is not MethodType.REFERENCE]


def _few_clips(results: Results) -> list[str]:
    """p is never below 2^(1 - n), and Holm multiplies the smallest by the number of comparisons."""
    methods = len(_ranked(results))
    comparisons = max(1, methods * (methods - 1) // 2)
    alpha = 1 - results.protocol.confidence
    needed = next(n for n in count(2) if comparisons * 2.0 ** (1 - n) < alpha)
    if results.n_clips >= needed:
        return []
    clips = "1 clip" if results.n_clips == 1 else f"{results.n_clips} clips"
    among = f" between {methods} methods" if methods > 2 else ""
    return [f"On {clips} no difference{among} can be significant: that takes at least {needed}."]


def _failures(results: Results) -> list[str]:
    failed = [f"{row.name} ({failures(row.failures)})" for row in results.methods if row.failures]
    return [f"Clips without a score, of {results.n_clips}: {', '.join(failed)}."] if failed else []


def _few_frames(results: Results) -> list[str]:
    sentences = []
    for metric in results.metrics:
        base = frame_count_of(metric, results)
        numbers = [row.scores[metric.name].mean for row in _ranked(results)]
        frames = [value for value in numbers if value is not None]
        if base and frames and min(frames) < ENOUGH_FRAMES:
            title = next(other.title for other in results.metrics if other.name == base)
            sentences.append(
                f"{title} was computed from {min(frames):,.0f} frames: under {ENOUGH_FRAMES:,} it depends on their "
                "number more than on the frames, so do not compare it with numbers outside this table."
            )
    return sentences


def _encoding(results: Results) -> list[str]:
    """Baselines have no files of their own."""
    made = [row for row in _ranked(results) if not row.baseline]
    codecs = sorted({codec for row in made for codec in row.codecs})
    rates = {row.name: row.bit_rate for row in made if row.bit_rate}
    sentences = []
    if len(codecs) > 1:
        sentences.append(f"Files use different codecs ({', '.join(codecs)}); encoding alone changes LSE.")
    if rates and max(rates.values()) > UNEVEN * min(rates.values()):
        low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
        sentences.append(
            f"Bit rates differ: {low} has {_kbit(rates[low])}, {high} {_kbit(rates[high])} (medians); "
            "encoding alone changes LSE, --reencode-check measures by how much."
        )
    return sentences


def _kbit(bit_rate: int) -> str:
    return f"{bit_rate / 1000:,.0f} kbit/s"
