"""S3FD as the published pipeline runs it, and the protocols that stand on its tracks, from files to rows."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
import pytest
import skimage
import torch
from seeded_networks import s3fd_state, saved, syncnet_state
from syncnet_python.syncnet_pipeline import PipelineConfig, SyncNetPipeline

from syncdiff_data.cli import RayOptions
from syncdiff_data.faces.embedded import EmbeddedBackend
from syncdiff_data.media import Video, read_audio, write_video
from syncdiff_data.records import UserError
from syncdiff_eval.benchmark import FACES, BenchmarkConfig, benchmark
from syncdiff_eval.cache import FrameFeatureCache, open_run
from syncdiff_eval.methods import GROUND_TRUTH, Method, MethodType
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.base import MetricFactory, MetricFamily
from syncdiff_eval.metrics.lse import lse_from_arrays
from syncdiff_eval.networks import face_tracks
from syncdiff_eval.networks.face_tracks import CONFIDENCE, DETECTION_SCALE, S3fdDetector
from syncdiff_eval.networks.syncnet import SyncNet
from syncdiff_eval.networks.syncnet_crops import crop, crop_path, to_bgr
from syncdiff_eval.pairing import pair_by_name
from syncdiff_eval.protocols import LATENTSYNC, MOCHABENCH, SYNCNET_TRACK
from syncdiff_eval.scoring import Scorer, ScoreRequest, measure_reference, score_clip


@pytest.fixture(scope="module")
def s3fd_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded weights in the form of the published file, which is older than torch's zip."""
    path = tmp_path_factory.mktemp("s3fd") / "sfd_face.pth"
    torch.save(s3fd_state(), path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="module")
def detector(s3fd_file: Path) -> S3fdDetector:
    return S3fdDetector(s3fd_file)


def published_boxes(path: Path, frame_rgb: np.ndarray, folder: Path) -> np.ndarray:
    """The boxes that SyncNetPipeline.inference takes from its own detector for a picture in a file."""
    cv2.imwrite(str(folder / "000001.png"), frame_rgb[..., ::-1])
    s3fd = SyncNetPipeline._load_s3fd(SimpleNamespace(device="cpu"), str(path))
    image = cv2.cvtColor(cv2.imread(str(folder / "000001.png")), cv2.COLOR_BGR2RGB)
    settings = PipelineConfig()
    found: np.ndarray = s3fd.detect_faces(image, conf_th=0.9, scales=[settings.facedet_scale])
    return found[:, :4]


@pytest.mark.parametrize(
    "size", [(512, 512), (301, 403), (1080, 1920)], ids=lambda size: "x".join(map(str, size))
)
def test_boxes_equal_the_published_detectors(
    tmp_path: Path, s3fd_file: Path, detector: S3fdDetector, size: tuple[int, int]
) -> None:
    frame = cv2.resize(skimage.data.astronaut(), size[::-1])
    expected = published_boxes(s3fd_file, frame, tmp_path)
    assert len(expected) > 10
    np.testing.assert_array_equal(detector(frame), expected)
    swapped = detector(np.ascontiguousarray(frame[..., ::-1]))
    assert swapped.shape != expected.shape or np.abs(swapped - expected).max() > 1


def test_boxes_of_a_real_clip_equal_the_published_ones(
    tmp_path: Path, s3fd_file: Path, detector: S3fdDetector, shared: Path
) -> None:
    for frame in Video(shared / "clips/syncnet_example.avi").frames(0, 2):
        expected = published_boxes(s3fd_file, frame, tmp_path)
        assert len(expected) > 10
        np.testing.assert_array_equal(detector(frame), expected)


def test_a_frame_without_a_face_gives_no_box(s3fd_file: Path, tmp_path: Path) -> None:
    state = s3fd_state()
    for name, tensor in state.items():
        if name.startswith("conf") and name.endswith("bias"):
            tensor[-1] -= 100
    detector = S3fdDetector(saved(state, tmp_path / "sfd_face.pth"))
    assert detector(skimage.data.astronaut()).shape == (0, 4)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>Not found</html>")
    other = saved(syncnet_state(), tmp_path / "syncnet.pth")
    for path in (tmp_path / "page.pth", other, tmp_path / "missing.pth"):
        with pytest.raises(UserError, match=f"{path.name} is not a file of S3FD weights"):
            S3fdDetector(path)


def test_settings_are_the_published_ones() -> None:
    assert PipelineConfig().facedet_scale == DETECTION_SCALE
    assert CONFIDENCE == 0.9


class Embedded:
    """Stands where S3FD does, whose seeded weights find no face: CenterFace's boxes, from left to right."""

    def __init__(self, path: Path, device: str):
        self._backend = EmbeddedBackend()

    def __call__(self, frame_rgb: np.ndarray) -> np.ndarray:
        boxes = self._backend.detect([frame_rgb])[0][:, :4].astype(np.float64)
        return boxes[np.argsort(boxes[:, 0])]


