"""What the loader does to pictures: decoding in place, mirroring, colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loader_data import SIZE, read

from syncdiff_data.images import decode_jpeg, decode_jpeg_into, encode_jpeg
from syncdiff_data.landmarks import MIRROR
from syncdiff_data.loader import BatchParts
from syncdiff_data.loader.augment import colour_matrix, mirror, recolour


def test_decoding_in_place_gives_opencv_s_pixels_or_says_why_not():
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    jpeg, place = encode_jpeg(noise), np.empty((SIZE, SIZE, 3), np.uint8)
    decode_jpeg_into(jpeg, place)
    assert np.array_equal(place, decode_jpeg(jpeg))
    for data, size in (
        (jpeg[: len(jpeg) // 2], SIZE),
        (b"no jpeg", SIZE),
        (jpeg, SIZE // 2),
        (jpeg, 2 * SIZE),
    ):
        with pytest.raises(ValueError, match=r"JPEG|jpeg|buffer"):
            decode_jpeg_into(data, np.empty((size, size, 3), np.uint8))


def test_a_mirrored_sample_is_the_mirrored_picture_with_its_own_names():
    rng = np.random.default_rng(0)
    images = {"frames": (2, 8, 8, 3), "identity": (8, 8, 3), "pose": (2, 8, 8, 3)}
    sample = {name: rng.integers(0, 256, shape, np.uint8) for name, shape in images.items()}
    sample["landmarks"] = rng.uniform(0, 7, (2, 68, 2)).astype(np.float32)
    mirrored = mirror(sample, 8)
    assert np.array_equal(mirrored["frames"][1, 2, 0], sample["frames"][1, 2, 7])
    right_eye_corner, left_eye_corner = 36, 45
    np.testing.assert_allclose(
        mirrored["landmarks"][:, right_eye_corner], sample["landmarks"][:, left_eye_corner] * [-1, 1] + [7, 0]
    )
    for name, value in mirror(mirrored, 8).items():
        np.testing.assert_allclose(value, sample[name], atol=1e-5)


def test_mirroring_swaps_pairs_and_keeps_the_middle_of_the_face():
    assert sorted(MIRROR.tolist()) == list(range(68))
    assert (MIRROR[MIRROR] == np.arange(68)).all()
    middle = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    assert (np.flatnonzero(np.arange(68) == MIRROR) == middle).all()


def test_colours_change_by_what_was_drawn():
    image = np.full((1, 2, 2, 3), [100, 150, 200], np.uint8)
    assert np.array_equal(recolour(image, colour_matrix(1, 1, 1)), image)
    assert recolour(image, colour_matrix(2, 1, 1))[0, 0, 0].tolist() == [200, 255, 255]
    assert recolour(image, colour_matrix(1, 1, 0))[0, 0, 0].tolist() == [141, 141, 141]
    assert recolour(image, colour_matrix(1, 0, 1))[0, 0, 0].tolist() == [128, 128, 128]


def test_a_data_set_whose_mirror_and_colours_are_drawn_alike_for_all_images(dataset):
    plain, changed = read(dataset, 3), read(dataset, 3, flip=True, colour_jitter=0.5)
    for one, other in zip(plain, changed):
        assert one["clip_id"] == other["clip_id"]
        assert torch.equal(one["first_frame"], other["first_frame"])
        assert not torch.equal(one["frames"], other["frames"])
        assert torch.equal(other["frames"][:, 0], other["pose"][:, 1])


@pytest.mark.parametrize("images", [(), ("frames",), ("identity", "pose")])
def test_what_is_asked_for_is_the_same_whatever_else_is(dataset, images):
    options = {"flip": True, "colour_jitter": 0.5, "pose_offset": 2}
    for whole, part in zip(
        read(dataset, 6, **options), read(dataset, 6, parts=BatchParts(images, landmarks=False), **options)
    ):
        unasked = {"frames", "identity", "pose", "landmarks"} - set(images)
        assert part.keys() == whole.keys() - unasked
        assert part.pop("clip_id") == whole["clip_id"]
        assert all(torch.equal(value, whole[name]) for name, value in part.items())


def test_landmarks_alone_are_mirrored_as_with_their_crops(dataset):
    whole, part = (
        read(dataset, 6, flip=True, parts=parts) for parts in (BatchParts(), BatchParts(images=()))
    )
    assert all(torch.equal(one["landmarks"], other["landmarks"]) for one, other in zip(whole, part))
