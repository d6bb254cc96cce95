"""The face-alignment backend: its plumbing with random weights (the real ones are a download)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from face_alignment import FaceAlignment
from face_alignment.detection.sfd.net_s3fd import s3fd
from face_alignment.models import FAN

from syncdiff_data.faces import FaceConfig, load_backend
from syncdiff_data.faces import face_alignment_backend as module
from syncdiff_data.records import UserError


def test_missing_weights_are_one_sentence_and_no_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_HOME", "SYNCDIFF_WEIGHTS"):
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(UserError, match=r"s3fd-619a316812\.pth"):
        load_backend(FaceConfig(backend="face-alignment"), {})
    assert not list(tmp_path.rglob("*.pth"))


@pytest.mark.slow
def test_points_are_those_of_the_package_with_their_fractions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    files = {"s3fd": tmp_path / "s3fd.pth", "fan2d": tmp_path / "fan.pth"}
    torch.save(s3fd().state_dict(), files["s3fd"])
    torch.save(FAN(4).state_dict(), files["fan2d"])
    monkeypatch.setattr(module, "find_weights", lambda name, given: given[name])
    backend = load_backend(FaceConfig(backend="face-alignment", detect_px=64), files)

    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(2)]
    boxes = np.array([[30, 20, 80, 76], [25, 12, 90, 80]], np.float32)
    points = backend.landmarks(frames, boxes)
    assert isinstance(backend, module.FaceAlignmentBackend)
    package: FaceAlignment = backend._networks
    for frame, box, ours in zip(frames, boxes, points):
        [theirs] = package.get_landmarks_from_image(frame, detected_faces=[box.astype(np.float64)])
        assert np.abs(ours - theirs).max() <= 1  # The package truncates to whole pixels.
        np.testing.assert_array_less(-1e-3, (ours - theirs)[theirs > 0])

    for found in backend.detect(frames):
        assert found.dtype == np.float32
        assert found.shape[1:] == (5,)
