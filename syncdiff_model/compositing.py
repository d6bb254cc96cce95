"""A generated face back into the full frame, through the clip's own affine and a soft mask of the lower face."""

from __future__ import annotations

import cv2
import numpy as np

MOST_CHANGE = 24.0
"""Gray levels by which a face's colour is matched at most: more is no light, but another picture."""


def match_colour(face: np.ndarray, original: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The face with the mean colour of the original along the seam.

    face, original: uint8 RGB [S, S, 3]; mask: float32 [S, S]. The seam is where the mask is between 0 and 1, so that
    both are seen there, in its upper half: around the chin they rightly differ. Returns float32 [S, S, 3], which may
    lie outside 0 to 255.
    """
    seam = mask * (1 - mask)
    shown = np.flatnonzero(mask.any(axis=1))
    seam[(shown[0] + shown[-1]) // 2 if len(shown) else 0 :] = 0
    total = float(seam.sum())
    made = face.astype(np.float32)
    if total == 0:
        return made
    difference = ((original.astype(np.float32) - made) * seam[..., None]).sum(axis=(0, 1)) / total
    return made + np.clip(difference, -MOST_CHANGE, MOST_CHANGE)


def sharpen(face: np.ndarray, amount: float, face_to_source: np.ndarray) -> np.ndarray:
    """The face with its fine structure raised where pasting enlarges it: cropping and pasting soften a picture by
    themselves, and a soft mouth in a sharp face is seen.

    face: float32 [S, S, 3]; amount: of the difference to its Gaussian of sigma 1 pixel; 0 changes nothing.
    """
    if not amount or np.hypot(face_to_source[0, 0], face_to_source[1, 0]) <= 1:
        return face
    return face + amount * (face - cv2.GaussianBlur(face, (0, 0), 1.0))


def paste_face(
    frame: np.ndarray, face: np.ndarray, mask: np.ndarray, face_to_source: np.ndarray
) -> np.ndarray:
    """A copy of the frame with the face blended in by the mask; where the mask is 0 it is the frame bit by bit.

    frame: uint8 RGB [H, W, 3]; face: RGB [S, S, 3], uint8 or float32; mask: float32 [S, S], 0 to 1, 0 at its border;
    face_to_source: [2, 3], crop pixels to frame pixels, pixel centres at integers. A face that is shrunk to half or
    less is averaged down first, so that it does not alias.
    """
    face, mask, face_to_source = _averaged_down(
        face.astype(np.float32), mask, face_to_source.astype(np.float64)
    )
    x0, y0, x1, y1 = covered(mask, face_to_source, frame.shape[1], frame.shape[0])
    pasted = frame.copy()
    if x0 >= x1 or y0 >= y1:
        return pasted
    to_box = face_to_source - [[0, 0, x0], [0, 0, y0]]
    size = (x1 - x0, y1 - y0)
    weight = cv2.warpAffine(mask, to_box, size, flags=cv2.INTER_LINEAR)[..., None]
    # Repeated edges, so that blending never reaches for the black outside the crop.
    warped = cv2.warpAffine(face, to_box, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    box = pasted[y0:y1, x0:x1]
    blended = np.clip(np.rint(box + (warped - box) * weight), 0, 255)
    box[:] = np.where(weight > 0, blended, box)
    return pasted


def _averaged_down(
    face: np.ndarray, mask: np.ndarray, face_to_source: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face and mask shrunk by a whole factor where the affine shrinks by at least that, and the affine from there."""
    factor = int(1 / max(np.hypot(face_to_source[0, 0], face_to_source[1, 0]), 1e-6))
    factor = min(factor, len(mask) // 8)
    if factor < 2:
        return face, mask, face_to_source
    side = -(-len(mask) // factor)
    padded = side * factor - len(mask)
    face = np.pad(face, ((0, padded), (0, padded), (0, 0)), mode="edge")
    mask = np.pad(mask, ((0, padded), (0, padded)))
    small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in (face, mask)]
    # The centre of small pixel 0 is the mean of the crop's pixels 0 ... factor - 1.
    scale = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]])
    return small[0], small[1], face_to_source @ scale


def covered(
    mask: np.ndarray, face_to_source: np.ndarray, width: int, height: int
) -> tuple[int, int, int, int]:
    """The box of frame pixels where the mask can be above 0: x0, y0, x1, y1, half open, inside the frame."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if not len(rows):
        return 0, 0, 0, 0
    corners = np.array(
        [(x, y, 1) for x in (columns[0] - 1, columns[-1] + 1) for y in (rows[0] - 1, rows[-1] + 1)]
    )
    x, y = face_to_source.astype(np.float64) @ corners.T
    low = np.floor([x.min(), y.min()]).astype(int)
    high = np.ceil([x.max(), y.max()]).astype(int) + 1
    return max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