def with_embedded(family: MetricFamily) -> MetricFamily:
    """The family with that detector, in whatever process it is loaded."""

    def load(weights: Mapping[str, Path], device: str) -> MetricFactory:
        with patch.object(face_tracks, "S3fdDetector", Embedded):
            return family.load(weights, device)

    return replace(family, load=load)


def tracks_of(path: Path, network: SyncNet) -> list[tuple[int, float, float]]:
    """(offset, LSE-D, LSE-C) of every track, from crops and sound put together by hand."""
    video, detector = Video(path), Embedded(path, "cpu")
    audio = read_audio(path, video.start_s, video.num_frames)
    found = []
    for track in face_tracks.syncnet_tracks(*face_tracks.detect(video.frames(), detector), 50):
        last = track.first_frame + len(track.boxes)
        shown = zip(video.frames(track.first_frame, last), crop_path(track.boxes, "zero"))
        frames = np.stack([to_bgr(crop(frame, *place)) for frame, place in shown])
        found.append(lse_from_arrays(frames, audio[track.first_frame * 640 : last * 640], network))
    return found


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """Folder of one speaker, and of two side by side, 55 frames each."""
    folder = tmp_path_factory.mktemp("real")
    left, right = (Video(shared / "clips" / name) for name in ("grid_lwbsza.mpg", "grid_s1_lwae8n.mpg"))
    sound = read_audio(left.path, left.start_s, 55)
    write_video(folder / "one.mp4", left.frames(0, 55), sound)
    write_video(folder / "two.mp4", map(np.hstack, zip(left.frames(0, 55), right.frames(0, 55))), sound)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, s3fd_file: Path) -> dict[str, Path]:
    return {"syncnet": saved(syncnet_state(), tmp_path_factory.mktemp("syncnet") / "s"), "sfd": s3fd_file}


@pytest.fixture(scope="module")
def by_hand(clips: Path, files: dict[str, Path]) -> dict[str, np.ndarray]:
    """clip -> offset, LSE-D and LSE-C of every track."""
    network = SyncNet.from_file(files["syncnet"])
    return {name: np.array(tracks_of(clips / f"{name}.mp4", network)) for name in ("one", "two")}


def test_latentsync_from_files_to_rows(
    tmp_path: Path, clips: Path, files: dict[str, Path], by_hand: dict[str, np.ndarray], ray_session: None
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    write_video(made / "two.mp4", Video(clips / "two.mp4").frames(), None)
    results = benchmark(BenchmarkConfig(
        clips, pair_by_name(clips), [GROUND_TRUTH, Method("m", MethodType.GAN, None, made)],
        replace(LATENTSYNC, resamples=100), tmp_path / "out", files, RayOptions(workers=1),
        families={name: with_embedded(FAMILIES[name]) for name in LATENTSYNC.metrics},
    ))  # fmt: skip
    assert results.weights.keys() == {"syncnet", "sfd"}
    rows = pd.read_parquet(tmp_path / "out/per_clip.parquet").set_index(["method", "clip"])
    found = rows[["av_offset", "lse_d", "lse_c"]]
    assert len(by_hand["one"]) == 1
    assert len(by_hand["two"]) == 2
    assert tuple(found.loc[("ground_truth", "one")]) == pytest.approx(by_hand["one"][0], abs=1e-3)
    assert tuple(found.loc[("ground_truth", "two")][1:]) == pytest.approx(
        by_hand["two"].mean(0)[1:], abs=1e-3
    )
    assert found.loc["m"].isna().all(axis=None)
    assert rows.loc[("m", "one"), "reason"] == "missing_output"
    assert dict(rows.loc[("m", "two"), "null_reasons"])["lse_d"] == "no_audio"
    assert [method.scores["lse_d"].n_scored for method in results.methods] == [2, 0]


def test_the_other_protocols_choose_among_the_same_tracks(
    clips: Path, files: dict[str, Path], by_hand: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = clips / "two.mp4"
    values = {}
    with open_run(tmp_path, set()) as cache:
        for protocol in (MOCHABENCH, SYNCNET_TRACK):
            families = {name: with_embedded(FAMILIES[name]) for name in protocol.metrics}
            factories = {name: family.load(files, "cpu") for name, family in families.items()}
            scorer = Scorer(protocol, families, factories, None)
            request = ScoreRequest(
                path,
                measure_reference(path, scorer, FACES),
                path,
                frame_cache=FrameFeatureCache(cache, {"file": "two"}),
            )
            score = score_clip(request, scorer)
            values[protocol.name] = {**score.values, **score.missing}
    _, distances, confidences = by_hand["two"].T
    best = values["mochabench"]
    assert (best["lse_d"], best["lse_c"]) == pytest.approx((distances.min(), confidences.max()), abs=1e-3)
    assert set(values["syncnet-track"].values()) == {"no_face_track"}  # none of over 100 frames
