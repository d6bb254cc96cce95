"""Crops to bytes and back: JPEG for faces, PNG for mouths. Same bytes for the same pixels, always."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

JPEG_QUALITY = 95
MOST_PIXELS = 1 << 26
"""Of a picture that is decoded: a header of a few bytes may ask for gigabytes."""
PNG = b"\x89PNG\r\n\x1a\n"


def encode_jpeg(rgb: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """JPEG of an RGB crop, uint8 [H, W, 3]."""
    return _encode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])


def decode_jpeg(data: bytes) -> np.ndarray:
    """RGB uint8 [H, W, 3] of JPEG (or PNG) bytes. ValueError when they are no image, or one of over MOST_PIXELS."""
    return cv2.cvtColor(_decode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def decode_jpeg_into(data: bytes, out: np.ndarray) -> None:
    """The same RGB pixels into a contiguous uint8 [H, W, 3] of the caller's, in half the time.

    libjpeg-turbo writes in place. ValueError when the bytes are no JPEG of that size, or damaged.
    """
    shape = simplejpeg.decode_jpeg(data, "RGB", buffer=out).shape
    if shape != out.shape:
        raise ValueError(f"a JPEG of shape {shape}, where {out.shape} was expected")


def encode_png(rgb: np.ndarray) -> bytes:
    """PNG of an RGB picture, uint8 [H, W, 3]."""
    return _encode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [])


def encode_gray(gray: np.ndarray) -> bytes:
    """Lossless PNG of a gray crop, uint8 [H, W]."""
    return _encode(".png", gray, [cv2.IMWRITE_PNG_COMPRESSION, 3])


def decode_gray(data: bytes) -> np.ndarray:
    """Gray uint8 [H, W] of the same. ValueError as `decode_jpeg`."""
    return _decode(data, cv2.IMREAD_GRAYSCALE)


def _encode(suffix: str, image: np.ndarray, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, image, options)
    if not done:
        raise ValueError(f"OpenCV could not encode an image of shape {image.shape} and type {image.dtype}")
    return data.tobytes()


def _decode(data: bytes, flag: int) -> np.ndarray:
    height, width = _size(data)
    if height * width > MOST_PIXELS:
        raise ValueError(f"a picture of {width}x{height}, at most {MOST_PIXELS:,} pixels are read")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if image is None:
        raise ValueError(f"{len(data)} bytes are not an image")
    return image


def _size(data: bytes) -> tuple[int, int]:
    """Height and width, as the header of JPEG or PNG says them. ValueError where there is none."""
    if data.startswith(PNG) and len(data) >= 24:
        return int.from_bytes(data[20:24]), int.from_bytes(data[16:20])
    if data.startswith(b"\xff\xd8"):
        try:
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
        except ValueError as error:
            raise ValueError(f"{len(data)} bytes are not an image ({error})") from error
        return height, width
    raise ValueError(f"{len(data)} bytes are not an image")
