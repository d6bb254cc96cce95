"""The opening of both mouths over a clip, for metrics that need the whole of it."""

from __future__ import annotations

import numpy as np

from syncdiff_eval.metrics.base import ClipContext, FrameBatch
from syncdiff_eval.metrics.landmarks import mouth_opening
from syncdiff_eval.metrics.sums import WholeClip


class ClipOpenings(WholeClip):
    """Collects the openings of a clip's frames. Holds 16 bytes for each frame."""

    def __init__(self, context: ClipContext):
        super().__init__()
        self.context = context
        self._parts: list[np.ndarray] = []

    def update(self, batch: FrameBatch) -> None:
        # B frames -> [2, B]: generated and reference, NaN where there is no face.
        openings = np.full((2, len(batch.generated)), np.nan)
        if batch.regions is not None and batch.landmarks is not None:
            present = batch.regions.present
            for row, landmarks in zip(openings, (batch.landmarks, batch.regions.landmarks)):
                row[present] = mouth_opening(landmarks[present]) / batch.regions.eye_distance
        self._parts.append(openings)

    def openings(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the generated and of the reference's mouth: float64 [T] each, in eye distances, NaN where the reference
        shows no usable face."""
        generated, reference = np.concatenate([np.empty((2, 0)), *self._parts], axis=1)
        return generated, reference
