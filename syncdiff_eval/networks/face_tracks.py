"""Face tracks as SyncNet's run_pipeline.py makes them: S3FD in every frame, scene cuts, boxes joined by overlap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from scenedetect import ContentDetector
from scenedetect.scene_manager import compute_downscale_factor
from syncnet_python.detectors.s3fd import S3FD
from syncnet_python.detectors.s3fd.nets import S3FDNet

from syncdiff_data.records import UserError
from syncdiff_data.weights.state_dict import read_state

DETECTION_SCALE = 0.25
CONFIDENCE = 0.9
OVERLAP = 0.5
MAX_MISSED = 25
MIN_FACE = 100
"""Pixels: the larger of a track's mean width and mean height must exceed it."""


class Detector(Protocol):
    """Finds faces in one frame."""

    def __call__(self, frame_rgb: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] to float64 [N, 4], x0 y0 x1 y1, in the order the tracker sees them."""
        ...


@dataclass(frozen=True)
class FaceTrack:
    """One face through time. boxes: float64 [T, 4], interpolated; detections: frames in which it was seen."""

    first_frame: int
    boxes: np.ndarray
    detections: int


class S3fdDetector:
    """S3FD as the published pipeline runs it: a quarter of the size, confidence 0.9."""

    def __init__(self, path: Path, device: str = "cpu"):
        """path: sfd_face.pth. UserError when it is something else."""
        network = S3FDNet(device=device)
        try:
            network.load_state_dict(read_state(path, "S3FD"))
        except RuntimeError as error:
            fault = str(error).splitlines()[1].strip()
            raise UserError(f"{path} is not a file of S3FD weights ({fault})") from error
        self._detector = S3FD(network, device)

    def __call__(self, frame_rgb: np.ndarray) -> np.ndarray:
        found = self._detector.detect_faces(frame_rgb, conf_th=CONFIDENCE, scales=[DETECTION_SCALE])
        boxes: np.ndarray = np.asarray(found, np.float64).reshape(-1, 5)[:, :4]
        return boxes


def detect(frames_rgb: Iterable[np.ndarray], detector: Detector) -> tuple[list[np.ndarray], list[int]]:
    """Boxes of every frame, and the frames at which a new scene begins (PySceneDetect's ContentDetector)."""
    boxes, cuts = [], []
    scenes = ContentDetector()
    for index, frame in enumerate(frames_rgb):
        boxes.append(detector(frame))
        cuts += scenes.process_frame(index, _small_bgr(frame))
    return boxes, cuts


def syncnet_tracks(boxes: list[np.ndarray], cuts: list[int], min_track: int) -> list[FaceTrack]:
    """Tracks of more than min_track detections and faces over 100 px, scene by scene.

    Greedy, as published: a track takes the first box of the scene that is left, then in each later frame the
    boxes from the front of that frame's list while they overlap its last one by more than a half. A box behind
    one that does not overlap is not looked at, so that faces which change places in the list tear tracks.
    """
    tracks = []
    edges = [0, *cuts, len(boxes)]
    for start, stop in pairwise(edges):
        if stop - start < min_track:
            continue
        left = {frame: list(boxes[frame]) for frame in range(start, stop)}
        while any(left.values()):
            seen, path = _follow(left)
            if len(seen) > min_track and (track := _interpolated(seen, path)) is not None:
                tracks.append(track)
    return tracks


def _follow(left: dict[int, list[np.ndarray]]) -> tuple[list[int], list[np.ndarray]]:
    """Take one track's boxes out of those that are left."""
    seen: list[int] = []
    path: list[np.ndarray] = []
    for frame, faces in left.items():
        kept: list[np.ndarray] = []
        rest = iter(faces)
        for box in rest:
            if seen and (frame - seen[-1] > MAX_MISSED or overlap(box, path[-1]) <= OVERLAP):
                kept.append(box)
                break
            seen.append(frame)
            path.append(box)
            # The published loop removes from the list it walks, and so passes over the next box.
            kept += [skipped for skipped in [next(rest, None)] if skipped is not None]
        left[frame] = kept + list(rest)
    return seen, path


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes x0 y0 x1 y1."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    return shared / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared + 1e-8)


def _interpolated(seen: list[int], path: list[np.ndarray]) -> FaceTrack | None:
    """Boxes for every frame of the span; None where the face is too small."""
    frames = np.arange(seen[0], seen[-1] + 1)
    boxes = np.column_stack([np.interp(frames, seen, column) for column in np.array(path).T])
    if (boxes[:, 2:] - boxes[:, :2]).mean(axis=0).max() <= MIN_FACE:
        return None
    return FaceTrack(seen[0], boxes, len(seen))


def _small_bgr(frame_rgb: np.ndarray) -> np.ndarray:
    """The size at which PySceneDetect compares frames: 256 pixels on the longer side."""
    height, width = frame_rgb.shape[:2]
    factor = compute_downscale_factor(max(width, height))
    bgr = np.ascontiguousarray(frame_rgb[..., ::-1])
    if factor <= 1:
        return bgr
    return cv2.resize(bgr, (max(1, round(width / factor)), max(1, round(height / factor))))
