"""How often the intervals and tests of a report are right, on drawn numbers: the tables of docs/protocols.md.

    python benchmarks/coverage.py [--draws N]

Coverage of 95 % intervals of a mean, and false positives at 5 % of the paired test, by number of source videos and of
pairs that use each; for scores that are normal, and for skewed ones (exponential).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tyro
from scipy import stats

from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.statistics import LEAST_SOURCES, mean_interval, sign_flip_p, student_interval

INFERENCE = SYNCDIFF.inference
Draw = Callable[[np.random.Generator, int], np.ndarray]
DRAWS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.exponential(size=n) - 1,
}
"""Scores of n clips with a mean of zero."""


@dataclass(frozen=True)
class Options:
    """draws: simulated benchmarks for each cell."""

    draws: int = 1000


def main(options: Options) -> None:
    """Print both tables."""
    print("| n | scores | Student | BCa | percentile | false positives | as reported |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | --- |")
    for n in (2, 3, 5, 8, 20):
        for name, draw in DRAWS.items():
            scores = _draws(draw, n, options.draws)
            student = _covered([student_interval(np.full(n, 1 / n), x, INFERENCE.confidence) for x in scores])
            others = [
                _covered([_bootstrapped(x, method) for x in scores[:400]]) for method in ("BCa", "percentile")
            ]
            wrong = np.mean([sign_flip_p(x / n, INFERENCE) < 0.05 for x in scores])
            told = "interval and test" if n >= LEAST_SOURCES else "neither"
            print(f"| {n} | {name} | {student} | {others[0]} | {others[1]} | {wrong:.1%} | {told} |")
    print("\n| videos x pairs | by video: coverage, false positives | by pair: coverage, false positives |")
    print("| --- | ---: | ---: |")
    for videos, pairs in ((8, 11), (20, 11), (100, 11)):
        by_video, by_pair = (
            _clustered(videos, pairs, options.draws // 2, joined) for joined in (True, False)
        )
        print(f"| {videos} x {pairs} | {by_video} | {by_pair} |")


def _draws(draw: Draw, n: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(n)
    return [draw(rng, n) for _ in range(count)]


def _bootstrapped(values: np.ndarray, method: str) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            (values,), np.mean, method=method, n_resamples=2000, rng=np.random.default_rng(0)
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _covered(intervals: list[tuple[float, float]]) -> str:
    return f"{np.mean([low <= 0 <= high for low, high in intervals]):.1%}"


def _clustered(videos: int, pairs: int, count: int, joined: bool) -> str:
    """Scores with a correlation of 0.5 within a video. joined: the video is the unit, else every pair."""
    rng = np.random.default_rng(videos)
    sources = [str(i // pairs if joined else i) for i in range(videos * pairs)]
    covered, wrong = [], []
    for _ in range(count):
        values = np.repeat(rng.normal(size=videos), pairs) + rng.normal(size=videos * pairs)
        interval = mean_interval(values, sources, INFERENCE)
        assert interval is not None
        covered.append(interval)
        sums = values.reshape(-1, pairs).sum(axis=1) if joined else values
        wrong.append(sign_flip_p(sums, INFERENCE) < 0.05)
    return f"{_covered(covered)}, {np.mean(wrong):.1%}"


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
