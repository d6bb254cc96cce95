"""PSNR and SSIM on the whole frame, the face and the mouth region, by scikit-image's definitions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
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

PEAK = 255.0
SIGMA = 1.5
RADIUS = 5
"""Of the Gaussian window: 11 x 11 pixels at sigma 1.5, truncated at 3.5 sigma as scikit-image does."""
SMALLEST_SIDE = 2 * RADIUS + 1
STRIP = 64
"""Rows of the index map computed at a time."""
_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2


def psnr(reference: np.ndarray, generated: np.ndarray) -> float:
    """Peak signal to noise ratio in dB of two uint8 images of one shape; infinity where they are equal.

    Equals skimage.metrics.peak_signal_noise_ratio(reference, generated, data_range=255). The difference is
    taken in float64: in uint8 it wraps, and unrelated images then read about 28 dB.
    """
    _check(reference, generated)
    error = reference.astype(np.float64) - generated
    mse = float(np.mean(error * error))
    return float("inf") if mse == 0 else float(10 * np.log10(PEAK**2 / mse))


def ssim(reference: np.ndarray, generated: np.ndarray) -> float:
    """Structural similarity, -1 to 1, of two uint8 images [H, W, 3] of at least 11 x 11 pixels.

    Equals skimage.metrics.structural_similarity(..., data_range=255, channel_axis=2, gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False), the parameters of Wang et al. 2004. Computed strip by strip with
    OpenCV's separable filter, so that it stays in the processor's cache.
    """
    _check(reference, generated)
    if min(reference.shape[:2]) < SMALLEST_SIDE:
        raise ValueError(
            f"ssim needs images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE}, got {reference.shape}"
        )
    total, count = 0.0, 0
    for top in range(0, len(reference) - 2 * RADIUS, STRIP):
        rows = slice(top, top + STRIP + 2 * RADIUS)
        for channel in range(reference.shape[2]):
            similarity = _similarity(reference[rows, :, channel], generated[rows, :, channel])
            total += float(similarity.sum())
            count += similarity.size
    return total / count


def _similarity(reference: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """The index at every pixel whose window lies inside: two uint8 [h, w] to float64 [h - 10, w - 10].

    Four filtered planes serve where five are usual: only the sum of the two variances is needed.
    """
    x, y = reference.astype(np.float64), generated.astype(np.float64)
    mean_x, mean_y = gaussian_interior(x), gaussian_interior(y)
    product = mean_x * mean_y
    square = mean_x * mean_x + mean_y * mean_y
    variances = gaussian_interior(x * x + y * y) - square
    covariance = gaussian_interior(x * y) - product
    return ((2 * product + _C1) * (2 * covariance + _C2)) / ((square + _C1) * (variances + _C2))


def gaussian_interior(plane: np.ndarray) -> np.ndarray:
    """Gaussian of SSIM, float64 [h, w] to [h - 10, w - 10]: where the window leaves the image, scikit-image does not
    count the pixel."""
    return cv2.sepFilter2D(plane, cv2.CV_64F, _KERNEL, _KERNEL)[RADIUS:-RADIUS, RADIUS:-RADIUS]


def _kernel() -> np.ndarray:
    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    return weights / weights.sum()


_KERNEL = _kernel()


def _check(reference: np.ndarray, generated: np.ndarray) -> None:
    if reference.shape != generated.shape:
        raise ValueError(f"images must have one shape, got {reference.shape} and {generated.shape}")
    if reference.dtype != np.uint8 or generated.dtype != np.uint8:
        raise ValueError(f"images must be uint8, got {reference.dtype} and {generated.dtype}")


class RegionQuality:
    """Mean PSNR and SSIM over the frames of one region.

    Frames equal to the reference have no finite PSNR: they are left out of its mean, and a clip of nothing
    else has neither number.
    """

    def __init__(self) -> None:
        self.psnr_sum = 0.0
        self.ssim_sum = 0.0
        self.frames = 0
        self.identical = 0

    def add(self, reference: np.ndarray, generated: np.ndarray) -> None:
        self.frames += 1
        if np.array_equal(reference, generated):
            self.identical += 1
            self.ssim_sum += 1.0
            return
        self.psnr_sum += psnr(reference, generated)
        self.ssim_sum += ssim(reference, generated)

    def merge(self, other: RegionQuality) -> None:
        self.psnr_sum += other.psnr_sum
        self.ssim_sum += other.ssim_sum
        self.frames += other.frames
        self.identical += other.identical

    def compute(self, none: Reason) -> tuple[float | MissingValue, float | MissingValue]:
        """PSNR in dB and SSIM; `none` is the reason where not one frame was added."""
        if self.frames == 0:
            return MissingValue(none), MissingValue(none)
        if self.identical == self.frames:
            same = MissingValue(Reason.IDENTICAL_TO_REFERENCE)
            return same, same
        return self.psnr_sum / (self.frames - self.identical), self.ssim_sum / self.frames


class ImageQuality:
    """PSNR and SSIM of generated against reference frames, frame by frame, averaged over the clip."""

    def __init__(self) -> None:
        self.regions = {name: RegionQuality() for name in REGIONS}

    def update(self, batch: FrameBatch) -> None:
        for i, (reference, generated) in enumerate(zip(batch.reference, batch.generated)):
            if min(reference.shape[:2]) >= SMALLEST_SIDE:
                self.regions["full"].add(reference, generated)
            if batch.regions is None or not batch.regions.present[i]:
                continue
            for name, boxes in (("face", batch.regions.face), ("mouth", batch.regions.mouth)):
                x0, y0, x1, y1 = boxes[i]
                self.regions[name].add(reference[y0:y1, x0:x1], generated[y0:y1, x0:x1])

    def merge(self, other: ImageQuality) -> None:
        for name, region in self.regions.items():
            region.merge(other.regions[name])

    def compute(self) -> Values:
        values: Values = {}
        for name, region in self.regions.items():
            none = Reason.FRAME_TOO_SMALL if name == "full" else Reason.NO_FACE
            values[f"psnr_{name}"], values[f"ssim_{name}"] = region.compute(none)
        return values


REGIONS = ("face", "mouth", "full")


def _load(weights: Mapping[str, Path], device: str) -> MetricFactory:
    del weights, device

    def start(context: ClipContext) -> ImageQuality:
        del context
        return ImageQuality()

    return start


IMAGE = MetricFamily(
    name="image",
    group=ReportGroup.PICTURE,
    columns=tuple(
        column
        for region in REGIONS
        for column in (
            Column(f"psnr_{region}", f"PSNR {region}", "dB", True, 2, compares_with_reference=True),
            Column(f"ssim_{region}", f"SSIM {region}", "", True, 4, compares_with_reference=True),
        )
    ),
    version=1,
    load=_load,
    required_inputs=frozenset({"reference"}),
)
