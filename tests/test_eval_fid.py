"""FID equals pytorch-fid's, from statistics that merge, over frames that are counted."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from pytorch_fid import fid_score, inception
from seeded_networks import inception_state, saved

from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_eval.cache import Cache, FrameFeatureCache
from syncdiff_eval.metrics.base import ClipContext, FrameBatch, MissingValue, Regions
from syncdiff_eval.metrics.fid import FID_FACE, FID_FULL
from syncdiff_eval.metrics.frechet import FeatureSums, FrameFeatures, frechet_distance
from syncdiff_eval.networks.inception import DIMENSIONS, Inception


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return inception_state()


@pytest.fixture(scope="module")
def network(state: dict[str, torch.Tensor]) -> Inception:
    return Inception(state)


def write_frames(folder: Path, count: int, seed: int, sizes: tuple[tuple[int, int], ...]) -> list[np.ndarray]:
    """Smooth coloured pictures, kept as PNG; returns them as RGB."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    pictures = []
    for i in range(count):
        height, width = sizes[i % len(sizes)]
        picture = cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (width, height))
        cv2.imwrite(str(folder / f"{i:03d}.png"), picture)
        pictures.append(picture[..., ::-1])
    return pictures


def statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return features.mean(axis=0), np.cov(features, rowvar=False)


def test_features_equal_pytorch_fids(
    tmp_path: Path, state: dict[str, torch.Tensor], network: Inception
) -> None:
    pictures = write_frames(tmp_path / "a", 3, 0, ((96, 128),))
    with patch.object(inception, "load_state_dict_from_url", return_value=state):
        theirs = inception.InceptionV3()
    expected = fid_score.get_activations(sorted((tmp_path / "a").glob("*.png")), theirs, 2, num_workers=0)
    found = network.features(pictures)
    assert found.std() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("frames", [30, 400], ids=["fewer frames than dimensions", "full rank"])
def test_distance_equals_pytorch_fids(frames: int) -> None:
    rng = np.random.default_rng(frames)
    mix = rng.standard_normal((100, 100))
    a = np.maximum(rng.standard_normal((frames, 100)) @ mix, 0)
    b = np.maximum(rng.standard_normal((frames, 100)) @ mix * 1.1 + 0.5, 0)
    first, second = statistics(a), statistics(b)
    expected = fid_score.calculate_frechet_distance(*first, *second)
    scale = expected + np.trace(first[1]) + np.trace(second[1])
    assert abs(frechet_distance(*first, *second) - expected) < 1e-6 * scale
    assert abs(frechet_distance(*first, *first)) < 1e-6 * scale


def test_sums_merge_to_the_statistics_of_the_whole() -> None:
    features = np.random.default_rng(3).random((12, 64), np.float32)
    parts = [FeatureSums(), FeatureSums(), FeatureSums()]
    for part, rows in zip(parts, (features[:2], features[2:7], features[7:])):
        part.update(rows)
    parts[1].merge(parts[2])
    parts[0].merge(parts[1])
    mean, covariance = parts[0].compute()
    expected = statistics(features.astype(np.float64))
    np.testing.assert_allclose(mean, expected[0], rtol=1e-12)
    np.testing.assert_allclose(covariance, expected[1], rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="two frames"):
        FeatureSums().compute()


def batch(first: int, images: list[np.ndarray], regions: Regions | None) -> FrameBatch:
    return FrameBatch(first, images, images, regions, None)


def regions_of(present: list[bool]) -> Regions:
    t = len(present)
    face = np.tile(np.array([4, 6, 40, 44], np.int32), (t, 1))
    return Regions(
        np.array(present), np.zeros((t, 68, 2), np.float32), face.astype(np.float32), face, face, 20.0
    )


