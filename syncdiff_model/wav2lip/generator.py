"""The published Wav2Lip as a generator: its own boxes, its whole box pasted back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from syncdiff_data.faces import FaceConfig
from syncdiff_data.features import mel_windows_at
from syncdiff_model.generator import Generator
from syncdiff_model.wav2lip.boxes import BoxConfig, box_transforms, detector_boxes, face_boxes
from syncdiff_model.wav2lip.faces import generate_faces
from syncdiff_model.wav2lip.load import load_wav2lip
from syncdiff_model.wav2lip.network import CROP_SIZE, Wav2Lip


class Wav2LipGenerator(Generator):
    """Prajwal et al. 2020. A frame depends on no other: the state of a clip is its sound."""

    name = "Wav2Lip"

    def __init__(self, network: Wav2Lip, boxes: BoxConfig | None = None):
        self.network, self.boxes = network, boxes or BoxConfig()
        self.faces_config = FaceConfig(crop_size=CROP_SIZE)
        self.mask = np.ones((CROP_SIZE, CROP_SIZE), np.float32)

    @classmethod
    def published(cls, name: str, weights: Mapping[str, Path], device: str = "cpu") -> Wav2LipGenerator:
        """With the published weights of that name in the registry; UserError where they are missing."""
        return cls(load_wav2lip(name, weights, device))

    def transforms(
        self, landmarks: np.ndarray, boxes: np.ndarray, size: tuple[int, int], frame_rate: float
    ) -> np.ndarray:
        """Of its padded and smoothed boxes. The landmarks stand for its detector's boxes (detector_boxes)."""
        return box_transforms(face_boxes(detector_boxes(landmarks), size, self.boxes))

    def encode_audio(self, sound: np.ndarray) -> np.ndarray:
        """The sound itself: mel windows begin at any time."""
        return sound

    def start(self, identity: np.ndarray, sound: np.ndarray) -> Any:
        return sound

    def advance(
        self,
        states: Sequence[Any],
        crops: Sequence[np.ndarray],
        times: Sequence[np.ndarray],
        heartbeat: Callable[[], None] = lambda: None,
    ) -> list[np.ndarray]:
        made = []
        for sound, clip_crops, clip_times in zip(states, crops, times):
            windows = mel_windows_at(sound, clip_times)
            made.append(generate_faces(self.network, clip_crops, windows))
            heartbeat()
        return made
