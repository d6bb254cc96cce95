"""Derives the mean face that ships with the project from a folder of videos of frontal faces.

    python benchmarks/derive_mean_face.py --root /data/videos --out mean_face.json

syncdiff_data/faces/mean_face.json was made from the GRID clips of one speaker and some fifty clips of others; every
clip weighs the same, so that a data set of one person is one person's share.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tyro

from syncdiff_data.faces import FaceConfig, find_tracks, load_backend
from syncdiff_data.faces.mean_face import derive_mean_face
from syncdiff_data.media import Video
from syncdiff_data.records import MediaError


@dataclass(frozen=True)
class Options:
    root: tuple[Path, ...]
    """Folders of videos (not recursive); what shows no face or is no video is passed over."""
    out: Path
    """JSON file to write."""
    frames: int = 50
    """Frames looked at from the start of each video."""
    per_folder: int = 60
    """Most videos taken from one folder, in the order of their names."""


def main(options: Options) -> None:
    config = FaceConfig(min_frames=1)
    backend = load_backend(config, {})
    faces: list[np.ndarray] = []
    for folder in options.root:
        for path in sorted(folder.iterdir())[: options.per_folder]:
            try:
                frames = islice(Video(path).frames(), options.frames)
                tracks, _ = find_tracks(frames, backend, config)
            except MediaError as error:
                print(f"passed over {path.name}: {error}")
                continue
            faces += [track.landmarks.mean(axis=0) for track in tracks]
    points = np.round(derive_mean_face(np.stack(faces)), 3)
    options.out.write_text(json.dumps({"points": points.tolist()}, indent=1) + "\n")
    print(f"mean of {len(faces)} faces -> {options.out}")


if __name__ == "__main__":
    main(tyro.cli(Options))
