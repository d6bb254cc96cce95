"""Landmark distance, and how far the mouth opens with the reference's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from syncdiff_data.reasons import Reason
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
from syncdiff_eval.metrics.sums import PairSums

MOUTH = slice(48, 68)
_INNER_UPPER = (61, 62, 63)
_INNER_LOWER = (67, 66, 65)
STILL = 0.01
"""Spread of the reference's mouth opening over the distance of the eyes, below which its mouth does not move. The
landmarks of one frame shown again and again spread by 0.002 to 0.008, those of speech by 0.026 to 0.075."""


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
    """Mean distance of the three inner lip pairs: float32 [..., 68, 2] to float64 [...], in the points'
    unit."""
    points = np.asarray(landmarks, np.float64)
    gaps = points[..., _INNER_UPPER, :] - points[..., _INNER_LOWER, :]
    return np.linalg.norm(gaps, axis=-1).mean(axis=-1)


def why_still(context: ClipContext) -> Reason | None:
    """Why the reference's mouth has no motion to compare with, for every method alike; None where it has."""
    if context.regions is None:
        return Reason.NO_FACE
    opening = mouth_opening(context.regions.landmarks[context.regions.present]) / context.regions.eye_distance
    return Reason.REFERENCE_MOUTH_STILL if opening.std() < STILL else None


def landmark_distance(reference: np.ndarray, generated: np.ndarray, centred: bool) -> np.ndarray:
    """Mean distance of corresponding points: two arrays [..., P, 2] to float64 [...].

    centred: subtract each set's own mean first, as Chen et al. 2018 (arXiv:1803.10404) do for lips, so that a
    moved mouth does not count as a misshapen one.
    """
    difference = np.asarray(generated, np.float64) - np.asarray(reference, np.float64)
    if centred:
        difference -= difference.mean(axis=-2, keepdims=True)
    return np.linalg.norm(difference, axis=-1).mean(axis=-1)


class LandmarkMetrics:
    """LMD of the mouth and the face in percent of the eye distance, and the correlation of mouth openings.

    A generated mouth that does not move scores a correlation of 0, so that freezing never pays; a reference
    mouth that does not move leaves it undefined, for every method alike.
    """

    def __init__(self, eye_distance: float | None):
        self.eye_distance = eye_distance
        self.frames = 0
        self.mouth_sum = 0.0
        self.face_sum = 0.0
        self.openings = PairSums()

    def update(self, batch: FrameBatch) -> None:
        if batch.regions is None or batch.landmarks is None or self.eye_distance is None:
            return
        present = batch.regions.present
        reference, generated = batch.regions.landmarks[present], batch.landmarks[present]
        self.frames += len(reference)
        scale = 100 / self.eye_distance
        mouth = landmark_distance(reference[:, MOUTH], generated[:, MOUTH], centred=True)
        self.mouth_sum += float(mouth.sum()) * scale
        self.face_sum += float(landmark_distance(reference, generated, centred=False).sum()) * scale
        self.openings.add(
            mouth_opening(reference)[:, None] / self.eye_distance,
            mouth_opening(generated)[:, None] / self.eye_distance,
        )

    def merge(self, other: LandmarkMetrics) -> None:
        self.frames += other.frames
        self.mouth_sum += other.mouth_sum
        self.face_sum += other.face_sum
        self.openings.merge(other.openings)

    def compute(self) -> Values:
        if self.frames == 0:
            return {column.name: MissingValue(Reason.NO_FACE) for column in LANDMARKS.columns}
        correlation: float | MissingValue = MissingValue(Reason.REFERENCE_MOUTH_STILL)
        if self.openings.variances()[0][0] > 0:
            correlation = float(self.openings.correlation()[0])
        return {
            "lmd_mouth": self.mouth_sum / self.frames,
            "lmd_face": self.face_sum / self.frames,
            "opening_corr": correlation,
        }


def _load(weights: Mapping[str, Path], device: str) -> MetricFactory:
    del weights, device

    def start(context: ClipContext) -> LandmarkMetrics:
        return LandmarkMetrics(context.eye_distance)

    return start


LANDMARKS = MetricFamily(
    name="landmarks",
    group=ReportGroup.MOUTH_SHAPE,
    columns=(
        Column("lmd_mouth", "LMD mouth", "% of eye distance", False, 2, compares_with_reference=True),
        Column("lmd_face", "LMD face", "% of eye distance", False, 2, compares_with_reference=True),
        Column("opening_corr", "Mouth opening corr.", "", True, 3, compares_with_reference=True),
    ),
    version=1,
    load=_load,
    required_inputs=frozenset({"landmarks"}),
)
