"""Warnings about the numbers of a report; the same sentences on the page, in Markdown and in the terminal."""

from __future__ import annotations

from itertools import count

from syncdiff_eval.methods import GROUND_TRUTH, MethodType
from syncdiff_eval.metrics.frechet import frames_wanted
from syncdiff_eval.report.cells import clips_and_sources, counts, failures
from syncdiff_eval.report.groups import frame_count_of
from syncdiff_eval.results import MethodResult, Results
from syncdiff_eval.statistics import LEAST_SOURCES

FAR_OFF = 2.0
"""Frames of mean AV offset above which a method's sound is out of step."""
LATE_MS = 20.0
"""Milliseconds, half a frame, by which a method's audio streams start later than those of real video and are named."""
UNEVEN = 1.5
"""Ratio of median bit rates above which files count as differently encoded."""


def warnings(results: Results) -> list[str]:
    """Sentences, the most important first; may be empty."""
    return [
        *_few_sources(results), *_low_coverage(results), *_failures(results), *_few_frames(results),
        *_encoding(results), *_shifted_sound(results), *_late_sound(results), *_offsets(results),
    ]  # fmt: skip


def _ranked(results: Results) -> list[MethodResult]:
    return [row for row in results.methods if row.type is not MethodType.REFERENCE]


def _few_sources(results: Results) -> list[str]:
    """p is never below 2^(1 - n), and Holm multiplies the smallest by the number of comparisons."""
    methods = sum(not row.baseline for row in _ranked(results))
    comparisons = max(1, methods * (methods - 1) // 2)
    alpha = 1 - results.protocol.confidence
    needed = next(n for n in count(LEAST_SOURCES) if comparisons * 2.0 ** (1 - n) < alpha)
    if results.n_sources >= needed:
        return []
    on = f"On {clips_and_sources(results)}"
    if results.n_sources < LEAST_SOURCES:
        return [
            f"{on} there are no intervals and no tests: they need at least {LEAST_SOURCES} different sources."
        ]
    return [f"{on} no difference between {methods} methods can be significant: that takes at least {needed}."]


def _low_coverage(results: Results) -> list[str]:
    """Methods that have too few clips to be ranked, with the metric where they have the fewest."""
    named = []
    for row in _ranked(results):
        few = [m for m in results.metrics if row.scores[m.name].low_coverage]
        if few:
            metric = min(few, key=lambda m: row.scores[m.name].n_scored)
            rest = f" and {len(few) - 1} more" if len(few) > 1 else ""
            named.append(f"{row.name} (under {metric.title}{rest}; {counts(row.scores[metric.name])} clips)")
    if not named:
        return []
    return [
        f"Without a rank, since they have a value for less than {results.protocol.least_coverage:.0%} of the clips of "
        f"the method with the most: {', '.join(named)}. Others are compared without regard to their clips."
    ]


def _failures(results: Results) -> list[str]:
    failed = [f"{row.name} ({failures(row.failures)})" for row in results.methods if row.failures]
    return [f"Clips without a score, of {results.n_clips}: {', '.join(failed)}."] if failed else []


def _few_frames(results: Results) -> list[str]:
    sentences = []
    for metric in results.metrics:
        base = frame_count_of(metric, results)
        numbers = [row.scores[metric.name].mean for row in _ranked(results)]
        frames = [value for value in numbers if value is not None]
        enough = frames_wanted(metric.unit)
        if base and frames and min(frames) < enough:
            title = next(other.title for other in results.metrics if other.name == base)
            sentences.append(
                f"{title} was computed from {min(frames):,.0f} frames: under {enough:,} it depends on their "
                "number more than on the frames, so do not compare it with numbers outside this table."
            )
    return sentences


def _offsets(results: Results) -> list[str]:
    """Methods whose sound is out of step by the expert or SyncNet; baselines are, on purpose."""
    sentences = []
    for metric in results.metrics:
        if metric.name not in ("expert_offset", "av_offset"):
            continue
        means = {row.name: row.scores[metric.name].mean for row in _ranked(results) if not row.baseline}
        far = {name: mean for name, mean in means.items() if mean is not None and abs(mean) > FAR_OFF}
        if far:
            named = ", ".join(f"{name} ({mean:+.1f} frames)" for name, mean in far.items())
            sentences.append(
                f"Out of step under {metric.title}: {named}; positive where the sound comes before the mouth. "
                "Confidences are at each clip's best shift, so they do not show it."
            )
    return sentences


def _shifted_sound(results: Results) -> list[str]:
    """Methods with files whose sound is the driving audio at another place, whatever their containers declare."""
    named = [
        f"{row.name} ({row.n_sound_shifted} of {row.n_scored} files, {abs(row.sound_shift_ms):.0f} ms "
        f"{'late' if row.sound_shift_ms > 0 else 'early'})"
        for row in _ranked(results)
        if row.sound_shift_ms is not None
    ]
    if not named:
        return []
    return [
        f"The files' own sound is not where the driving audio is: {', '.join(named)}. Whoever plays them hears it; the "
        "numbers do not include it, since all methods are scored with the driving audio."
    ]


def _late_sound(results: Results) -> list[str]:
    """Methods whose files declare an audio stream that starts after the video stream, compared with real video's."""
    real = next((row.sound_late_ms for row in results.methods if row.name == GROUND_TRUTH.name), None) or 0.0
    late = {
        row.name: row.sound_late_ms
        for row in _ranked(results)
        if not row.baseline
        and row.sound_late_ms is not None
        and row.sound_late_ms - real > LATE_MS
        and not row.n_sound_shifted
    }
    if not late:
        return []
    named = ", ".join(f"{name} ({ms:.0f} ms after the video)" for name, ms in late.items())
    effect = (
        "The numbers include it, since every file is scored with its own sound"
        if results.protocol.pairing == "standalone"
        else "The numbers do not include it, since all methods are scored with the driving audio"
    )
    return [f"In most files the audio stream starts late: {named}; real video {real:.0f} ms. {effect}."]


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
