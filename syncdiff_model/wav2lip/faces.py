"""Crops and sound through Wav2Lip's generator, as inference.py of github.com/Rudrabha/Wav2Lip puts them in and takes
them out.

Shapes: N frames of any number of clips; the network looks at each by itself.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from syncdiff_data.features.audio import MEL_BANDS, MEL_DIM, MEL_WINDOW
from syncdiff_model.wav2lip.network import CROP_SIZE, Wav2Lip

BATCH = 32
"""Frames in one pass; the original's default is 128."""


@torch.inference_mode()
def generate_faces(
    network: Wav2Lip, crops: np.ndarray, windows: np.ndarray, batch: int = BATCH
) -> np.ndarray:
    """The crops as the sound has them speak, uint8 RGB [N, 96, 96, 3]; the whole crop is generated, not its lower half.

    network: in eval mode. crops: uint8 RGB [N, 96, 96, 3], each both target (its lower half hidden) and reference.
    windows: float32 [N, 1280], as `features.audio.mel_windows_at` gives them. Values are cut to whole ones, not
    rounded, as in the original. Raises ValueError for other shapes or types.
    """
    _check(crops, windows)
    device = next(network.parameters()).device
    faces = np.empty_like(crops)
    for start in range(0, len(crops), batch):
        part = slice(start, start + batch)
        generated = network(mel_input(windows[part]).to(device), face_input(crops[part]).to(device))
        # BGR, 0 to 1 [B, 3, 96, 96] -> RGB, 0 to 255 [B, 96, 96, 3]
        faces[part] = (generated * 255).flip(1).permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
    return faces


def face_input(crops: np.ndarray) -> Tensor:
    """float32 [N, 6, 96, 96], 0 to 1, of RGB crops, uint8 [N, 96, 96, 3]: the crop with rows from 48 on set to 0, then
    the crop itself; **BGR**, as OpenCV reads frames and the network was trained."""
    bgr = torch.from_numpy(crops).flip(-1).permute(0, 3, 1, 2).float() / 255
    hidden = bgr.clone()
    hidden[:, :, CROP_SIZE // 2 :] = 0
    return torch.cat([hidden, bgr], dim=1)


def mel_input(windows: np.ndarray) -> Tensor:
    """float32 [N, 1, 80, 16] of mel windows [N, 1280], which are flattened from [16, 80]."""
    return torch.from_numpy(windows).reshape(-1, 1, MEL_WINDOW, MEL_BANDS).transpose(2, 3)


def _check(crops: np.ndarray, windows: np.ndarray) -> None:
    wanted = (len(crops), CROP_SIZE, CROP_SIZE, 3)
    if crops.dtype != np.uint8 or crops.shape != wanted:
        raise ValueError(
            f"crops: expected uint8 [N, {CROP_SIZE}, {CROP_SIZE}, 3], got {crops.dtype} {list(crops.shape)}"
        )
    if windows.dtype != np.float32 or windows.shape != (len(crops), MEL_DIM):
        raise ValueError(
            f"windows: expected float32 [{len(crops)}, {MEL_DIM}], got {windows.dtype} {list(windows.shape)}"
        )
