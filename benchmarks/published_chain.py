"""The published LSE chains end to end on a file, with every JPEG, XVID and wav file they write on the way."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from scipy.io import wavfile
from syncnet_python import SyncNetPipeline
from syncnet_python.SyncNetInstance import SyncNetInstance
from syncnet_python.SyncNetModel import S

from syncdiff_eval.networks.face_tracks import Detector

VSHIFT, BATCH = 15, 20


@dataclass(frozen=True)
class Seen:
    """What SyncNet saw at the end of a chain, and what it said."""

    offset: int
    lse_d: float
    lse_c: float
    frames_bgr: np.ndarray
    """uint8 [T, 224, 224, 3]"""
    samples: np.ndarray
    """int16 [N], 16 kHz"""


def quiet_ffmpeg(folder: Path) -> None:
    """Put an `ffmpeg` that says errors only on the path: the scripts call it so, the pip package names it otherwise."""
    import imageio_ffmpeg

    wrapper = folder / "ffmpeg"
    wrapper.write_text(f'#!/bin/sh\nexec "{imageio_ffmpeg.get_ffmpeg_exe()}" -loglevel error "$@"\n')
    wrapper.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def track_chain(
    path: Path, detect: Detector, min_track: int, syncnet: Path, s3fd: Path, folder: Path
) -> list[Seen]:
    """`SyncNetPipeline.inference`, track by track, with a detector in place of S3FD."""
    pipeline = SyncNetPipeline(
        device="cpu", s3fd_weights=str(s3fd), syncnet_weights=str(syncnet), min_track=min_track
    )

    def found(image_rgb: np.ndarray, **settings: Any) -> np.ndarray:
        boxes = detect(image_rgb)
        return np.column_stack([boxes, np.ones(len(boxes))])

    pipeline.s3fd.detect_faces = found
    logging.getLogger("pyscenedetect").setLevel(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()):
        offsets, confidences, dists, *_ = pipeline.inference(str(path), cache_dir=str(folder))
    return [
        Seen(*result, *read_back(folder / f"cropped/crop_{i:05d}"))
        for i, result in enumerate(zip(offsets, dists, confidences))
    ]


def whole_frame_chain(path: Path, syncnet: Path, folder: Path) -> Seen:
    """What Wav2Lip's calculate_scores_LRS.py does: every frame a JPEG of ffmpeg's default quality, then 224 x 224."""
    folder.mkdir(parents=True)
    command = ["ffmpeg", "-y", "-i", str(path)]
    subprocess.run([*command, "-threads", "1", "-f", "image2", str(folder / "%06d.jpg")], check=True)
    subprocess.run(
        [
            *command,
            "-async",
            "1",
            "-ac",
            "1",
            "-vn",
            "-acodec",
            "pcm_s16le",
            "-ar",
            "16000",
            str(folder / "audio.wav"),
        ],
        check=True,
    )
    for picture in sorted(folder.glob("*.jpg")):
        # evaluate reads the pictures itself: they are replaced by the resized ones, and not compressed once more.
        resized = cv2.resize(np.asarray(cv2.imread(str(picture))), (224, 224))
        picture.write_bytes(cv2.imencode(".png", resized)[1].tobytes())
    network = S()
    network.load_state_dict(torch.load(syncnet))
    options: Any = SimpleNamespace(tmp_dir=str(folder), batch_size=BATCH, vshift=VSHIFT)
    with contextlib.redirect_stdout(io.StringIO()):
        offset, confidence, distance = SyncNetInstance(network, device="cpu").evaluate(options)
    return Seen(offset, distance, confidence, *read_back(folder))


def read_back(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pictures and the sound that evaluate read."""
    frames = np.stack([np.asarray(cv2.imread(str(path))) for path in sorted(folder.glob("*.jpg"))])
    return frames, wavfile.read(folder / "audio.wav")[1]
