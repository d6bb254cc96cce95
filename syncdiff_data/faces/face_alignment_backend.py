"""The backend for a GPU: S3FD boxes and FAN's 68 points through the face-alignment package.

S3FD (Zhang et al. 2017) and FAN (Bulat and Tzimiropoulos 2017, 2DFAN-4) are the package's networks and weights.
Its own loop takes one frame at a time; here the faces of many frames go through FAN together, and the points keep
the fraction of a pixel that the package cuts off. Nothing is downloaded: missing files are a UserError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from face_alignment import FaceAlignment, LandmarksType
from face_alignment.models import FAN
from face_alignment.utils import CENTER_Y_OFFSET, SCALE_FACTOR, crop, flip, get_preds_fromhm

from syncdiff_data.weights import find_weights

DETECT_BATCH = 8
LANDMARK_BATCH = 32


class _Networks(FaceAlignment):
    """FaceAlignment with FAN read from a given file instead of the hub's folder."""

    def __init__(self, s3fd: Path, fan: Path, device: str):
        self._fan = fan
        super().__init__(
            LandmarksType.TWO_D,
            device=device,
            face_detector_kwargs={"path_to_detector": str(s3fd)},
            compile=False,  # Compiling takes minutes and its cache a folder in the user's home.
        )

    def _load_native(self, network_name: str, network_size: int, device: str, dtype: torch.dtype) -> Any:
        network = FAN(network_size)
        network.load_state_dict(torch.load(self._fan, map_location=device, weights_only=True))
        return network.to(device, dtype=dtype).eval()


class FaceAlignmentBackend:
    """S3FD and FAN on `device`."""

    name = "face-alignment"

    def __init__(self, weights: Mapping[str, Path], device: str = "cpu", detect_px: int = 320):
        """weights: files named "s3fd" and "fan2d", looked for as the weights registry says where not given.

        detect_px: longer side to which frames are shrunk for detection, 0 for never. Raises UserError where a
        file is missing.
        """
        s3fd, fan = find_weights("s3fd", weights), find_weights("fan2d", weights)
        self._networks = _Networks(s3fd, fan, device)
        self._device = device
        self._detect_px = detect_px

    def detect(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See FaceBackend.detect; five columns. Boxes are S3FD's own, from brows to chin."""
        found: list[np.ndarray] = []
        for start in range(0, len(frames), DETECT_BATCH):
            batch = frames[start : start + DETECT_BATCH]
            longer = max(batch[0].shape[:2])
            scale = min(1.0, self._detect_px / longer) if self._detect_px else 1.0
            small = [
                cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for frame in batch
            ]
            tensor = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)
            for boxes in self._networks.face_detector.detect_from_batch(tensor):
                rows = np.asarray(boxes, np.float32).reshape(-1, 5)
                found.append(rows / np.array([scale] * 4 + [1], np.float32))
        return found

    @torch.no_grad()
    def landmarks(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> np.ndarray:
        """See FaceBackend.landmarks."""
        centres, scales = self._centres(boxes)
        points = np.empty((len(boxes), 68, 2), np.float32)
        for start in range(0, len(boxes), LANDMARK_BATCH):
            part = slice(start, min(start + LANDMARK_BATCH, len(boxes)))
            faces = [crop(*row) for row in zip(frames[part], centres[part], scales[part])]
            heat = self._heat_maps(torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float() / 255)
            cells, _, _ = get_preds_fromhm(heat)
            share = cells / heat.shape[-1] - 0.5
            points[part] = share * (SCALE_FACTOR * scales[part, None, None]) + centres[part, None]
        return points

    def _centres(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where and how large FAN looks, as the package derives it from S3FD's boxes: [B, 2] and [B]."""
        size = boxes[:, 2:] - boxes[:, :2]
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - size * (0, CENTER_Y_OFFSET)
        return centres, size.sum(axis=1).astype(np.float64) / self._networks.face_detector.reference_scale

    def _heat_maps(self, faces: torch.Tensor) -> np.ndarray:
        """FAN's last heat maps, float32 [B, 68, 64, 64], each the sum of a face's and of its mirror image's."""
        faces = faces.to(self._device)
        network = self._networks.face_alignment_net
        direct, mirrored = (_last(network(x)) for x in (faces, flip(faces)))
        return (direct + flip(mirrored, is_label=True)).float().cpu().numpy()


def _last(output: list[torch.Tensor] | torch.Tensor) -> torch.Tensor:
    """Of a stack of hourglasses, what the last one says."""
    return output[-1] if isinstance(output, list) else output
