"""How close LSE and FID come to the published code: the tolerance table of docs/protocols.md.

    python benchmarks/tolerances.py [--weights syncnet=FILE] [--weights inception-fid=FILE] [VIDEO ...]

Without weights and videos, seeded ones stand in. Every row computes both sides on identical pictures and sound; the
last rows say how far the published chain's own re-encoding (JPEG frames) moves the same numbers.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import tyro
from scipy.io import wavfile
from syncnet_python.SyncNetInstance import SyncNetInstance
from syncnet_python.SyncNetModel import S

from syncdiff_data.media import Video, read_audio
from syncdiff_data.weights import given_weights
from syncdiff_eval.metrics.crops import to_bgr, whole_frame
from syncdiff_eval.metrics.fid import frechet_distance
from syncdiff_eval.metrics.inception import Inception
from syncdiff_eval.metrics.lse import lse_from_arrays
from syncdiff_eval.metrics.syncnet import SyncNet

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from seeded_networks import inception_state, syncnet_state

Clip = tuple[str, np.ndarray, np.ndarray]
Weights = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=FILE")]


@dataclass(frozen=True)
class Options:
    """How close LSE and FID come to the published code, as a Markdown table."""

    videos: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Videos with sound; none: a generated clip."""
    weights: Weights = ()
    """syncnet=FILE and inception-fid=FILE; seeded ones stand in for those not given."""
    frames: int = 50
    """Of each video."""
    sqrtm: bool = True
    """Compare the distance with pytorch-fid's own square root too (half a minute of CPU); --no-sqrtm skips it."""


def published_lse(frames: np.ndarray, samples: np.ndarray, state: dict[str, Any], suffix: str) -> Any:
    """syncnet_python's evaluate; suffix ".png" in place of its JPEG keeps the pictures as they are."""
    network = S()
    network.load_state_dict(state)
    with tempfile.TemporaryDirectory() as folder:
        for i, frame in enumerate(frames):
            encoded = cv2.imencode(suffix, frame)[1]
            (Path(folder) / f"{i:06d}.jpg").write_bytes(encoded.tobytes())
        wavfile.write(f"{folder}/audio.wav", 16_000, samples)
        options = SimpleNamespace(tmp_dir=folder, batch_size=20, vshift=15)
        with contextlib.redirect_stdout(io.StringIO()):
            offset, confidence, distance = SyncNetInstance(network, device="cpu").evaluate(options)
    return offset, distance, confidence


def clips(options: Options) -> list[Clip]:
    found = []
    for path in options.videos:
        video = Video(path)
        frames = np.stack([whole_frame(to_bgr(frame)) for frame in video.frames(0, options.frames)])
        found.append((path.name, frames, read_audio(path, video.start_s, len(frames))))
    if not found:
        rng = np.random.default_rng(0)
        small = rng.integers(0, 256, (options.frames, 8, 8, 3), dtype=np.uint8)
        frames = np.stack([cv2.resize(picture, (224, 224)) for picture in small])
        found.append(("generated", frames, rng.integers(-9000, 9000, options.frames * 640, dtype=np.int16)))
    return found


def row(what: str, measured: float, tolerance: str) -> None:
    print(f"| {what} | {measured:.1e} | {tolerance} |", flush=True)


def main(options: Options) -> None:
    given = given_weights(options.weights)
    sync_state = torch.load(given["syncnet"]) if "syncnet" in given else syncnet_state()
    inception = Inception(
        torch.load(given["inception-fid"]) if "inception-fid" in given else inception_state()
    )
    network = SyncNet(sync_state)
    print(
        "| ours against the published code, identical input | largest difference | tolerance |\n|---|---:|---:|"
    )
    for name, frames, samples in clips(options):
        ours = np.array(lse_from_arrays(frames, samples, network))
        theirs = np.array(published_lse(frames, samples, sync_state, ".png"))
        row(f"{name}: offset, LSE-D, LSE-C, syncnet_python evaluate", np.abs(ours - theirs).max(), "1e-3")
        jpeg = np.array(published_lse(frames, samples, sync_state, ".jpg"))
        row(
            f"{name}: the same, through the published chain's JPEG files",
            np.abs(ours - jpeg).max(),
            "not imitated",
        )
        compare_fid(name, frames, inception, options.sqrtm)


def compare_fid(name: str, frames: np.ndarray, network: Inception, sqrtm: bool) -> None:
    half = len(frames) // 2
    images = [to_bgr(frame) for frame in frames]
    features = network.features(images).astype(np.float64)
    sets = [(part.mean(axis=0), np.cov(part, rowvar=False)) for part in (features[:half], features[half:])]
    ours = frechet_distance(*sets[0], *sets[1])
    scale = ours + np.trace(sets[0][1]) + np.trace(sets[1][1])
    if sqrtm:
        from pytorch_fid.fid_score import calculate_frechet_distance

        theirs = calculate_frechet_distance(*sets[0], *sets[1])
        row(f"{name}: FID, over FID + tr S1 + tr S2", abs(ours - theirs) / scale, "1e-6")


if __name__ == "__main__":
    main(tyro.cli(Options))
