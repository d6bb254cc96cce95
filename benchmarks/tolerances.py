"""How close LSE and FID come to the published code: the tolerance table of docs/protocols.md.

    python benchmarks/tolerances.py [--weights syncnet=FILE] [--weights inception-fid=FILE] [VIDEO ...]

Without weights and videos, seeded ones stand in. The first table computes both sides on identical pictures and sound.
The second runs the published chains end to end on each video: how far their JPEG, XVID and wav files and their way to
25 frames a second move the pictures, the sound, and the numbers in percent of LSE-D. The embedded detector stands in
for S3FD on both sides, each on its own frames. A seeded SyncNet knows nothing of speech: its offset hangs on the zeros
beyond the ends, and it says little about how a trained one answers to re-encoding.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import tyro
from published_chain import Seen, quiet_ffmpeg, track_chain, whole_frame_chain
from scipy.io import wavfile
from scipy.signal import correlate
from syncnet_python.SyncNetInstance import SyncNetInstance
from syncnet_python.SyncNetModel import S
from torch import Tensor

from syncdiff_data.faces.embedded import EmbeddedBackend
from syncdiff_data.media import Video, read_audio
from syncdiff_data.records import SAMPLE_RATE, SAMPLES_PER_FRAME
from syncdiff_data.weights import given_weights
from syncdiff_eval.metrics.frechet import frechet_distance
from syncdiff_eval.metrics.lse import lse_from_arrays
from syncdiff_eval.metrics.lse_published import SHORTEST_TRACK
from syncdiff_eval.networks.face_tracks import detect, syncnet_tracks
from syncdiff_eval.networks.inception import Inception
from syncdiff_eval.networks.syncnet import SyncNet
from syncdiff_eval.networks.syncnet_crops import crop, crop_path, to_bgr, whole_frame

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from seeded_networks import inception_state, s3fd_state, saved, syncnet_state

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
    if options.videos:
        compare_chains(options.videos, sync_state)


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


def compare_chains(videos: Sequence[Path], state: dict[str, Tensor]) -> None:
    """The second table: every row is the whole frame or a face track of a video."""
    network = SyncNet(state)
    print(
        "\n| published chain, end to end | pictures | sound late by | offset, theirs and ours "
        "| LSE-D and LSE-C move by | by the pictures | by the sound |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        quiet_ffmpeg(folder)
        files = saved(state, folder / "syncnet"), saved(s3fd_state(), folder / "s3fd")
        for path in videos:
            here = folder / path.name
            theirs = [
                whole_frame_chain(path, files[0], here / "whole"),
                *track_chain(path, embedded_boxes, SHORTEST_TRACK, *files, here / "tracks"),
            ]
            ours = own_crops(path)
            if len(theirs) != len(ours):
                print(f"| {path.name}: {len(theirs) - 1} tracks, ours {len(ours) - 1} |")
            for i, (seen, (frames, samples)) in enumerate(zip(theirs, ours)):
                chain_row(
                    f"{path.name}, {f'track {i}' if i else 'whole frame'}", seen, frames, samples, network
                )


def chain_row(what: str, theirs: Seen, frames: np.ndarray, samples: np.ndarray, network: SyncNet) -> None:
    """How far the chain moves LSE-D and LSE-C, in percent of LSE-D, and how far each of its two files does alone."""
    ours = np.array(lse_from_arrays(frames, samples, network))
    published = np.array([theirs.offset, theirs.lse_d, theirs.lse_c])
    same = np.array(lse_from_arrays(theirs.frames_bgr, theirs.samples, network))
    assert np.abs(same - published).max() < 1e-5 * theirs.lse_d, "both sides must agree on identical input"
    pictures = np.array(lse_from_arrays(theirs.frames_bgr, samples, network))
    sound = np.array(lse_from_arrays(frames, theirs.samples, network))
    moved = [
        ", ".join(f"{100 * by:+.2f} %" for by in (there - ours)[1:] / ours[1])
        for there in (published, pictures, sound)
    ]
    print(
        f"| {what} | {likeness(theirs.frames_bgr, frames)} | {lag_ms(theirs.samples, samples):.1f} ms "
        f"| {theirs.offset}, {ours[0]:.0f} | {' | '.join(moved)} |",
        flush=True,
    )


def likeness(theirs: np.ndarray, ours: np.ndarray) -> str:
    """Mean PSNR of the frames, and by how many frames theirs are late where that fits better than 0."""
    count = min(len(theirs), len(ours))
    psnrs = {
        late: np.mean([cv2.PSNR(theirs[i + late], ours[i]) for i in range(3, count - 3)])
        for late in range(-3, 4)
    }
    best = max(psnrs, key=lambda late: psnrs[late])
    gap = f", {len(theirs) - len(ours):+d} frames" if len(theirs) != len(ours) else ""
    return f"{psnrs[best]:.1f} dB{f', {best:+d} late' if best else ''}{gap}"


def lag_ms(theirs: np.ndarray, ours: np.ndarray) -> float:
    """Milliseconds by which their sound comes after ours."""
    count = min(len(theirs), len(ours))
    match = correlate(theirs[:count].astype(np.float64), ours[:count].astype(np.float64), method="fft")
    return (int(match.argmax()) - (count - 1)) * 1000 / SAMPLE_RATE


def own_crops(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """BGR uint8 [T, 224, 224, 3] and int16 [640 T] of the whole frame and then of every face track."""
    video = Video(path)
    audio = read_audio(path, video.start_s, video.num_frames)
    tracks = syncnet_tracks(*detect(video.frames(), embedded_boxes), SHORTEST_TRACK)
    crops = [(np.stack([to_bgr(whole_frame(frame)) for frame in video.frames()]), audio)]
    for track in tracks:
        first, last = track.first_frame, track.first_frame + len(track.boxes)
        shown = zip(video.frames(first, last), crop_path(track.boxes, "zero"))
        frames = np.stack([to_bgr(crop(frame, *place)) for frame, place in shown])
        crops.append((frames, audio[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]))
    return crops


@cache
def embedded_backend() -> EmbeddedBackend:
    return EmbeddedBackend()


def embedded_boxes(frame_rgb: np.ndarray) -> np.ndarray:
    """float64 [N, 4]"""
    return embedded_backend().detect([frame_rgb])[0][:, :4].astype(np.float64)


if __name__ == "__main__":
    main(tyro.cli(Options))
