"""Whose face it is, and how the faces are distributed: networks that come inside packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
import pytest
import skimage
from lip_clips import context_of, feed, landmarks, opening_of
from scipy.spatial.distance import cosine

from syncdiff_data.faces import FaceConfig, find_tracks, load_backend
from syncdiff_data.faces.embedded import packaged_file
from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_eval.cache import Cache, FrameFeatureCache
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.base import ClipContext, FrameBatch, MissingValue, Regions
from syncdiff_eval.metrics.fid import FID_FACE
from syncdiff_eval.metrics.frechet_centerface import FRECHET_CENTERFACE
from syncdiff_eval.metrics.identity import EVERY, Identity, cosines
from syncdiff_eval.networks.centerface import CenterFaceFeatures
from syncdiff_eval.networks.dlib_face import FaceEmbedder
from syncdiff_eval.networks.dlib_network import DlibFaceNetwork
from syncdiff_eval.videos import frames


class MeanColour:
    """Stands in for dlib's network, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        self.calls += 1
        return np.append(image.mean(axis=(0, 1)), landmarks[0, 0])


# --- Identity ---------------------------------------------------------------------------------------------------


def test_cosine_is_scipys() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 5, 128))
    np.testing.assert_allclose(cosines(a, b), [1 - cosine(x, y) for x, y in zip(a, b)], atol=1e-12)


def images(count: int, seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8))


def identity(embedder: Any, count: int = 20, batch: int = 8, shown: int | None = None, **more: Any) -> Any:
    mouth = opening_of(count, 0)
    context = context_of(mouth, None, **more)
    made, real = images(count, 1)[:shown], images(count, 2)[:shown]
    return feed(Identity(context, embedder), context, made, real, batch, landmarks(mouth)[:shown]).compute()


def test_one_face_in_eight_is_compared_in_any_batches() -> None:
    embedder = MeanColour()
    found = identity(embedder)["identity_dlib"]
    assert embedder.calls == 2 * len(range(0, 20, EVERY))
    assert identity(MeanColour(), batch=3)["identity_dlib"] == pytest.approx(found, abs=1e-12)
    at = range(0, 20, EVERY)
    x0 = landmarks(opening_of(2, 0))[0, 0, 0]
    rows = [
        np.array([np.append(side[i].mean(axis=(0, 1)), x0) for i in at])
        for side in (images(20, 1), images(20, 2))
    ]
    assert found == pytest.approx(cosines(*rows).mean(), abs=1e-9)


def test_frames_without_a_face_are_not_sampled() -> None:
    late = np.arange(20) >= 13
    embedder = MeanColour()
    assert isinstance(identity(embedder, present=late)["identity_dlib"], float)
    assert embedder.calls == 2
    for nobody in ({"present": np.zeros(20, bool)}, {"regions": None}):
        assert identity(embedder, **nobody)["identity_dlib"] == MissingValue(Reason.NO_FACE)


def test_the_reference_is_embedded_once_for_all_methods(tmp_path: Path) -> None:
    def cache() -> FrameFeatureCache:
        return FrameFeatureCache(Cache(tmp_path), {"file": "reference"})

    short = identity(MeanColour(), shown=9, reference_frame_cache=cache())
    first, again = MeanColour(), MeanColour()
    whole = identity(first, reference_frame_cache=cache())
    assert first.calls == 6, "a short output leaves no part of the reference behind"
    assert identity(again, reference_frame_cache=cache()) == whole
    assert again.calls == 3
    assert identity(MeanColour(), shown=9, reference_frame_cache=cache()) == pytest.approx(short, abs=1e-12)


@pytest.fixture(scope="module")
def portrait() -> tuple[np.ndarray, np.ndarray]:
    """A public portrait, RGB, and its landmarks [68, 2]."""
    image = skimage.data.astronaut()
    backend = load_backend(FaceConfig(), {})
    track, *_ = find_tracks(iter([image] * 5), backend, FaceConfig(min_frames=5))[0]
    return image, track.landmarks[0]


def test_embedding_is_dlibs_own(portrait: tuple[np.ndarray, np.ndarray]) -> None:
    """dlib's one call for a whole image cuts the same chip, and its network says the same."""
    image, points = portrait
    embedder = FaceEmbedder()
    shape = dlib.full_object_detection(
        dlib.rectangle(0, 0, 1, 1), dlib.points([dlib.point(int(x), int(y)) for x, y in points])
    )
    file = packaged_file("face_recognition_models", "models/dlib_face_recognition_resnet_model_v1.dat")
    expected = np.array(dlib.face_recognition_model_v1(str(file)).compute_face_descriptor(image, shape))
    own = embedder.embed(image, points)
    np.testing.assert_allclose(own, expected, atol=2e-6)
    soft = embedder.embed(cv2.GaussianBlur(image, (0, 0), 3), points)
    upside_down = embedder.embed(np.ascontiguousarray(image[::-1]), points)
    same, worse = cosines(np.stack([own, own]), np.stack([soft, upside_down]))
    assert 1 > same > 0.9 > worse


