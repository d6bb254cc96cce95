"""What limits each part of scoring on one CPU thread, and the share of that limit that is reached.

    python benchmarks/limits.py [VIDEO] [--rounds 9] [--profile benchmarks/profiles/scoring.txt]

The limit of a network is the processor's own float32 matrix product: the operations of the published network (two a
multiply-add) at the rate of torch.mm of two large square matrices. The limit of another part is the library calls
that it cannot do without, alone; the table names them. CPU seconds of one thread, seeded weights where the true ones
are no part of a package. Each round times the limit, the part, and the limit again; the share is the median over the
rounds, so that both sides see the same machine.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import av
import cv2
import dlib
import numpy as np
import torch
import tyro
from cpu_profile import profile_text
from pytorch_fid import inception
from scoring import default_protocol
from syncnet_python.SyncNetModel import S
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from syncdiff_data.cli import run
from syncdiff_data.demo import make_talkers
from syncdiff_data.faces import FaceConfig, find_tracks
from syncdiff_data.faces.embedded import OUTPUTS, EmbeddedBackend
from syncdiff_data.records import MediaError, UserError
from syncdiff_data.sync_expert.expert import SyncExpert
from syncdiff_eval.metrics.base import FrameBatch, Regions
from syncdiff_eval.metrics.image import RADIUS, SIGMA, STRIP, psnr, similarity_map
from syncdiff_eval.metrics.landmarks import LandmarkMetrics
from syncdiff_eval.networks.centerface import SIDE as FACE_SIDE
from syncdiff_eval.networks.centerface import TENSOR, CenterFaceFeatures
from syncdiff_eval.networks.dlib_face import FaceEmbedder
from syncdiff_eval.networks.inception import Inception
from syncdiff_eval.networks.syncnet import SyncNet
from syncdiff_eval.networks.syncnet_windows import BATCH, WINDOW
from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.regions import build_regions, generated_landmarks, speaker_of
from syncdiff_eval.videos import frames

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from seeded_networks import inception_state, saved, syncnet_state

Work = Callable[[], object]
SIDE = 2048
"""Of the matrices whose product is the limit of networks."""
PRODUCT = 2 * SIDE**3
ALONE = "the network alone (cv2.dnn)"
LEAST_S = 0.1
"""CPU seconds for which a work is repeated."""
FRAMES = 32


@dataclass(frozen=True)
class Options:
    video: tyro.conf.Positional[Path | None] = None
    """With a face; none: a generated talker of 512 x 512."""
    rounds: int = 9
    only: str = ""
    """Parts whose name holds this."""
    profile: Path | None = None
    """Only write a profile of the CPU time of scoring the video under the default protocol."""


@dataclass(frozen=True)
class Part:
    """What is timed, and its limit: `times` calls of `least`. count: units in one call of the work."""

    name: str
    count: float
    work: Work
    limit: str
    least: Work
    times: float = 1.0


def cpu_ms(work: Work) -> float:
    """CPU milliseconds of a call, repeated for LEAST_S."""
    calls, start = 0, time.process_time()
    while time.process_time() - start < LEAST_S:
        work()
        calls += 1
    return 1000 * (time.process_time() - start) / calls


def measure(part: Part, rounds: int) -> np.ndarray:
    """Milliseconds a unit of the part and of its limit in each round: float64 [rounds, 2]."""
    part.work()  # what is made on first use
    found = []
    for _ in range(rounds):
        before, spent, after = cpu_ms(part.least), cpu_ms(part.work), cpu_ms(part.least)
        found.append((spent, part.times * (before + after) / 2))
    return np.array(found) / part.count


def network(name: str, operations: float, count: float, work: Work) -> Part:
    """A part whose work is `operations` floating-point operations."""
    a, b = torch.rand(2, SIDE, SIDE)
    return Part(name, count, work, "matrix product", partial(torch.mm, a, b), operations / PRODUCT)


def operations(work: Work) -> int:
    """Of the matrix products and convolutions in PyTorch; a multiply-add is two."""
    packed = {torch.ops.mkldnn._convolution_pointwise: _packed_operations}
    with FlopCounterMode(display=False, custom_mapping=packed) as counter, torch.no_grad():
        work()
    return int(counter.get_total_flops())


def _packed_operations(
    x: list[int], weight: list[int], *_: object, out_shape: list[int], **__: object
) -> int:
    return int(conv_flop_count(x, weight, out_shape))


@dataclass(frozen=True)
class Clip:
    """The first frames of a video, RGB, and the regions of its speaker."""

    path: Path
    images: list[np.ndarray]
    regions: Regions

    @property
    def faces(self) -> list[np.ndarray]:
        return [image[y0:y1, x0:x1] for image, (x0, y0, x1, y1) in zip(self.images, self.regions.face)]


def read_clip(path: Path) -> Clip:
    """UserError for what is no video, and where no face is in the first frames."""
    try:
        images = [image for _, image in islice(frames(path), FRAMES)]
    except MediaError as error:
        raise UserError(f"{path}: {error}") from error
    speaker = speaker_of(find_tracks(images, EmbeddedBackend(), FaceConfig())[0])
    height, width = images[0].shape[:2]
    regions = speaker and build_regions(
        speaker.first_frame, speaker.landmarks, speaker.box, len(images), (width, height), SYNCDIFF
    )
    if regions is None or not regions.present.all():
        raise UserError(f"{path}: a face is wanted in each of the first {FRAMES} frames; give another video")
    return Clip(path, images, regions)


def lip_networks() -> Iterator[Part]:
    """SyncNet and the sync expert on noise: the work does not depend on what is shown."""
    rng = np.random.default_rng(0)
    state = syncnet_state()
    ours, theirs = SyncNet(state), S().eval()
    shown = rng.integers(0, 256, (BATCH + WINDOW - 1, 224, 224, 3), dtype=np.uint8)
    each = operations(lambda: theirs.forward_lip(torch.zeros(1, 3, WINDOW, 224, 224)))
    yield network("SyncNet, lips", BATCH * each, BATCH, partial(ours.embed_windows, shown))
    samples = rng.integers(-9000, 9000, 640 * 5 * FRAMES, dtype=np.int16)
    count = 4 * FRAMES
    each = operations(lambda: theirs.forward_aud(torch.zeros(1, 1, 13, 20)))
    yield network(
        "SyncNet, sound with its MFCC", count * each, count, partial(ours.embed_sound, samples, count)
    )
    expert = SyncExpert.from_pretrained("evaluation")
    mouths = rng.integers(0, 256, (count, 96, 96), dtype=np.uint8)
    lips = partial(expert.embed_lips, mouths, rng.random((count, 68, 2), np.float32))
    yield network("sync expert, lips", operations(lips), count, lips)
    sound = partial(expert.embed_sound, samples, count)
    yield network("sync expert, sound with its filter banks", operations(sound), count, sound)


def face_networks(clip: Clip) -> Iterator[Part]:
    """The networks that see a frame or its face."""
    image, face = clip.images[0], clip.faces[0]
    with patch.object(inception, "load_state_dict_from_url", lambda *_, **__: inception_state()):
        published = inception.InceptionV3().eval()
    each = operations(lambda: published(torch.zeros(1, 3, 299, 299)))
    work = partial(Inception(inception_state()).features, clip.faces[:8])
    yield network("Inception (FID), a face", 8 * each, 8, work)
    embed = partial(FaceEmbedder().embed, image, clip.regions.landmarks[0])
    yield network("dlib's network (identity), a face", operations(embed), 1, embed)
    backbone, backend = CenterFaceFeatures(), EmbeddedBackend()
    scale = min(1, 320 / max(image.shape[:2]))
    height, width = (math.ceil(side * scale / 32) * 32 for side in image.shape[:2])
    blob = cv2.dnn.blobFromImage(cv2.resize(face, (FACE_SIDE, FACE_SIDE)))
    alone = partial(forward, backbone._network, blob, TENSOR)
    yield Part("CenterFace's backbone, a face", 1, partial(backbone.features, [face]), ALONE, alone)
    alone = partial(forward, backend._net, cv2.dnn.blobFromImage(image, size=(width, height)), OUTPUTS)
    yield Part(
        f"CenterFace, a frame at {width} x {height}", 1, partial(backend.detect, [image]), ALONE, alone
    )


def forward(network: cv2.dnn.Net, blob: np.ndarray, outputs: str | Sequence[str]) -> None:
    network.setInput(blob)
    network.forward(outputs)


def pixels(clip: Clip) -> Iterator[Part]:
    """What works on pixels, beside the library's calls alone."""
    face, other = clip.faces[0], cv2.GaussianBlur(clip.faces[0], (5, 5), 1)
    weights = cv2.getGaussianKernel(2 * RADIUS + 1, SIGMA, cv2.CV_32F)
    rows = max(RADIUS, STRIP // face.shape[1])
    strips = [
        np.float32(face[top : top + rows + 2 * RADIUS]) for top in range(0, len(face) - 2 * RADIUS, rows)
    ]
    size = f"a face of {face.shape[1]} x {face.shape[0]}"

    def gaussian() -> None:
        for strip in strips:
            cv2.sepFilter2D(strip, cv2.CV_32F, weights, weights)

    yield Part(
        f"SSIM, {size}", 1, partial(similarity_map, face, other), "its four Gaussians (cv2)", gaussian, 4
    )
    place = np.empty_like(face)
    yield Part(
        f"PSNR, {size}", 1, partial(psnr, face, other), "copying one of both", partial(np.copyto, place, face)
    )


def landmarks(clip: Clip) -> Part:
    """LMD and what it needs of the output: dlib's predictor inside the reference's boxes."""
    backend = EmbeddedBackend()

    def measured() -> None:
        points = generated_landmarks(backend, clip.images, clip.regions)
        batch = FrameBatch(0, clip.images, clip.images, clip.regions, points)
        LandmarkMetrics(clip.regions.eye_distance).update(batch)

    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in clip.images]
    boxes = [dlib.rectangle(*box) for box in clip.regions.box.round().astype(int).tolist()]

    def predicted() -> None:
        for image, box in zip(gray, boxes):
            backend._predictor(image, box)

    return Part("LMD, a frame", FRAMES, measured, "dlib's predictor", predicted)


