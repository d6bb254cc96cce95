"""Sound and pictures as the bytes a shard holds: FLAC and JPEG. The same input gives the same bytes."""

from __future__ import annotations

import io

import cv2
import numpy as np
import soundfile

from syncdiff_data.records import SAMPLE_RATE


def encode_flac(audio: np.ndarray) -> bytes:
    """int16 [N] mono 16 kHz to FLAC, lossless."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes) -> np.ndarray:
    """FLAC to int16 [N]."""
    audio, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    return audio


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """RGB uint8 [H, W, 3] or gray uint8 [H, W] to JPEG, `quality` 1 to 100."""
    bgr = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ValueError(f"an image of shape {image.shape} and type {image.dtype} cannot become a JPEG")
    return data.tobytes()


def decode_jpeg(data: bytes) -> np.ndarray:
    """JPEG to RGB uint8 [H, W, 3], a gray one to uint8 [H, W]. Raises ValueError if it is not a picture."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("bytes that are not a picture")
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
