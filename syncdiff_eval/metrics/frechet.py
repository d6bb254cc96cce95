"""The Fréchet distance between the features of a method's frames and those of the real ones, pooled over all clips.

Sums that merge stand for the frames. The trace of the root is that of a symmetric matrix, an eighth of the time of
pytorch-fid's, equal to it to 1e-6 of distance + tr S1 + tr S2 (docs/protocols.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

from syncdiff_data.reasons import Reason
from syncdiff_eval.metrics.base import (
    ClipArrays,
    ClipContext,
    Column,
    FrameBatch,
    MetricFactory,
    MetricFamily,
    MissingValue,
    Pool,
    ReportGroup,
    Values,
)

Region = Literal["face", "full"]
FRAMES_WANTED = "at least {:,} wanted"
"""Unit of the columns that count frames."""
_ONE_THREAD = ThreadpoolController().wrap(limits=1, user_api="blas")
"""For sums, products and eigenvalues: their last digits depend on the number of threads."""


def frames_wanted(unit: str) -> int:
    """The number in FRAMES_WANTED."""
    return int("".join(filter(str.isdigit, unit)) or 0)


class FeatureNetwork(Protocol):
    """Makes the features of single images."""

    dimensions: int

    def features(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """RGB uint8 [H, W, 3] of any sizes to float32 [N, dimensions]."""
        ...


class FeatureSums:
    """Number, sum and sum of outer products of features: float64, mergeable, 33 MB for Inception's 2048 whatever the
    number of frames."""

    def __init__(self) -> None:
        self.n = 0
        self.total: np.ndarray = np.zeros(())
        self.outer: np.ndarray = np.zeros(())

    @_ONE_THREAD
    def update(self, features: np.ndarray) -> None:
        """Add float [N, D]."""
        rows = features.astype(np.float64)
        self.n += len(rows)
        self.total = self.total + rows.sum(axis=0)
        self.outer = self.outer + rows.T @ rows

    def merge(self, other: FeatureSums) -> None:
        self.n += other.n
        self.total = self.total + other.total
        self.outer = self.outer + other.outer

    def compute(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean [D] and covariance [D, D] over n - 1. Raises ValueError for fewer than two frames."""
        if self.n < 2:
            raise ValueError(f"a covariance needs two frames or more, got {self.n}")
        mean = self.total / self.n
        return mean, (self.outer - self.n * np.outer(mean, mean)) / (self.n - 1)


class Gaussian:
    """Mean, covariance and a root of it, ready to be compared with many."""

    @_ONE_THREAD
    def __init__(self, mean: np.ndarray, covariance: np.ndarray):
        self.mean = mean
        self.covariance = covariance
        values, vectors = np.linalg.eigh(covariance)
        self.root = vectors * np.sqrt(np.clip(values, 0, None))

    @_ONE_THREAD
    def distance(self, mean: np.ndarray, covariance: np.ndarray) -> float:
        """Squared Fréchet distance of two Gaussians.

        tr sqrt(S1 S2) is the sum of the roots of the eigenvalues of R' S2 R with S1 = R R', which is symmetric.
        """
        values = np.linalg.eigvalsh(self.root.T @ covariance @ self.root)
        cross = float(np.sqrt(np.clip(values, 0, None)).sum())
        difference = mean - self.mean
        traces = float(np.trace(self.covariance) + np.trace(covariance))
        return float(difference @ difference) + traces - 2 * cross


