"""Sync by the expert that comes with syncdiff: needs no download, and is never LSE.

Confidence and offset as `syncdiff_data.sync_expert` defines them, on the mouth crops that all methods share (cut by the
reference's landmarks) at the best shift, since every method has a constant offset of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS
from syncdiff_data.sync_expert.files import expert_sha256
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
from syncdiff_eval.metrics.mouth_audio import is_silent
from syncdiff_eval.metrics.sums import WholeClip
from syncdiff_eval.networks.mouth_crops import Mouths

if TYPE_CHECKING:
    from syncdiff_data.sync_expert.expert import SyncExpert
    from syncdiff_data.sync_expert.scoring import SyncScore

LEAST_FRAMES = 50
"""Of a score: shifts of 15 frames are compared."""
COLUMNS = (
    Column("expert_confidence", "Expert confidence", "", True, 3),
    Column("expert_offset", "Expert offset", "frames", None, 1),
    Column(
        "expert_distance_to_reference",
        "Expert confidence less the real video's",
        "",
        True,
        3,
        compares_with_reference=True,
    ),
)


class MouthScores:
    """The expert's scores of one clip: of the generated mouth and, where frames are compared, of the reference's."""

    def __init__(self, context: ClipContext, expert: SyncExpert):
        self._context, self._expert = context, expert
        self._mouths = Mouths(context, with_reference=context.compares)

    def update(self, batch: FrameBatch) -> None:
        self._mouths.update(batch)

    def compute(self) -> list[SyncScore] | MissingValue:
        """One score or two, or why there is none."""
        crops = self._mouths.finish()
        if isinstance(crops, MissingValue):
            return crops
        if self._context.audio is None:
            return MissingValue(Reason.NO_AUDIO)
        if crops.shape[1] < LEAST_FRAMES:
            return MissingValue(Reason.TOO_SHORT_FOR_SYNC)
        sound = self._mouths.sound(self._context.audio)
        if is_silent(sound, FPS, crops.shape[1]):
            return MissingValue(Reason.SILENT_AUDIO)
        audio = self._expert.embed_sound(sound, crops.shape[1])
        return [self._expert.score(self._expert.embed_lips(side), audio) for side in crops]


class ExpertSync(WholeClip):
    """The numbers of one clip."""

    def __init__(self, context: ClipContext, expert: SyncExpert):
        super().__init__()
        self._scores = MouthScores(context, expert)
        self._per_frame: np.ndarray | None = None

    def update(self, batch: FrameBatch) -> None:
        self._scores.update(batch)

    def arrays(self) -> dict[str, np.ndarray]:
        """confidence: float32 [frames that have a sound at the offset], for plots."""
        return {} if self._per_frame is None else {"confidence": self._per_frame}

    def _own(self) -> Values:
        scores = self._scores.compute()
        if isinstance(scores, MissingValue):
            return {column.name: scores for column in COLUMNS}
        generated, *real = scores
        self._per_frame = generated.per_frame[np.isfinite(generated.per_frame)]
        values: Values = {
            "expert_confidence": generated.confidence,
            "expert_offset": float(generated.offset),
            "expert_distance_to_reference": MissingValue(Reason.IDENTICAL_TO_REFERENCE),
        }
        if real:
            values["expert_distance_to_reference"] = generated.confidence - real[0].confidence
        return values


def expert_family(folder: str | PathLike[str], name: str = "expert") -> MetricFamily:
    """The metrics of an expert: a folder, or a name of `syncdiff_data.sync_expert.PRETRAINED`.

    UserError where the folder holds none.
    """

    def load(weights: Mapping[str, Path], device: str) -> MetricFactory:
        expert = load_expert(str(folder), device)
        return lambda context: ExpertSync(context, expert)

    return MetricFamily(
        name=name,
        group=ReportGroup.SYNC,
        columns=COLUMNS,
        version=2,
        load=load,
        required_inputs=frozenset({"reference"}),
        content_hash=expert_sha256(folder),
    )


@cache
def load_expert(folder: str, device: str) -> SyncExpert:
    from syncdiff_data.sync_expert.expert import SyncExpert

    return SyncExpert.from_pretrained(folder, device)
