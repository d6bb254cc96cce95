"""LSE equals SyncNet's evaluate on the same crops, and a failed clip never looks like a perfect one."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from scipy.io import wavfile
from seeded_networks import syncnet_state
from syncnet_python import syncnet_pipeline
from syncnet_python.SyncNetInstance import SyncNetInstance
from syncnet_python.SyncNetModel import S

from syncdiff_data.records import UserError
from syncdiff_eval.metrics.lse import distances, lse_from_arrays, score
from syncdiff_eval.networks.face_tracks import syncnet_tracks
from syncdiff_eval.networks.syncnet import SyncNet
from syncdiff_eval.networks.syncnet_crops import crop, crop_path, to_bgr, whole_frame

GOLDEN_CASES = ("main", "short_audio", "long_audio")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return syncnet_state()


@pytest.fixture(scope="module")
def network(state: dict[str, torch.Tensor]) -> SyncNet:
    return SyncNet(state)


def golden_state(shared: Path) -> dict[str, torch.Tensor]:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(shared / "golden"))
        import syncnet_weights

        arrays = syncnet_weights.state()
    for name in ("syncnet_weights", "weight_recipe"):
        del sys.modules[name]
    return {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def golden(shared: Path) -> tuple[SyncNet, Any]:
    return SyncNet(golden_state(shared)), np.load(shared / "golden/syncnet.npz")


def enlarged(frames: np.ndarray) -> np.ndarray:
    return frames.repeat(4, axis=1).repeat(4, axis=2)


def talk(frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures that change and a sound that changes: BGR uint8 [T, 224, 224, 3], int16 [640 T]."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (frames, 7, 7, 3), dtype=np.uint8)
    pictures = np.stack([cv2.resize(picture, (224, 224)) for picture in small])
    loud = np.repeat(rng.uniform(100, 8000, frames), 640)
    return pictures, (rng.standard_normal(frames * 640) * loud).clip(-32000, 32000).astype(np.int16)


@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_golden_scores_and_curves(golden: tuple[SyncNet, Any], shared: Path, case: str) -> None:
    import json

    network, arrays = golden
    expected = json.loads((shared / "golden/syncnet_meta.json").read_text())[case]
    frames, samples = enlarged(arrays[f"{case}/frames56_bgr"]), arrays[f"{case}/wav_i16"]
    offset, lse_d, lse_c = lse_from_arrays(frames, samples, network)
    assert offset == expected["offset"]
    assert lse_d == pytest.approx(expected["min_dist_LSE_D"], abs=1e-4)
    assert lse_c == pytest.approx(expected["conf_LSE_C"], abs=1e-4)
    lips, sound = arrays[f"{case}/lip"], arrays[f"{case}/aud"]
    np.testing.assert_allclose(distances(lips, sound), arrays[f"{case}/dists"], atol=1e-4)
    np.testing.assert_allclose(network.embed_sound(samples, len(sound)), sound, atol=1e-4)


def test_golden_frames_of_another_size_are_resized_first(golden: tuple[SyncNet, Any], shared: Path) -> None:
    network, arrays = golden
    frames = np.stack([whole_frame(frame) for frame in enlarged(arrays["resize/frames_u8_sub"])])
    np.testing.assert_array_equal(frames[0], arrays["resize/resized0"])
    np.testing.assert_allclose(
        network.embed_lips(frames)[: len(arrays["resize/lip"])], arrays["resize/lip"], atol=1e-4
    )
    offset, lse_d, lse_c = lse_from_arrays(frames, arrays["resize/wav_i16"], network)
    assert (offset, lse_c, lse_d) == pytest.approx((0, 24.358461, 27.850847), abs=1e-4)


def published(
    folder: Path, frames: np.ndarray, samples: np.ndarray, state: dict[str, Any]
) -> tuple[int, float, float]:
    """(offset, confidence, distance) of syncnet_python's evaluate, on JPEG frames and a wav."""
    folder.mkdir(exist_ok=True)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{i:06d}.jpg"), frame)
    wavfile.write(folder / "audio.wav", 16_000, samples)
    network = S()
    network.load_state_dict(state)
    options = SimpleNamespace(tmp_dir=str(folder), batch_size=20, vshift=15)
    return SyncNetInstance(network, device="cpu").evaluate(options)  # type: ignore[no-any-return]


