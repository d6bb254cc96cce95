"""Is the mouth as sharp as the real one? A soft mouth in a sharp face is what viewers of 1080p see first."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from syncdiff_data.reasons import Reason
from syncdiff_eval.metrics.base import (
    Column,
    FrameBatch,
    MetricFactory,
    MetricFamily,
    MissingValue,
    Once,
    ReportGroup,
    Values,
    each_time,
)
from syncdiff_eval.metrics.image import RADIUS, gaussian_interior

FLAT = 1e-6
"""Energy of a clip below which its mouth has no fine structure: a flat region's is rounding error."""


def detail_energy(image: np.ndarray) -> float:
    """Energy of the fine structure of RGB uint8 [H, W, 3] of at least 11 x 11 pixels, in squared gray levels.

    The sum over the pixels, but for five at each edge, of the squared difference of the luma (BT.601) and its Gaussian
    of sigma 1.5 pixels, the window of SSIM: what that window blurs away.
    """
    luma = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY).astype(np.float64)
    detail = luma[RADIUS:-RADIUS, RADIUS:-RADIUS] - gaussian_interior(luma)
    return float((detail * detail).sum())


class Sharpness:
    """Energy of the fine structure of the generated mouth over that of the reference's, both summed over the clip.

    In source pixels, on the rectangle of psnr_mouth. 1: as sharp; noise and ringing are fine structure too, so above 1
    is no better.
    """

    def __init__(self, once: Once = each_time) -> None:
        self._once = once
        self.frames = 0
        self.generated = 0.0
        self.reference = 0.0

    def update(self, batch: FrameBatch) -> None:
        if batch.regions is None:
            return
        for i in np.flatnonzero(batch.regions.present):
            x0, y0, x1, y1 = batch.regions.mouth[i]
            self.frames += 1
            self.generated += detail_energy(batch.generated[i][y0:y1, x0:x1])
            real = batch.reference[i][y0:y1, x0:x1]
            key = ("detail of the mouth", batch.first_frame + int(i))
            self.reference += self._once(key, partial(detail_energy, real))

    def merge(self, other: Sharpness) -> None:
        self.frames += other.frames
        self.generated += other.generated
        self.reference += other.reference

    def compute(self) -> Values:
        if self.frames == 0:
            return {"sharpness_mouth": MissingValue(Reason.NO_FACE)}
        if self.reference < FLAT:
            return {"sharpness_mouth": MissingValue(Reason.REFERENCE_FLAT)}
        return {"sharpness_mouth": self.generated / self.reference}


def _load(weights: Mapping[str, Path], device: str) -> MetricFactory:
    del weights, device

    return lambda context: Sharpness(context.once)


SHARPNESS = MetricFamily(
    name="sharpness",
    group=ReportGroup.REALISM,
    columns=(
        Column(
            "sharpness_mouth", "Mouth sharpness", "of the reference's", None, 3, compares_with_reference=True
        ),
    ),
    version=1,
    load=_load,
    required_inputs=frozenset({"reference"}),
)