def reading(clip: Clip) -> Part:
    """Frames as scoring sees them, RGB with their times."""

    def decoded() -> None:
        with av.open(str(clip.path)) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
            deque(container.decode(stream), maxlen=0)

    count = sum(1 for _ in frames(clip.path))
    height, width = clip.images[0].shape[:2]
    return Part(
        f"reading, a frame of {width} x {height}", count, lambda: deque(frames(clip.path), maxlen=0), "decoding (PyAV)",
        decoded,
    )  # fmt: skip


def parts(clip: Clip) -> Iterator[Part]:
    yield from lip_networks()
    yield from face_networks(clip)
    yield from pixels(clip)
    yield landmarks(clip)
    yield reading(clip)


def write_profile(path: Path, out: Path, scratch: Path) -> None:
    """Of scoring a video against itself under the default protocol, with seeded weights."""
    states = {"syncnet": syncnet_state(), "inception-fid": inception_state()}
    _, score = default_protocol(path, {name: saved(state, scratch / name) for name, state in states.items()})
    score()  # what is made on first use
    out.write_text(profile_text(score, rows=24))


def print_row(part: Part, found: np.ndarray) -> None:
    """found: milliseconds of the part and of its limit, float64 [rounds, 2]."""
    spent, least = np.median(found, axis=0)
    share = found[:, 1] / found[:, 0]
    spread = f"{np.median(share):.0%} ({share.min():.0%} to {share.max():.0%})"
    print(f"| {part.name} | {spent:.3g} | {part.limit} | {least:.3g} | {spread} |", flush=True)


def main(options: Options) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        path = options.video or make_talkers(Path(scratch), 1, 3.0, size=512)[0]
        if options.profile:
            write_profile(path, options.profile, Path(scratch))
            return
        a, b = torch.rand(2, SIDE, SIDE)
        rate = PRODUCT / cpu_ms(partial(torch.mm, a, b)) / 1e6
        print(f"matrix product in float32: {rate:.0f} GFLOP/s\n")
        print("| part | CPU ms | limit | ms at the limit | share of the limit |\n|---|---:|---|---:|---:|")
        for part in parts(read_clip(path)):
            if options.only in part.name:
                print_row(part, measure(part, options.rounds))


if __name__ == "__main__":
    run(main, Options, __doc__)