def read_back(folder: Path) -> np.ndarray:
    return np.stack([cv2.imread(str(path)) for path in sorted(folder.glob("*.jpg"))])  # type: ignore[misc]


@pytest.mark.parametrize("frames", [6, 12])
def test_equals_the_published_evaluate(
    tmp_path: Path, state: dict[str, Any], network: SyncNet, frames: int
) -> None:
    pictures, samples = talk(frames)
    offset, lse_c, lse_d = published(tmp_path / "clip", pictures, samples, state)
    ours = lse_from_arrays(read_back(tmp_path / "clip"), samples, network)
    assert ours == pytest.approx((offset, lse_d, lse_c), abs=1e-3)


def test_real_clips_equal_the_published_evaluate(tmp_path: Path, shared: Path) -> None:
    from syncdiff_data.media import Video, read_audio

    state = golden_state(shared)
    video = Video(shared / "clips/syncnet_example.avi")
    frames = np.stack([whole_frame(to_bgr(frame)) for frame in video.frames(0, 14)])
    samples = read_audio(video.path, video.start_s, 14)
    offset, lse_c, lse_d = published(tmp_path / "clip", frames, samples, state)
    ours = lse_from_arrays(read_back(tmp_path / "clip"), samples, SyncNet(state))
    assert ours == pytest.approx((offset, lse_d, lse_c), abs=1e-3)


def test_five_frames_are_refused_where_the_original_crashes(
    tmp_path: Path, state: dict[str, Any], network: SyncNet
) -> None:
    pictures, samples = talk(5)
    with pytest.raises((RuntimeError, ValueError)):
        published(tmp_path / "clip", pictures, samples, state)
    with pytest.raises(ValueError, match="6 frames of both needed"):
        lse_from_arrays(pictures, samples, network)
    with pytest.raises(ValueError, match="uint8"):
        lse_from_arrays(pictures.astype(np.float32), samples, network)
    with pytest.raises(ValueError, match="int16"):
        lse_from_arrays(pictures, samples / 32768, network)


def test_no_number_depends_on_the_batch_or_on_streaming(network: SyncNet) -> None:
    pictures, _ = talk(14)
    one_by_one, by_ten = network.embed_lips(pictures, batch=1), network.embed_lips(pictures, batch=10)
    np.testing.assert_allclose(one_by_one, by_ten, atol=1e-4)
    stream: Iterator[np.ndarray] = (picture for picture in pictures)
    np.testing.assert_array_equal(network.embed_lips(stream, batch=10), by_ten)
    assert network.embed_lips(pictures[:4]).shape == (0, 1024)


def walk(windows: int, seed: int = 0) -> np.ndarray:
    """Embeddings that differ from window to window."""
    return np.random.default_rng(seed).standard_normal((windows, 1024)).astype(np.float32)


@pytest.mark.parametrize("late", [-7, -1, 0, 4])
@pytest.mark.parametrize("padding", ["zero", "valid"])
def test_offset_is_the_frames_by_which_the_sound_is_early(late: int, padding: Any) -> None:
    lips = walk(60)
    sync = score(distances(lips, np.roll(lips, late, axis=0)), padding)
    assert sync.offset == -late
    assert sync.confidence.shape == (60,)


def test_confidence_depends_on_length_with_zero_padding_only() -> None:
    """The published mean takes in distances from zeros: 1.1 s and 10 s of equally good sync differ."""

    def confidence(windows: int, padding: Any) -> float:
        lips = walk(windows)
        return score(distances(lips, lips + 0.5 * walk(windows, 1)), padding).lse_c

    padded, valid = ([confidence(windows, p) for windows in (15, 40, 245)] for p in ("zero", "valid"))
    assert padded[2] - padded[0] > 0.1 * padded[2]
    assert max(valid) - min(valid) < 0.02 * max(valid)


