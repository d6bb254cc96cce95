"""dlib's face embedding: 128 numbers that say whose face it is, on the CPU.

The network (King 2017, dlib_face_recognition_resnet_model_v1) is a file inside `face_recognition_models`; dlib cuts the
faces out, PyTorch runs the network. dlib calls two faces one person's where their embeddings are less than 0.6 apart;
it does not scale them to one length.
"""

from __future__ import annotations

import dlib
import numpy as np
import torch

from syncdiff_data.faces.embedded import packaged_file
from syncdiff_eval.networks.dlib_network import DlibFaceNetwork

CHIP = 150
PADDING = 0.25
"""Side in pixels, and border over the face's side, of the aligned chip that the network was trained on."""


class FaceEmbedder:
    """Embeds single faces, each aligned by its own landmarks."""

    dimensions = 128

    def __init__(self) -> None:
        """Raises UserError where the file is not there."""
        path = packaged_file("face_recognition_models", "models/dlib_face_recognition_resnet_model_v1.dat")
        self._network = DlibFaceNetwork(path).eval().requires_grad_(False)

    @torch.inference_mode()
    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """RGB uint8 [H, W, 3] and float [68, 2] to float64 [128]."""
        points = dlib.points([dlib.point(round(float(x)), round(float(y))) for x, y in landmarks])
        # The rectangle is not read: a chip is cut by the points alone.
        shape = dlib.full_object_detection(dlib.rectangle(0, 0, 1, 1), points)
        chip = dlib.get_face_chip(np.ascontiguousarray(image), shape, CHIP, PADDING)
        embedded: np.ndarray = self._network(torch.from_numpy(chip).permute(2, 0, 1)[None].float())[0].numpy()
        return embedded.astype(np.float64)
