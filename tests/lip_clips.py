"""Made-up clips with a mouth, and their features, for the metrics that look at lips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage

from syncdiff_data.demo.face import Look, render
from syncdiff_data.faces import mean_face
from syncdiff_data.media import write_video
from syncdiff_eval.metrics.avs import Avs
from syncdiff_eval.metrics.base import ClipContext, FrameBatch, Metric, Regions
from syncdiff_eval.networks.lip_reader import LipReader

SIDE = 256
EYES = 60.0


# --- Clips with a mouth -------------------------------------------------------------------------------------


def opening_of(frames: int, seed: int) -> np.ndarray:
    """float64 [frames] in 0..1: a mouth that opens and closes a few times a second."""
    noise = np.random.default_rng(seed).random(frames + 4)
    smooth = np.convolve(noise, np.ones(5) / 5, "valid")
    return (smooth - smooth.min()) / np.ptp(smooth)


def pictures(opening: np.ndarray) -> list[np.ndarray]:
    """Frames as large as the space of the mean face, in which a dark mouth opens below a textured face."""
    face = cv2.resize(skimage.data.astronaut()[20:240, 120:340], (SIDE, SIDE))
    images = []
    for height in opening:
        image = face.copy()
        cv2.ellipse(image, (128, 165), (24, 2 + int(20 * height)), 0, 0, 360, (60, 10, 10), -1)
        images.append(image)
    return images


def landmarks(opening: np.ndarray, at: np.ndarray | float = 0.0) -> np.ndarray:
    """float32 [T, 68, 2]: the mean face whose inner lips are `opening` eye distances / 5 apart, moved right by `at`."""
    points = np.tile(mean_face(), (len(opening), 1, 1))
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        points[:, lower] = points[:, upper]
        points[:, lower, 1] += opening * EYES / 5
    points[..., 0] += np.broadcast_to(at, len(opening))[:, None]
    return points.astype(np.float32)


def context_of(opening: np.ndarray, audio: np.ndarray | None, **more: Any) -> ClipContext:
    points = more.pop("points", landmarks(opening))
    present = more.pop("present", np.ones(len(opening), bool))
    box = np.zeros((len(opening), 4), np.int32)
    regions = Regions(present, points, box.astype(np.float32), box, box, EYES)
    regions = more.pop("regions", regions)
    return ClipContext(more.pop("fps", 25), len(opening), audio, EYES, regions=regions, **more)


def feed(
    metric: Metric,
    context: ClipContext,
    generated: list[np.ndarray],
    reference: list[np.ndarray],
    batch: int = 8,
    points: np.ndarray | None = None,
) -> Metric:
    for first in range(0, len(generated), batch):
        cut = slice(first, first + batch)
        count = len(generated[cut])
        regions = context.regions.span(first, first + count) if context.regions else None
        times = tuple((first + i) / context.fps for i in range(count))
        seen = None if points is None else points[cut]
        metric.update(FrameBatch(first, reference[cut], generated[cut], regions, seen, times))
    return metric


def speech(frames: int, seed: int = 0) -> np.ndarray:
    """int16 [640 frames]: noise whose loudness and colour change every 100 ms."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(frames * 640)
    parts = np.array_split(noise, max(1, frames // 3))
    sounds = [np.convolve(p, rng.standard_normal(8), "same") * rng.uniform(100, 3000) for p in parts]
    return np.clip(np.concatenate(sounds), -32768, 32767).astype(np.int16)


def avs(context: ClipContext, reader: LipReader, generated: Any, reference: Any, batch: int = 8) -> Any:
    return feed(Avs(context, reader), context, generated, reference, batch).compute()


def dubbed(
    out: Path, name: str, look: Look, mouth: np.ndarray, motion: np.ndarray, sound: Any = None
) -> None:
    """A talker of that look and head motion whose mouth opens as `mouth` [T] says."""
    frames = render(
        look, np.column_stack([mouth, np.full(len(mouth), 0.5)]), np.zeros(len(mouth)), motion, 192
    )
    out.mkdir(exist_ok=True)
    write_video(out / f"{name}.mp4", frames, sound)