def test_a_shift_that_few_windows_see_cannot_win() -> None:
    lips = walk(12)
    sound = walk(12, 1)
    sound[-1] = lips[0]  # at the farthest shift one window fits perfectly, by chance
    table = distances(lips, sound)
    assert table.min() < 0.1
    sync = score(table, "valid")
    assert abs(sync.offset) <= 6
    assert sync.lse_d > 30


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not SyncNet's"):
        SyncNet({"a": torch.zeros(1)})
    (tmp_path / "w.model").write_text("no weights")
    with pytest.raises(UserError, match="not a file of SyncNet weights"):
        SyncNet.from_file(tmp_path / "w.model")


class Recorder:
    """Stands where the published crop writes its video."""

    def __init__(self, *_: Any) -> None:
        self.frames: list[np.ndarray] = []
        self.last = self
        Recorder.written = self.frames

    written: list[np.ndarray]

    def write(self, frame: np.ndarray) -> None:
        self.frames.append(frame)

    def release(self) -> None:
        pass


def test_crops_equal_the_published_ones(tmp_path: Path) -> None:
    """Medians with zeros beyond the ends, gray beyond the frame, the same rounding: pixel for pixel."""
    rng = np.random.default_rng(0)
    centre = np.array([90.0, 70.0]) + rng.normal(0, 2, (20, 2)).cumsum(axis=0)
    half = rng.uniform(40, 60, (20, 1))
    boxes = np.hstack([centre - half, centre + half * 1.2])
    frames = rng.integers(0, 256, (20, 150, 200, 3), dtype=np.uint8)
    paths = []
    for i, frame in enumerate(frames):
        paths.append(str(tmp_path / f"{i}.png"))
        cv2.imwrite(paths[-1], frame)
    pipeline = SimpleNamespace(cfg=syncnet_pipeline.PipelineConfig())
    with (
        patch.object(syncnet_pipeline.cv2, "VideoWriter", Recorder),
        patch.object(syncnet_pipeline.subprocess, "run"),
        patch.object(syncnet_pipeline.os, "remove"),
    ):
        track = {"frame": np.arange(20), "bbox": boxes}
        syncnet_pipeline.SyncNetPipeline._crop(pipeline, track, paths, "a.wav", tmp_path / "crops/0")
    path = crop_path(boxes, "zero")
    for frame, place, expected in zip(frames, path, Recorder.written, strict=True):
        np.testing.assert_array_equal(crop(frame, *place), expected)
    held = crop_path(boxes, "held")
    np.testing.assert_array_equal(held[6:-6], path[6:-6])
    assert (held[0] > path[0]).all()


def test_tracks_equal_the_published_ones() -> None:
    """Bug 2: two faces whose order in the list alternates tear tracks; kept, because it defines the number."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        boxes = []
        for frame in range(160):
            faces = [
                np.array([20.0, 20, 150, 150]),
                np.array([300.0, 20, 460, 180]),
                np.array([20.0, 300, 60, 340]),
            ]
            faces = [face + rng.normal(0, 3, 4) + frame / 4 for face in faces if rng.random() < 0.9]
            rng.shuffle(faces)  # type: ignore[arg-type]
            boxes.append(np.array(faces).reshape(-1, 4))
        settings = syncnet_pipeline.PipelineConfig(min_track=int(rng.integers(5, 60)))
        pipeline = SimpleNamespace(cfg=settings, _iou=syncnet_pipeline.SyncNetPipeline._iou)
        detections = [
            [{"frame": i, "bbox": box.tolist(), "conf": 1.0} for box in faces]
            for i, faces in enumerate(boxes)
        ]
        expected = syncnet_pipeline.SyncNetPipeline._track(pipeline, detections)
        found = syncnet_tracks(boxes, [], settings.min_track)
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected):
            assert ours.first_frame == theirs["frame"][0]
            np.testing.assert_allclose(ours.boxes, theirs["bbox"], atol=1e-9)
    assert syncnet_tracks(boxes, [80], 90) == []
