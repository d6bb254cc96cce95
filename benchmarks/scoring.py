"""Time and memory of scoring beside the published code: same files, same weights, each part apart, one thread.

    python benchmarks/scoring.py [--methods 4] [--clips 10] [--seconds 5] [--weights NAME=FILE ...]

Generated talkers stand in for the methods' outputs, seeded networks for weights that are not given. CPU seconds of the
process. "LSE with faces": theirs is `syncnet_python.SyncNetPipeline` for each video, with its S3FD, its ffmpeg files
and its evaluate; it finds no face with seeded S3FD weights, so both sides are given the same boxes, and S3FD is still
run and timed on every frame of theirs. Ours finds the faces once, in the reference, with the embedded detector.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
import tyro
from scipy.io import wavfile

from syncdiff_data.media import read_audio, write_video
from syncdiff_data.weights import given_weights

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from seeded_networks import inception_state, saved, syncnet_state

Part = Literal["memory", "core", "lse", "fid", "image"]
Weights = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=FILE")]


@dataclass(frozen=True)
class Options:
    """CPU seconds of scoring, ours and the published code's, as a Markdown table."""

    videos: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Real videos with sound to score as references and outputs alike; none: generated talkers."""
    parts: tuple[Part, ...] = ("memory", "core", "lse", "fid", "image")
    """What to measure."""
    methods: int = 4
    clips: int = 10
    seconds: float = 5.0
    """Of each generated clip."""
    size: int = 512
    """Pixels of a side of a generated clip."""
    fid_frames: int = 50
    """Of each clip, for FID."""
    long_seconds: float = 60.0
    """Of the clip whose peak memory is measured, 1280 x 720."""
    weights: Weights = ()
    """syncnet, sfd and inception-fid; seeded ones stand in for those not given."""


def cpu_seconds(work: Callable[[], Any]) -> float:
    start = time.process_time() + _children()
    with contextlib.redirect_stdout(io.StringIO()):  # the published code talks while it works
        work()
    return time.process_time() + _children() - start


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def row(what: str, theirs: float, ours: float) -> None:
    print(f"| {what} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.1f}x |", flush=True)


def files_of(options: Options, folder: Path) -> list[Path]:
    from syncdiff_data.demo import make_talkers

    if options.videos:
        return list(options.videos[: options.clips])
    return make_talkers(folder, options.clips, options.seconds, size=options.size)


def weight_files(options: Options, folder: Path) -> dict[str, Path]:
    from syncnet_python.detectors.s3fd.nets import S3FDNet

    files = given_weights(options.weights)
    torch.manual_seed(0)
    made = {
        "syncnet": syncnet_state,
        "inception-fid": inception_state,
        "sfd": lambda: S3FDNet(device="cpu").state_dict(),
    }
    return {name: files.get(name) or saved(make(), folder / name) for name, make in made.items()}


def sync_core(frames: np.ndarray, samples: np.ndarray, weights: dict[str, Path]) -> None:
    """224 px crops and sound to scores: evaluate reads its JPEG files, ours its arrays."""
    from syncnet_python.SyncNetInstance import SyncNetInstance
    from syncnet_python.SyncNetModel import S

    from syncdiff_eval.metrics.lse import lse_from_arrays
    from syncdiff_eval.networks.syncnet import SyncNet

    network, theirs = SyncNet.from_file(weights["syncnet"]), S()
    theirs.load_state_dict(torch.load(weights["syncnet"]))
    instance = SyncNetInstance(theirs, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        for i, frame in enumerate(frames):
            cv2.imwrite(f"{folder}/{i:06d}.jpg", frame)
        wavfile.write(f"{folder}/audio.wav", 16_000, samples)
        options = SimpleNamespace(tmp_dir=folder, batch_size=20, vshift=15)
        published = cpu_seconds(lambda: instance.evaluate(options))
    row("SyncNet core, one clip", published, cpu_seconds(lambda: lse_from_arrays(frames, samples, network)))


def sync_with_faces(files: list[Path], methods: int, weights: dict[str, Path]) -> None:
    """Every method's every file. The methods' files are the references': the work does not depend on what they show."""
    from syncdiff_data.faces import load_backend
    from syncdiff_eval.benchmark import FACES
    from syncdiff_eval.metrics import FAMILIES
    from syncdiff_eval.protocols import SYNCDIFF
    from syncdiff_eval.scoring import Scorer, ScoreRequest, driving_audio, measure_reference, score_clip
    from syncdiff_eval.videos import read_facts

    start = FAMILIES["lse"].load(weights, "cpu")
    scorer = Scorer(SYNCDIFF, {"lse": FAMILIES["lse"]}, {"lse": start}, load_backend(FACES, {}))
    published = published_pipeline(weights)

    def ours(path: Path) -> None:
        reference = measure_reference(path, scorer, FACES)
        audio = driving_audio(path, reference.start_s, reference.num_frames, reference.facts.fps)
        for _ in range(methods):
            score = score_clip(ScoreRequest(path, reference, path, audio=audio), scorer)
            assert "lse_d" in score.values, score.missing

    ours(files[0])  # What loads on first use is not counted, on either side.
    totals = np.zeros(2)
    for path in files:
        facts = read_facts(path)
        spent = (
            methods * cpu_seconds(lambda path=path: published(path)),
            cpu_seconds(lambda path=path: ours(path)),
        )
        totals += spent
        row(f"LSE with faces, {methods} methods, {path.name}, {facts.width} x {facts.height}", *spent)
    row(f"LSE with faces, {methods} methods x {len(files)} clips", *totals)


