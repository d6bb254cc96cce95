"""Is it still the same person? Cosine similarity of dlib's face embeddings, generated against reference.

The field's CSIM is the same cosine of another network's embeddings (ArcFace's, mostly): the numbers are not comparable,
so this one is never called CSIM. dlib's embeddings of two people still have a cosine of up to 0.9, so the scale is
narrow: differences count, and 0.9 is no good score.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

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
from syncdiff_eval.metrics.sums import WholeClip

if TYPE_CHECKING:
    from syncdiff_eval.networks.dlib_face import FaceEmbedder

EVERY = 8
"""Of the frames with a face, one in so many is compared: three a second."""
VERSION = 2
"""Version 1, with dlib's own arithmetic, differs from the eighth decimal on."""


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine similarity of each row of float [N, D] with the same row of another: float64 [N]."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / lengths, np.float64)


class Identity(WholeClip):
    """Mean cosine similarity over the sampled frames. The reference's embeddings are kept for the other methods."""

    def __init__(self, context: ClipContext, embedder: FaceEmbedder):
        super().__init__()
        self._embedder = embedder
        present = context.regions.present if context.regions else np.zeros(0, bool)
        self._sampled = set(np.flatnonzero(present)[::EVERY].tolist())
        self._cache = context.reference_frame_cache
        self._producer = {"name": "identity-dlib", "version": VERSION, "weights": _weights()}
        kept = self._cache.read(**self._producer) if self._cache else None
        self._known = None if kept is None else kept["embeddings"]
        self._generated: list[np.ndarray] = []
        self._reference: list[np.ndarray] = []

    def update(self, batch: FrameBatch) -> None:
        if batch.regions is None or batch.landmarks is None:
            return
        for i, image in enumerate(batch.generated):
            if batch.first_frame + i not in self._sampled:
                continue
            self._generated.append(self._embedder.embed(image, batch.landmarks[i]))
            if self._known is None:
                real = self._embedder.embed(batch.reference[i], batch.regions.landmarks[i])
                self._reference.append(real)

    def _own(self) -> Values:
        if not self._generated:
            return {"identity_dlib": MissingValue(Reason.NO_FACE)}
        reference = np.stack(self._reference) if self._known is None else self._known
        # A shorter output does not show all frames of the reference, whose embeddings are then not whole.
        if self._cache and self._known is None and len(reference) == len(self._sampled):
            self._cache.store({"embeddings": reference}, **self._producer)
        generated = np.stack(self._generated)
        return {"identity_dlib": float(cosines(generated, reference[: len(generated)]).mean())}


def _weights() -> str:
    return f"face_recognition_models {version('face_recognition_models')}"


def _load(weights: Mapping[str, Path], device: str) -> MetricFactory:
    from syncdiff_eval.networks.dlib_face import FaceEmbedder

    del weights, device
    embedder = FaceEmbedder()
    return lambda context: Identity(context, embedder)


IDENTITY = MetricFamily(
    name="identity",
    group=ReportGroup.REALISM,
    columns=(Column("identity_dlib", "Identity (dlib)", "cosine", True, 4, compares_with_reference=True),),
    version=VERSION,
    load=_load,
)
