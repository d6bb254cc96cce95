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
STRIP = 1 << 15
"""Pixels of the index map computed at a time, in whole rows."""
CENTRE = 128
_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2


def squared_error(reference: np.ndarray, generated: np.ndarray) -> int:
    """Sum of the squared differences of two uint8 images of one shape, exact: in uint8 a difference wraps, and
    unrelated images then read about 28 dB."""
    _check(reference, generated)
    return round(cv2.norm(reference, generated, cv2.NORM_L2SQR))


def psnr(reference: np.ndarray, generated: np.ndarray) -> float:
    """Peak signal to noise ratio in dB of two uint8 images of one shape; infinity where they are equal.

    Equals skimage.metrics.peak_signal_noise_ratio(reference, generated, data_range=255).
    """
    mse = squared_error(reference, generated) / reference.size
    return float("inf") if mse == 0 else float(10 * np.log10(PEAK**2 / mse))


def ssim(reference: np.ndarray, generated: np.ndarray) -> float:
    """Structural similarity, -1 to 1, of two uint8 images [H, W, 3] of at least 11 x 11 pixels.

    Equals, to 1e-6, skimage.metrics.structural_similarity(..., data_range=255, channel_axis=2, gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False), the parameters of Wang et al. 2004.
    """
    return _mean(similarity_map(reference, generated))


def similarity_map(reference: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """SSIM's index at every pixel whose window lies inside the images: float32 [H - 10, W - 10, 3].

    Arguments as of `ssim`. A region's part of the map is the region's own map. Computed strip by strip with OpenCV's
    separable filter, so that it stays in the processor's cache.
    """
    _check(reference, generated)
    height, width, channels = reference.shape
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"ssim needs images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE}, got {reference.shape}"
        )
    index = np.empty((height - 2 * RADIUS, width - 2 * RADIUS, channels), np.float32)
    strip = max(RADIUS, STRIP // width)
    for top in range(0, len(index), strip):
        rows = slice(top, top + strip + 2 * RADIUS)
        _write_similarity(reference[rows], generated[rows], index[top : top + strip])
    return index


def _write_similarity(reference: np.ndarray, generated: np.ndarray, index: np.ndarray) -> None:
    """The index of two uint8 [h, w, 3] into float32 [h - 10, w - 10, 3].

    In the sum s and the difference d of both images, numerator and denominator are
    (mean s^2 -+ mean d^2 + 2 C1) (var s -+ var d + 2 C2). A difference that is small is then precise in float32, and an
    error in var s cancels where there is no difference.
    """
    total: np.ndarray = cv2.add(reference, generated, dtype=cv2.CV_32F)
    total -= 2 * CENTRE  # variances do not change, and squares stay small
    difference: np.ndarray = cv2.subtract(reference, generated, dtype=cv2.CV_32F)
    mean_s, mean_d = _blurred(total), _blurred(difference)
    total *= total
    difference *= difference
    variance_s, variance_d = _blurred(total, 2 * _C2), _blurred(difference)
    variance_s -= mean_s * mean_s
    mean_s += 2 * CENTRE
    square_s, square_d = mean_s * mean_s, mean_d * mean_d
    variance_d -= square_d
    square_s += 2 * _C1
    np.multiply(square_s - square_d, variance_s - variance_d, out=index)
    square_s += square_d
    variance_s += variance_d
    square_s *= variance_s
    index /= square_s


def _blurred(plane: np.ndarray, plus: float = 0) -> np.ndarray:
    """SSIM's Gaussian of float32 [h, w, 3], where the window lies inside, and a constant."""
    whole = cv2.sepFilter2D(plane, cv2.CV_32F, _KERNEL_32, _KERNEL_32, delta=plus)
    return whole[RADIUS:-RADIUS, RADIUS:-RADIUS]


def _mean(index: np.ndarray) -> float:
    """Of float32 [h, w, 3], summed in float64."""
    return sum(cv2.sumElems(index)) / index.size


def gaussian_interior(plane: np.ndarray) -> np.ndarray:
    """Gaussian of SSIM, float64 [h, w] to [h - 10, w - 10]: where the window leaves the image, scikit-image does not
    count the pixel."""
    return cv2.sepFilter2D(plane, cv2.CV_64F, _KERNEL, _KERNEL)[RADIUS:-RADIUS, RADIUS:-RADIUS]


def _kernel() -> np.ndarray:
    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    return weights / weights.sum()


_KERNEL = _kernel()
_KERNEL_32 = _KERNEL.astype(np.float32)


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

    def add(self, frame_psnr: float, frame_ssim: float) -> None:
        self.frames += 1
        self.ssim_sum += frame_ssim
        if np.isinf(frame_psnr):
            self.identical += 1
        else:
            self.psnr_sum += frame_psnr

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
            height, width = reference.shape[:2]
            if min(height, width) < SMALLEST_SIDE:
                continue
            similarity = similarity_map(reference, generated)
            boxes = {"full": (0, 0, width, height)}
            if batch.regions is not None and batch.regions.present[i]:
                boxes |= {"face": batch.regions.face[i], "mouth": batch.regions.mouth[i]}
            for name, (x0, y0, x1, y1) in boxes.items():
                index = similarity[y0 : y1 - 2 * RADIUS, x0 : x1 - 2 * RADIUS]
                region = slice(y0, y1), slice(x0, x1)
                self.regions[name].add(psnr(reference[region], generated[region]), _mean(index))

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
    version=2,
    load=_load,
    required_inputs=frozenset({"reference"}),
)
