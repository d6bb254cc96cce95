"""A generated face back into the full frame, through the clip's own affine and a soft mask of the lower face."""

from __future__ import annotations

import cv2
import numpy as np


def paste_face(
    frame: np.ndarray, face: np.ndarray, mask: np.ndarray, face_to_source: np.ndarray
) -> np.ndarray:
    """A copy of the frame with the face blended in by the mask; where the mask is 0 it is the frame bit by bit.

    frame: uint8 RGB [H, W, 3]; face: uint8 RGB [S, S, 3]; mask: float32 [S, S], 0 to 1, 0 at its border;
    face_to_source: [2, 3], crop pixels to frame pixels, pixel centres at integers.
    """
    x0, y0, x1, y1 = covered(mask, face_to_source, frame.shape[1], frame.shape[0])
    pasted = frame.copy()
    if x0 >= x1 or y0 >= y1:
        return pasted
    to_box = face_to_source.astype(np.float64) - [[0, 0, x0], [0, 0, y0]]
    size = (x1 - x0, y1 - y0)
    weight = cv2.warpAffine(mask, to_box, size, flags=cv2.INTER_LINEAR)[..., None]
    # Repeated edges, so that blending never reaches for the black outside the crop.
    warped = cv2.warpAffine(face, to_box, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    box = pasted[y0:y1, x0:x1]
    box[:] = np.where(weight > 0, np.rint(box + (warped.astype(np.float32) - box) * weight), box)
    return pasted


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
