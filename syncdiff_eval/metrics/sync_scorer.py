"""A sync scorer from elsewhere, such as a trained expert, beside LSE and never under its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_data.records import SAMPLE_RATE
from syncdiff_eval.metrics.base import (
    ClipContext,
    Column,
    FrameBatch,
    MetricFactory,
    MetricFamily,
    MissingValue,
    ReportGroup,
    Values,
)
from syncdiff_eval.metrics.sums import WholeClip
from syncdiff_eval.networks.resample import Resampler


class SyncScorer(Protocol):
    """Says how well a mouth fits a sound."""

    side: int
    """Pixels of the square face pictures it wants."""

    def score(self, faces: np.ndarray, audio: np.ndarray) -> float | None:
        """faces: RGB uint8 [T, side, side, 3] at 25 fps, the protocol's face region; audio: int16 [N] at 16 kHz,
        from the first face on. None for a clip it cannot score."""
        ...


class _Scored(WholeClip):
    def __init__(self, context: ClipContext, scorer: SyncScorer, column: str):
        super().__init__()
        self._audio = context.audio
        self._scorer = scorer
        self._column = column
        self._frames = Resampler()
        self._start_s: float | None = None
        self._faces: list[np.ndarray] = []

    def update(self, batch: FrameBatch) -> None:
        if batch.regions is None:
            return
        side = self._scorer.side
        for time, image, (x0, y0, x1, y1), present in zip(
            batch.times, batch.generated, batch.regions.face, batch.regions.present
        ):
            if present:
                self._start_s = time if self._start_s is None else self._start_s
                face = cv2.resize(image[y0:y1, x0:x1], (side, side), interpolation=cv2.INTER_AREA)
                self._faces += self._frames.add(time, face)

    def _own(self) -> Values:
        return {self._column: self._score()}

    def _score(self) -> float | MissingValue:
        if self._start_s is None:
            return MissingValue(Reason.NO_FACE)
        if self._audio is None:
            return MissingValue(Reason.NO_AUDIO)
        self._faces += self._frames.finish()
        sound = self._audio[round(self._start_s * SAMPLE_RATE) :]
        value = self._scorer.score(np.stack(self._faces), sound)
        return MissingValue(Reason.NOT_SCORABLE) if value is None else float(value)


def sync_scorer_family(
    name: str,
    title: str,
    higher_is_better: bool,
    version: int,
    load: Callable[[Mapping[str, Path], str], SyncScorer],
    content_hash: str,
    weights: tuple[str, ...] = (),
) -> MetricFamily:
    """The metric of a user's scorer: its column is `name`, its heading `title`.

    load(weight files by registry name, device) runs once per worker. content_hash: of all that decides the scorer's
    numbers (its weight files, its settings): a retrained scorer has another one, and its clips are scored again.
    `benchmark.py --metric module:NAME` adds it to a run; `BenchmarkConfig(added=...)` does so in Python. Raises
    ValueError where the name or the title would pass for SyncNet's LSE, or without a content hash.
    """
    if "lse" in name.lower() or "lse" in title.lower():
        raise ValueError(f"{title!r} ({name}) would pass for SyncNet's LSE; give the scorer its own name")

    if not content_hash:
        raise ValueError(
            f"{name}: give a hash of the scorer's weights, or a retrained scorer gets cached numbers"
        )

    def factory(files: Mapping[str, Path], device: str) -> MetricFactory:
        scorer = load(files, device)
        return lambda context: _Scored(context, scorer, name)

    column = Column(name, title, "", higher_is_better, 3)
    return MetricFamily(
        name,
        (column,),
        version,
        factory,
        weights,
        required_inputs=frozenset(),
        group=ReportGroup.SYNC,
        content_hash=content_hash,
    )