def frechet_distance(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """Of two sets of features, from their means and covariances."""
    return Gaussian(mean_a, covariance_a).distance(mean_b, covariance_b)


class FrameFeatures:
    """Features of every generated frame, or of its face in the reference's box.

    producer: name, version and weights of the network, for the cache.
    """

    def __init__(
        self, context: ClipContext, network: FeatureNetwork, region: Region, producer: Mapping[str, object]
    ):
        self._network = network
        self._region = region
        self._frame_cache = context.frame_cache
        self._producer = dict(producer)
        kept = self._frame_cache.read(**self._producer) if self._frame_cache else None
        self._known = kept is not None
        self._parts = [kept["features"]] if kept else []

    def update(self, batch: FrameBatch) -> None:
        if not self._known:
            self._parts.append(self._network.features(self._images(batch)))

    def _images(self, batch: FrameBatch) -> list[np.ndarray]:
        if self._region == "full":
            return batch.generated
        if batch.regions is None:
            return []
        return [
            image[y0:y1, x0:x1]
            for image, (x0, y0, x1, y1), present in zip(
                batch.generated, batch.regions.face, batch.regions.present
            )
            if present
        ]

    def merge(self, other: FrameFeatures) -> None:
        self._parts += other._parts

    def compute(self) -> Values:
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """features: float32 [frames, D]. Smaller than their outer products for any clip under 2 D frames."""
        empty = np.empty((0, self._network.dimensions), np.float32)
        return {"features": np.concatenate(self._parts) if self._parts else empty}

    def cached_arrays(self) -> str | None:
        """Key of the frame features, stored once for all rows that show these frames."""
        if self._frame_cache is None:
            return None
        if not self._known:
            self._frame_cache.store(self.arrays(), **self._producer)
            self._known = True
        return self._frame_cache.key(**self._producer)


class _Gathered:
    """The frames of a method; their root is made when first wanted, and only once."""

    def __init__(self, clips: Iterable[ClipArrays]):
        self.sums = FeatureSums()
        for clip in clips:
            self.sums.update(clip["features"])
        self._gaussian: Gaussian | None = None

    def gaussian(self) -> Gaussian:
        if self._gaussian is None:
            self._gaussian = Gaussian(*self.sums.compute())
        return self._gaussian


@dataclass(frozen=True)
class Distance:
    """A pooled Fréchet distance: its name and title, the region, and how its network is loaded.

    load: from the weights' paths and the device to the network and what identifies its weights. enough: frames under
    which the covariance has not full rank, and the distance says more of the number than of the frames.
    """

    family: str
    column: str
    title: str
    region: Region
    load: Callable[[Mapping[str, Path], str], tuple[FeatureNetwork, str]]
    enough: int
    decimals: int
    version: int
    weights: tuple[str, ...] = ()


def frechet_family(distance: Distance) -> MetricFamily:
    """Two columns: the distance, and the number of frames it was measured on."""
    column, frames = distance.column, f"{distance.column}_frames"

    def load(weights: Mapping[str, Path], device: str) -> MetricFactory:
        network, digest = distance.load(weights, device)
        producer = {"name": distance.family, "version": distance.version, "weights": digest}
        return lambda context: FrameFeatures(context, network, distance.region, producer)

    def compare(generated: _Gathered, reference: _Gathered) -> Values:
        n = min(generated.sums.n, reference.sums.n)
        if n < 2:
            too_few = MissingValue(
                Reason.TOO_FEW_FRAMES if n or distance.region == "full" else Reason.NO_FACE
            )
            return {column: too_few, frames: too_few}
        if n < distance.enough:
            warnings.warn(
                f"{distance.title} over {n} frames: under {distance.enough:,} it depends on their number more than on "
                "the frames.",
                stacklevel=2,
            )
        value = reference.gaussian().distance(*generated.sums.compute())
        return {column: value, frames: float(n)}

    return MetricFamily(
        name=distance.family,
        group=ReportGroup.REALISM,
        columns=(
            Column(column, distance.title, "", False, distance.decimals, pooled=True),
            Column(
                frames,
                f"{distance.title}, frames",
                FRAMES_WANTED.format(distance.enough),
                None,
                0,
                pooled=True,
            ),
        ),
        version=distance.version,
        load=load,
        weights=distance.weights,
        pool=Pool(_Gathered, compare),
        required_inputs=frozenset(),
    )