def published_pipeline(weights: dict[str, Path]) -> Callable[[Path], Any]:
    """SyncNetPipeline on a file, its detector's answer replaced by a box in the middle after it has run."""
    import imageio_ffmpeg
    from syncnet_python import SyncNetPipeline

    # It calls "ffmpeg"; the pip package names its binary otherwise.
    ffmpeg = Path(imageio_ffmpeg.get_ffmpeg_exe())
    link = weights["sfd"].parent / "ffmpeg"
    link.symlink_to(ffmpeg)
    os.environ["PATH"] = f"{link.parent}{os.pathsep}{os.environ['PATH']}"
    pipeline = SyncNetPipeline(
        device="cpu", s3fd_weights=str(weights["sfd"]), syncnet_weights=str(weights["syncnet"]),
    )  # fmt: skip
    detect = pipeline.s3fd.detect_faces

    def with_a_face(image: np.ndarray, **settings: Any) -> np.ndarray:
        detect(image, **settings)
        height, width = image.shape[:2]
        side = 0.8 * min(height, width)  # over the 100 pixels that a track must have, in LRS2's frames too
        centre = np.array([width / 2, height / 2])
        return np.array([[*(centre - side / 2), *(centre + side / 2), 1.0]])

    pipeline.s3fd.detect_faces = with_a_face

    def run(path: Path) -> None:
        found = pipeline.inference(str(path))
        assert found[-1], f"the published pipeline says it saw no face in {path}"

    return run


def fid(files: list[Path], methods: int, weights: dict[str, Path], per_clip: int) -> None:
    """The reference's features are made once for all methods; the command makes them for each."""
    from pytorch_fid import fid_score, inception

    from syncdiff_data.media import Video
    from syncdiff_eval.metrics.frechet import FeatureSums, Gaussian
    from syncdiff_eval.networks.inception import Inception

    # Each clip's face would be cut out of its frames; the work depends on their number, not on what they show.
    images = [cv2.resize(image, (256, 256)) for path in files for image in Video(path).frames(0, per_clip)]
    network = Inception.from_file(weights["inception-fid"])
    inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights["inception-fid"])

    def sums() -> FeatureSums:
        whole = FeatureSums()
        whole.update(network.features(images))
        return whole

    def ours() -> None:
        reference = Gaussian(*sums().compute())
        for _ in range(methods):
            reference.distance(*sums().compute())

    with tempfile.TemporaryDirectory() as folder:
        for i, image in enumerate(images):
            cv2.imwrite(f"{folder}/{i:05d}.png", image[..., ::-1])
        theirs = cpu_seconds(
            lambda: fid_score.calculate_fid_given_paths([folder, folder], 50, "cpu", 2048, num_workers=0)
        )
    row(f"FID, {methods} methods, {len(images)} frames each", methods * theirs, cpu_seconds(ours))


