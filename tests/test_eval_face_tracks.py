"""S3FD as the published pipeline runs it, and the protocols that stand on its tracks, from files to rows."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import skimage
import torch
from seeded_networks import s3fd_state, saved, syncnet_state
from syncnet_python.syncnet_pipeline import PipelineConfig, SyncNetPipeline

from syncdiff_data.media import Video
from syncdiff_data.records import UserError
from syncdiff_eval.metrics.face_tracks import CONFIDENCE, DETECTION_SCALE, S3fdDetector


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