def test_clip_keeps_the_features_of_its_face_frames_in_any_batches(network: Inception) -> None:
    images = list(np.random.default_rng(1).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8))
    regions = regions_of([True, False, True, True])
    context = ClipContext(25, 4, None, 20.0, regions=regions)
    whole, parts = (FrameFeatures(context, network, "face", {"weights": "w"}) for _ in range(2))
    whole.update(batch(0, images, regions))
    parts.update(batch(0, images[:1], regions.span(0, 1)))
    parts.update(batch(1, images[1:], regions.span(1, 4)))
    kept = whole.arrays()["features"]
    assert kept.shape == (3, DIMENSIONS)
    alone = network.features([images[0][6:44, 4:40]])[0]
    # A processor may sum in another order for another batch.
    close = {"rtol": 1e-5, "atol": 1e-6 * kept.max()}
    np.testing.assert_allclose(kept, parts.arrays()["features"], **close)
    np.testing.assert_allclose(kept[0], alone, **close)


def test_the_same_frames_with_other_sound_are_not_seen_twice(tmp_path: Path, network: Inception) -> None:
    images = list(np.random.default_rng(1).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8))
    cache = Cache(tmp_path)
    context = ClipContext(25, 2, None, None, frame_cache=FrameFeatureCache(cache, {"file": "a"}))
    first = FrameFeatures(context, network, "full", {"weights": "w"})
    first.update(batch(0, images, None))
    key = first.cached_arrays()
    assert key is not None
    kept = cache.arrays(key)["features"]
    blind = SimpleNamespace()  # a network that fails when asked
    again = FrameFeatures(context, blind, "full", {"weights": "w"})  # type: ignore[arg-type]
    again.update(batch(0, images, None))
    assert again.cached_arrays() == key
    np.testing.assert_array_equal(kept, first.arrays()["features"])
    other_weights = FrameFeatures(context, blind, "full", {"weights": "v"})  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        other_weights.update(batch(0, images, None))


def test_a_method_is_pooled_with_its_number_of_frames_and_a_warning() -> None:
    rng = np.random.default_rng(0)
    clips = [{"features": rng.random((3, 64), np.float32)} for _ in range(3)]
    pool = FID_FULL.pool
    assert pool is not None
    with pytest.warns(UserWarning, match="6 frames"):
        values = pool.compare(pool.gather(clips[:2]), pool.gather(clips))
    features = [np.concatenate([clip["features"] for clip in some]) for some in (clips[:2], clips)]
    direct = frechet_distance(*statistics(features[1]), *statistics(features[0]))
    assert values["fid_full_frames"] == 6
    assert values["fid_full"] == pytest.approx(direct, rel=1e-5)
    nobody = pool.compare(pool.gather([]), pool.gather(clips))
    assert nobody == {name: MissingValue(Reason.TOO_FEW_FRAMES) for name in ("fid_full", "fid_full_frames")}
    assert FID_FACE.pool is not None
    faceless = FID_FACE.pool.compare(pool.gather([]), pool.gather(clips))
    assert faceless == {name: MissingValue(Reason.NO_FACE) for name in ("fid_face", "fid_face_frames")}


def test_other_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not pytorch-fid's"):
        Inception({"a": torch.zeros(1)})
    (tmp_path / "w.pth").write_text("no weights")
    with pytest.raises(UserError, match="not a file of Inception weights"):
        Inception.from_file(tmp_path / "w.pth")
    assert FID_FACE.weights == ("inception-fid",)


@pytest.mark.slow
def test_fid_equals_the_pytorch_fid_command(
    tmp_path: Path, state: dict[str, torch.Tensor], network: Inception
) -> None:
    a = write_frames(tmp_path / "a", 14, 1, ((96, 96),))
    b = write_frames(tmp_path / "b", 11, 2, ((96, 96),))
    hub = tmp_path / "hub/checkpoints"
    hub.mkdir(parents=True)
    saved(state, hub / "pt_inception-2015-12-05-6726825d.pth")
    command = [sys.executable, "-m", "pytorch_fid", "--num-workers", "0", "--batch-size", "4"]
    answer = subprocess.run(
        [*command, str(tmp_path / "a"), str(tmp_path / "b")],
        env={**os.environ, "TORCH_HOME": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    expected = float(answer.stdout.split("FID:")[1])
    first, second = statistics(network.features(a)), statistics(network.features(b))
    scale = expected + np.trace(first[1]) + np.trace(second[1])
    assert abs(frechet_distance(*first, *second) - expected) < 1e-6 * scale