def image_quality(frames: np.ndarray) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    from syncdiff_eval.metrics.image import psnr, ssim

    pairs = [(a, cv2.GaussianBlur(a, (5, 5), 1)) for a in frames]
    settings: dict[str, Any] = {
        "data_range": 255, "channel_axis": 2, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False,
    }  # fmt: skip
    row("SSIM, 224 px frames", cpu_seconds(lambda: [structural_similarity(a, b, **settings) for a, b in pairs]),
        cpu_seconds(lambda: [ssim(a, b) for a, b in pairs]))  # fmt: skip
    row("PSNR, 224 px frames", cpu_seconds(lambda: [peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs]),
        cpu_seconds(lambda: [psnr(a, b) for a, b in pairs]))  # fmt: skip


def main(options: Options) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        weights = weight_files(options, folder)
        if "memory" in options.parts:
            long_clip(folder, options.long_seconds, weights)
        print("| part | published, CPU s | ours, CPU s | |\n|---|---:|---:|---:|")
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (50, 224, 224, 3), dtype=np.uint8)
        if "core" in options.parts:
            sync_core(frames, rng.integers(-9000, 9000, 50 * 640, dtype=np.int16), weights)
        files = files_of(options, folder / "clips") if {"lse", "fid"} & set(options.parts) else []
        if "lse" in options.parts:
            sync_with_faces(files, options.methods, weights)
        if "fid" in options.parts:
            fid(files, options.methods, weights, options.fid_frames)
        if "image" in options.parts:
            image_quality(frames)


def long_clip(folder: Path, seconds: float, weights: dict[str, Path]) -> None:
    """Peak memory of a worker that scores one long clip under all of the default protocol; first of all, so that
    nothing else counts. The reference is held against a copy of itself."""
    names, score = default_protocol(make_long_clip(folder, seconds), weights)
    spent = cpu_seconds(score)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{seconds:g} s at 1280 x 720 under {names}: {spent:.0f} CPU s, peak {peak:.2f} GiB\n")


def default_protocol(path: Path, weights: dict[str, Path]) -> tuple[str, Callable[[], None]]:
    """The families of the default protocol that these weights allow, and the scoring of a file against itself under
    them, its reference measured first."""
    from syncdiff_data.faces import load_backend
    from syncdiff_eval.benchmark import FACES
    from syncdiff_eval.metrics import FAMILIES
    from syncdiff_eval.protocols import SYNCDIFF
    from syncdiff_eval.scoring import Scorer, ScoreRequest, driving_audio, measure_reference, score_clip

    families = {
        name: FAMILIES[name] for name in SYNCDIFF.metrics if set(FAMILIES[name].weights) <= set(weights)
    }
    factories = {name: family.load(weights, "cpu") for name, family in families.items()}
    scorer = Scorer(SYNCDIFF, families, factories, load_backend(FACES, {}))

    def score() -> None:
        reference = measure_reference(path, scorer, FACES)
        audio = driving_audio(path, reference.start_s, reference.num_frames, reference.facts.fps)
        score = score_clip(ScoreRequest(path, reference, path, audio=audio), scorer)
        assert "lse_d" in score.values, score.missing

    return ", ".join(families), score


def make_long_clip(folder: Path, seconds: float) -> Path:
    """A generated talker said again and again, in a frame of 1280 x 720."""
    from syncdiff_data.demo import make_talkers
    from syncdiff_data.media import Video

    talker = Video(make_talkers(folder / "talker", 1, 3.0, size=512)[0])
    spoken = read_audio(talker.path, 0.0, talker.num_frames)
    repeats = max(1, round(seconds * 25 / talker.num_frames))

    def frames() -> Iterator[np.ndarray]:
        for _ in range(repeats):
            for frame in talker.frames():
                yield np.pad(frame, ((104, 104), (384, 384), (0, 0)), constant_values=80)

    write_video(folder / "long.mp4", frames(), np.tile(spoken, repeats))
    return folder / "long.mp4"


if __name__ == "__main__":
    main(tyro.cli(Options))
