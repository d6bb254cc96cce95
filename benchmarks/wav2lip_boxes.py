"""How far the boxes that Wav2Lip is given here lie from those of its authors' face detector.

    python benchmarks/wav2lip_boxes.py --methods ../shared/methods

Wav2Lip pastes the whole box over the frame, at the sharpness of 96 pixels. The difference between a published output
and its reference therefore shows the box of every frame; it is compared with the boxes made here from the reference.
Frames in which one of the four edges does not stand out are left out. Pads and smoothing are taken to be inference.py's
defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from syncdiff_data.faces import FaceConfig, find_tracks, load_backend
from syncdiff_data.faces.boxes import iou
from syncdiff_data.media import Video
from syncdiff_model.wav2lip.boxes import BoxConfig, detector_boxes, face_boxes

EVERY = 5
"""Frames from one measured frame to the next."""
STRIP = 5
"""Width in pixels of what is compared on both sides of an edge."""
CLEAR = 0.15
"""Least step at each edge of a box that counts as seen, in log(1 + gray levels)."""


@dataclass(frozen=True)
class Options:
    methods: Path
    """Folder with `reference/` and `wav2lip/`: files of equal names, frames paired by index."""


def visible_box(difference: np.ndarray, face: np.ndarray) -> np.ndarray | None:
    """The box [4] whose edges part differing pixels from equal ones, around a detector's square `face` [4] of a frame's
    difference [H, W] in gray levels; None where an edge is not clear."""
    levels = np.log1p(difference)
    side, centre = face[2] - face[0], (face[:2] + face[2:]) / 2
    box = np.concatenate([centre - (0.5 * side, 0.7 * side), centre + 0.5 * side])
    nearest, farthest = np.array([-0.25, -0.35, 0.25, 0.35]), np.array([-0.75, -1.2, 0.75, 0.9])
    bounds = np.sort(np.tile(centre, 2) + side * np.stack([nearest, farthest]), axis=0).astype(int)
    for _ in range(3):
        steps = np.empty(4)
        for edge in range(4):
            axis = edge % 2
            # Mean along the edge, without the corners, then the step between the strips on both of its sides.
            lo, hi = (int(box[1 - axis] + 0.1 * side), int(box[3 - axis] - 0.1 * side))
            across = (levels[max(lo, 0) : hi] if axis == 0 else levels[:, max(lo, 0) : hi]).mean(axis=axis)
            sums = np.concatenate([[0], np.cumsum(across)])
            at = np.arange(max(bounds[0, edge], STRIP), min(bounds[1, edge], len(across) - STRIP))
            step = (sums[at + STRIP] + sums[at - STRIP] - 2 * sums[at]) / STRIP
            step = step if edge < 2 else -step
            box[edge], steps[edge] = at[step.argmax()], step.max()
    return box if steps.min() > CLEAR else None


def compare(reference: Path, output: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of one video, per measured frame: overlap of the visible box with that of the square and of the landmarks [N, 2];
    how far the visible box, less its pads, passes the landmarks at each edge, as shares of their extent [N, 4]."""
    frames = list(Video(reference).frames())
    tracks, _ = find_tracks(frames, load_backend(FaceConfig(), {}), FaceConfig(detect_every=1))
    track = max(tracks, key=lambda found: len(found.box))
    size = (frames[0].shape[1], frames[0].shape[0])
    made = [face_boxes(boxes, size) for boxes in (track.box, detector_boxes(track.landmarks))]
    low, high = track.landmarks.min(axis=1), track.landmarks.max(axis=1)
    overlaps, shares = [], []
    for t, frame in enumerate(Video(output).frames()):
        row = t - track.first_frame
        if t % EVERY or not 0 <= row < len(track.box):
            continue
        seen = visible_box(np.abs(frame.astype(int) - frames[t]).mean(axis=-1), track.box[row])
        if seen is not None:
            overlaps.append([iou(seen[None], boxes[row][None])[0, 0] for boxes in made])
            above, below, left, right = BoxConfig().pads
            bare = seen + np.array([left, above, -right, -below])
            extent = np.tile(high[row] - low[row], 2)
            shares.append((bare - np.concatenate([low[row], high[row]])) / extent)
    return np.array(overlaps).reshape(-1, 2), np.array(shares).reshape(-1, 4)


def main(options: Options) -> None:
    print("| video | frames | overlap, detector's square | overlap, box of the landmarks |")
    print("|---|---|---|---|")
    overlaps, shares = [], []
    for reference in sorted((options.methods / "reference").iterdir()):
        overlap, share = compare(reference, options.methods / "wav2lip" / reference.name)
        if len(overlap):
            square, landmarks = np.median(overlap, axis=0)
            print(f"| {reference.stem} | {len(overlap)} | {square:.2f} | {landmarks:.2f} |", flush=True)
        overlaps.append(overlap)
        shares.append(share)
    every = np.concatenate(overlaps)
    square, landmarks = np.median(every, axis=0)
    print(f"| all | {len(every)} | {square:.2f} | {landmarks:.2f} |")
    edges = np.median(np.concatenate(shares), axis=0)
    print("visible box less pads, from the landmarks' left, top, right, bottom, in shares of their extent:")
    print(", ".join(f"{edge:+.3f}" for edge in edges))


if __name__ == "__main__":
    main(tyro.cli(Options))
