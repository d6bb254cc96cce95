"""Where Wav2Lip sees the face and puts it back: padded, smoothed boxes, each resized to 96 x 96 and back.

The original is inference.py of github.com/Rudrabha/Wav2Lip (`face_detect`, `get_smoothened_boxes`, `datagen`, `main`);
its boxes come from S3FD. Boxes are x0, y0, x1, y1 in pixels of the source; whole ones are half open, as slices are.
Shapes: T frames of one face.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from syncdiff_model.wav2lip.network import CROP_SIZE

ABOVE_BROWS, ABOVE_CHIN = 0.30, 0.05
"""How far S3FD's boxes reach above the highest of 68 landmarks and end above the lowest, as shares of the height
between both. Measured on published outputs of Wav2Lip, in which the boxes are visible (docs/model.md)."""


@dataclass(frozen=True)
class BoxConfig:
    """Options of the original's inference.py, with its defaults."""

    pads: tuple[int, int, int, int] = (0, 10, 0, 0)
    """Pixels added to a box at the top, bottom, left and right (`--pads`)."""
    smooth_frames: int = 5
    """Frames over which boxes are averaged (T of get_smoothened_boxes); 1 is its `--nosmooth`."""


def detector_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Boxes like those of S3FD, which Wav2Lip was trained on, from 68 landmarks [T, 68, 2]: float32 [T, 4].

    As wide as the landmarks, from the forehead to the chin. Ours: the original asks S3FD itself, whose boxes the face
    backend `face-alignment` gives as they are.
    """
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    height = high[:, 1] - low[:, 1]
    top, bottom = low[:, 1] - ABOVE_BROWS * height, high[:, 1] - ABOVE_CHIN * height
    return np.stack([low[:, 0], top, high[:, 0], bottom], axis=1).astype(np.float32)


def face_boxes(boxes: np.ndarray, frame_size: tuple[int, int], config: BoxConfig | None = None) -> np.ndarray:
    """The boxes that are cut out and pasted over, int64 [T, 4]: a detector's boxes [T, 4], padded and smoothed.

    frame_size: width and height of the frames. As `face_detect` with the fields of `config` as its options.
    """
    config = config or BoxConfig()
    return smooth_boxes(pad_boxes(boxes, frame_size, config.pads), config.smooth_frames)


def pad_boxes(boxes: np.ndarray, frame_size: tuple[int, int], pads: tuple[int, int, int, int]) -> np.ndarray:
    """Boxes [T, 4] of any type, cut to whole pixels, padded and kept inside the frame: int64 [T, 4].

    As `face_detect` (and `get_detections_for_batch`, which cuts the fractions off). A box that lies outside the frame,
    where the original ends with an error, becomes one pixel wide or high.
    """
    width, height = frame_size
    above, below, left, right = pads
    x0, y0, x1, y1 = np.maximum(boxes, 0).astype(np.int64).T
    x0, y0 = np.clip(x0 - left, 0, width - 1), np.clip(y0 - above, 0, height - 1)
    x1, y1 = np.clip(x1 + right, x0 + 1, width), np.clip(y1 + below, y0 + 1, height)
    return np.stack([x0, y0, x1, y1], axis=1)


def smooth_boxes(boxes: np.ndarray, window: int = 5) -> np.ndarray:
    """Each of the whole boxes, int64 [T, 4], as the mean of itself and those that follow, `window` in all, without its
    fraction.

    As `get_smoothened_boxes`, to the bit, with what follows from writing into the array that is read: the last
    `window` - 1 frames average the last `window` boxes, of which those before them are smoothed already. Where T is
    less than `window`, the last `window` - T boxes are averaged (all, if there are no more).
    """
    smoothed = boxes.copy()
    for t in range(len(smoothed)):
        start = min(t, len(smoothed) - window)  # A negative one counts from the end.
        smoothed[t] = smoothed[start:][:window].mean(axis=0)
    return smoothed


def box_transforms(boxes: np.ndarray, crop_size: int = CROP_SIZE) -> np.ndarray:
    """Affines from crop pixels to source pixels, float32 [T, 2, 3], of whole boxes [T, 4]; pixel centres at integers.

    The crop's edges lie on the box's edges: pixel u's centre is at x0 + (u + 0.5) * (x1 - x0) / crop_size - 0.5, as
    cv2.resize places it. Width and height are scaled apart, because boxes are no squares.
    """
    origin = boxes[:, :2].astype(np.float64)
    scale = (boxes[:, 2:] - boxes[:, :2]) / crop_size
    matrices = np.zeros((len(boxes), 2, 3))
    matrices[:, [0, 1], [0, 1]] = scale
    matrices[:, :, 2] = origin + scale / 2 - 0.5
    return matrices.astype(np.float32)


def crop_box(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The box [4] of a frame, uint8 [H, W, 3], resized to uint8 [96, 96, 3]: bilinear, without averaging, as `datagen`
    does, so a face much larger than 96 pixels aliases."""
    x0, y0, x1, y1 = box
    return cv2.resize(frame[y0:y1, x0:x1], (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)


def paste_box(frame: np.ndarray, face: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A copy of the frame, uint8 [H, W, 3], with the face, uint8 [96, 96, 3], resized (bilinear) over the whole of the
    box [4]; its edge is hard and may show, as in the original's `main`."""
    x0, y0, x1, y1 = box
    pasted = frame.copy()
    pasted[y0:y1, x0:x1] = cv2.resize(face, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    return pasted
