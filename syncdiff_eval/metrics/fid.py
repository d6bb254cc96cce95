"""Fréchet Inception distance (Heusel et al. 2017) with pytorch-fid's network and definition.

Features are those of `pytorch_fid.inception.InceptionV3`'s last pooling, as the pytorch_fid command makes them: RGB
over 255, resized to 299 x 299 bilinearly, no antialiasing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from syncdiff_data.weights import file_sha256
from syncdiff_eval.metrics.base import MetricFamily
from syncdiff_eval.metrics.frechet import Distance, FeatureNetwork, Region, frechet_family

VERSION = 2
"""Version 1, one image at a time, differs in the last digits of a feature."""


def _load(weights: Mapping[str, Path], device: str) -> tuple[FeatureNetwork, str]:
    from syncdiff_eval.networks.inception import Inception

    path = weights["inception-fid"]
    return Inception.from_file(path, device), file_sha256(path)


def fid_family(region: Region) -> MetricFamily:
    """FID of the face crop or of the full frame, and the number of frames it was measured on."""
    return frechet_family(
        Distance(
            family=f"fid-{region}",
            column=f"fid_{region}",
            title=f"FID {region}",
            region=region,
            load=_load,
            enough=2048,
            decimals=2,
            version=VERSION,
            weights=("inception-fid",),
        )
    )


FID_FACE = fid_family("face")
FID_FULL = fid_family("full")