@pytest.mark.parametrize("kept", [0, 1000, 5_000_000])
def test_a_file_that_is_not_dlibs_is_refused(tmp_path: Path, kept: int) -> None:
    """Nothing, and a part of the network."""
    file = packaged_file("face_recognition_models", "models/dlib_face_recognition_resnet_model_v1.dat")
    (tmp_path / "cut.dat").write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"cut\.dat does not hold dlib's face network"):
        DlibFaceNetwork(tmp_path / "cut.dat")


def test_other_people_are_less_alike_than_one_person(shared: Path) -> None:
    """Two real people, three frames of each."""
    embedder, backend = FaceEmbedder(), load_backend(FaceConfig(), {})
    people = []
    for name in ("hdtf_BobMenendez.mp4", "grid_s1_bbaf2n.mpg"):
        shown = [image for _, image in frames(shared / "clips" / name)][:11]
        track, *_ = find_tracks(iter(shown), backend, FaceConfig(min_frames=5))[0]
        people.append(np.stack([embedder.embed(shown[i], track.landmarks[i]) for i in (0, 5, 10)]))
    within = min(cosines(p[[0, 0, 1]], p[[1, 2, 2]]).min() for p in people)
    between = max(cosines(people[0], np.roll(people[1], k, axis=0)).max() for k in range(3))
    assert within > 0.97 > 0.93 > between


# --- Fréchet distance in CenterFace's features --------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> CenterFaceFeatures:
    return CenterFaceFeatures()


def pooled(network: CenterFaceFeatures, generated: list[np.ndarray], real: list[np.ndarray]) -> Any:
    pool = FRECHET_CENTERFACE.pool
    assert pool is not None
    clips = ([{"features": network.features(side)}] for side in (generated, real))
    return pool.compare(*(pool.gather(clip) for clip in clips))


def test_features_are_those_of_each_face_whatever_the_batch(network: CenterFaceFeatures) -> None:
    shown = [image[:: 1 + i, :: 1 + i] for i, image in enumerate([skimage.data.astronaut()] * 2)]
    both = network.features(shown)
    assert both.shape == (2, network.dimensions)
    assert both.dtype == np.float32
    np.testing.assert_array_equal(both[1], network.features(shown[1:])[0])
    assert network.features([]).shape == (0, network.dimensions)
    assert both.std() > 0.01


@pytest.mark.filterwarnings("ignore:Fr.chet distance, CenterFace over")
def test_distance_grows_with_blur_and_noise(network: CenterFaceFeatures) -> None:
    face = skimage.data.astronaut()[20:244, 110:334]
    rng = np.random.default_rng(0)
    real = [np.roll(face, shift, axis=1) for shift in range(-6, 7)]
    blurs = [[cv2.GaussianBlur(image, (0, 0), sigma) for image in real] for sigma in (1, 2, 4)]
    noises = [
        [np.clip(image + rng.normal(0, sd, image.shape), 0, 255).astype(np.uint8) for image in real]
        for sd in (4, 8, 16)
    ]
    for ladder in (blurs, noises):
        found = [pooled(network, made, real)["frechet_centerface"] for made in ladder]
        assert 0 < found[0] < found[1] < found[2]
    same = pooled(network, real, real)
    assert same["frechet_centerface"] == pytest.approx(0, abs=1e-6)
    assert same["frechet_centerface_frames"] == len(real)


def test_it_is_never_printed_as_fid() -> None:
    titles = {column.title for column in FRECHET_CENTERFACE.columns}
    assert not any("FID" in title for title in titles)
    assert titles.isdisjoint(column.title for column in FID_FACE.columns)


def test_families_keep_the_faces_of_a_clip() -> None:
    face = skimage.data.astronaut()[20:244, 110:334]
    box = np.tile(np.array([10, 10, 200, 200], np.int32), (3, 1))
    regions = Regions(
        np.array([True, False, True]),
        np.zeros((3, 68, 2), np.float32),
        box.astype(np.float32),
        box,
        box,
        60.0,
    )
    context = ClipContext(25, 3, None, 60.0, regions=regions)
    state: Any = FAMILIES["frechet-centerface"].load({}, "cpu")(context)
    state.update(FrameBatch(0, [], [face] * 3, regions, None))
    assert state.arrays()["features"].shape == (2, 320)
    assert state.compute() == {}
