"""The published Wav2Lip: its network's golden outputs, its weight files, its boxes, its crops and its sound."""

from __future__ import annotations

import os
import pickle
import runpy
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_clips import speech_like
from torch import Tensor

from syncdiff_data.features import mel, mel_windows, mel_windows_at
from syncdiff_data.records import UserError
from syncdiff_model.compositing import paste_face
from syncdiff_model.wav2lip.boxes import (
    BoxConfig,
    box_transforms,
    crop_box,
    detector_boxes,
    face_boxes,
    pad_boxes,
    paste_box,
    smooth_boxes,
)
from syncdiff_model.wav2lip.faces import face_input, generate_faces, mel_input
from syncdiff_model.wav2lip.load import WEIGHTS, load_wav2lip, read_network
from syncdiff_model.wav2lip.network import Wav2Lip


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, np.ndarray]:
    return dict(np.load(shared / "golden" / "wav2lip.npz"))


@pytest.fixture(scope="module")
def golden_state(shared: Path, golden: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Seeded weights under the published names, with the golden file's batch-norm statistics."""
    recipe = runpy.run_path(str(shared / "golden" / "weight_recipe.py"))
    filled = recipe["fill"](recipe["read_keys"](shared / "golden" / "keys" / "wav2lip.txt"), 96)
    measured = {name.removeprefix("bn/"): array for name, array in golden.items() if name.startswith("bn/")}
    return {name: torch.from_numpy(np.asarray(array)) for name, array in (filled | measured).items()}


@pytest.fixture(scope="module")
def network() -> Wav2Lip:
    torch.manual_seed(0)
    return Wav2Lip().eval()


# --- The network ---------------------------------------------------------------------------------------------


def test_names_and_shapes_are_the_published_ones(golden_state: dict[str, Tensor], network: Wav2Lip) -> None:
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert own == {name: tuple(tensor.shape) for name, tensor in golden_state.items()}
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 36.3


def test_golden_outputs_from_a_file_of_the_published_layout(
    golden: dict[str, np.ndarray], golden_state: dict[str, Tensor], tmp_path: Path
) -> None:
    """Of single frames and of a clip; written as the authors' torch 1.1 wrote it, before the zip format."""
    published = {
        "state_dict": {f"module.{name}": tensor for name, tensor in golden_state.items()},
        "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]},
        "global_step": 254000,
        "global_epoch": 31,
    }
    torch.save(published, tmp_path / "wav2lip.pth", _use_new_zipfile_serialization=False)
    loaded = read_network(tmp_path / "wav2lip.pth")
    for case in ("4d", "5d"):
        with torch.inference_mode():
            made = loaded(*(torch.from_numpy(golden[f"{name}_{case}"]) for name in ("mel", "face")))
        np.testing.assert_allclose(made.numpy(), golden[f"out_{case}"], rtol=0, atol=1e-4)


# --- Weight files --------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("exploded",)


def write(content: Any) -> Callable[[Path], object]:
    return lambda path: torch.save(content, path)


def write_torchscript(path: Path) -> None:
    """What torch.load knows such an archive by."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/constants.pkl", pickle.dumps(()))


@pytest.mark.parametrize(
    ("writer", "message"),
    [
        (write({"state_dict": {"module.a": torch.zeros(1)}}), "Missing key"),
        (write({"state_dict": [1, 2]}), '"state_dict" is a list'),
        (write([torch.zeros(1)]), "it holds a list"),
        (write({"state_dict": Bomb()}), "more than tensors and plain values"),
        (write_torchscript, "a TorchScript archive"),
        (lambda path: path.write_text("<html>no such file</html>"), "no file of torch.save"),
        (lambda path: path.write_bytes(b""), "is not a file of Wav2Lip weights"),
    ],
    ids=["other-tensors", "list-inside", "list", "code", "torchscript", "web-page", "empty"],
)
def test_another_file_is_refused(
    writer: Callable[[Path], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    writer(tmp_path / "wav2lip.pth")
    with pytest.raises(UserError, match=message) as refusal:
        read_network(tmp_path / "wav2lip.pth")
    assert str(tmp_path / "wav2lip.pth") in str(refusal.value)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("name", WEIGHTS)
def test_missing_weights_name_the_command_and_others_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYNCDIFF_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = f"{name.replace('-', '_')}.pth"
    with pytest.raises(UserError, match=rf"get {file} from .*Wav2Lip.* `.* weights import {name} FILE`"):
        load_wav2lip(name)
    torch.save({"state_dict": {}}, tmp_path / file)
    with pytest.raises(UserError, match=f"is not the published {file}"):
        load_wav2lip(name, {name: tmp_path / file})


# --- Boxes ---------------------------------------------------------------------------------------------------


def test_boxes_are_cut_to_whole_pixels_padded_and_kept_inside() -> None:
    boxes = np.array([[10.9, 20.9, 60.9, 80.9], [-3.5, -2, 40, 95], [70, 60, 130, 99]], np.float32)
    padded = pad_boxes(boxes, (100, 90), BoxConfig().pads)
    np.testing.assert_array_equal(padded, [[10, 20, 60, 90], [0, 0, 40, 90], [70, 60, 100, 90]])
    sides = pad_boxes(boxes[:1], (100, 90), (1, 2, 3, 4))
    np.testing.assert_array_equal(sides, [[7, 19, 64, 82]])


def test_boxes_are_smoothed_over_those_that_follow_in_place_and_without_fractions() -> None:
    def smooth(x: list[int]) -> list[int]:
        boxes = np.repeat(np.array(x)[:, None], 4, axis=1)
        smoothed = smooth_boxes(boxes)
        assert (smoothed == smoothed[:, :1]).all()
        return [int(value) for value in smoothed[:, 0]]

    # Frames 3 to 6 average the last five, some of them smoothed before: (40 + 30 + 40 + 50 + 60) / 5 = 44, ...
    assert smooth([0, 10, 20, 30, 40, 50, 60]) == [20, 30, 40, 44, 46, 48, 47]
    # Shorter than the window: the last 5 - 4, 5 - 3, or all.
    assert smooth([1, 2, 3, 9]) == [9, 9, 9, 9]
    assert smooth([0, 10, 20]) == [15, 15, 17]
    assert smooth([0, 11]) == [5, 8]
    assert smooth([7]) == [7]


@given(
    arrays(np.float32, st.tuples(st.integers(1, 12), st.just(4)), elements=st.floats(-300, 300, width=32)),
    st.integers(1, 6),
)
def test_every_box_is_a_part_of_the_frame(boxes: np.ndarray, window: int) -> None:
    made = face_boxes(boxes, (120, 90), BoxConfig(smooth_frames=window))
    assert (made[:, :2] >= 0).all()
    assert (made[:, :2] < made[:, 2:]).all()
    assert (made[:, 2:] <= (120, 90)).all()


def ramps(width: int, height: int) -> np.ndarray:
    """uint8 [height, width, 3]: a pixel holds its own x, y and 255 - x."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("box", [(30, 20, 200, 180), (5, 11, 61, 90), (0, 0, 96, 96)])
def test_transforms_say_where_the_crops_pixels_lie(box: tuple[int, int, int, int]) -> None:
    crop = crop_box(ramps(240, 220).astype(np.float32), np.array(box))
    (matrix,) = box_transforms(np.array([box]))
    assert matrix.dtype == np.float32
    u, v = np.meshgrid(np.arange(96), np.arange(96))
    x, y = np.einsum("ij,jhw->ihw", matrix, np.stack([u, v, np.ones_like(u)]).astype(np.float64))
    # Beyond the centres of the box's outer pixels OpenCV repeats them.
    x, y = np.clip(x, box[0], box[2] - 1), np.clip(y, box[1], box[3] - 1)
    assert np.abs(crop[..., 0] - x).max() < 1e-3
    assert np.abs(crop[..., 1] - y).max() < 1e-3


def test_a_pasted_face_covers_its_box_and_nothing_else() -> None:
    frame, box = ramps(240, 220), np.array([30, 20, 230, 190])
    face = np.full((96, 96, 3), 7, np.uint8)
    pasted = paste_box(frame, face, box)
    inside = np.zeros((220, 240), bool)
    inside[20:190, 30:230] = True
    assert (pasted[inside] == 7).all()
    np.testing.assert_array_equal(pasted[~inside], frame[~inside])
    np.testing.assert_array_equal(frame, ramps(240, 220))


def test_the_common_pasting_agrees_inside_the_box() -> None:
    """paste_face with a mask of ones: half a crop pixel at the edge is blended, the rest agrees to a gray level."""
    frame, box = ramps(240, 220), np.array([30, 20, 230, 190])
    face = crop_box(255 - frame, box)
    pasted = paste_face(frame, face, np.ones((96, 96), np.float32), box_transforms(box[None])[0])
    own = paste_box(frame, face, box)
    edge = 2
    inner = (slice(20 + edge, 190 - edge), slice(30 + edge, 230 - edge))
    assert np.abs(pasted[inner].astype(int) - own[inner]).max() <= 1
    outside = np.ones((220, 240), bool)
    outside[20 - edge : 190 + edge, 30 - edge : 230 + edge] = False
    np.testing.assert_array_equal(pasted[outside], frame[outside])


def test_boxes_of_landmarks_reach_from_the_forehead_to_the_chin() -> None:
    landmarks = np.zeros((2, 68, 2), np.float32)
    landmarks[:, 0], landmarks[:, 16], landmarks[:, 8], landmarks[:, 19] = (
        (40, 60),
        (140, 62),
        (90, 150),
        (60, 50),
    )
    landmarks[:, 1:8], landmarks[:, 9:16], landmarks[:, 17:19], landmarks[:, 20:] = (
        (90, 100),
        (90, 99),
        70,
        80,
    )
    boxes = detector_boxes(landmarks)
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [[40, 20, 140, 145]] * 2, atol=1e-4)


# --- Crops and sound -----------------------------------------------------------------------------------------


def test_the_network_sees_bgr_with_the_lower_half_hidden_then_all_of_it() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    given_face = face_input(crops).numpy()
    assert given_face.shape == (2, 6, 96, 96)
    blue, red = crops[..., 2] / np.float32(255), crops[..., 0] / np.float32(255)
    np.testing.assert_array_equal(given_face[:, 3], blue)
    np.testing.assert_array_equal(given_face[:, 5], red)
    np.testing.assert_array_equal(given_face[:, 0, :48], blue[:, :48])
    assert not given_face[:, :3, 48:].any()


def test_faces_are_the_networks_in_rgb_whatever_the_batch(network: Wav2Lip) -> None:
    rng = np.random.default_rng(1)
    crops = rng.integers(0, 256, (5, 96, 96, 3), np.uint8)
    windows = mel_windows(speech_like(5), 5)
    with torch.inference_mode():
        bgr = network(mel_input(windows), face_input(crops)).numpy()
    expected = (bgr.transpose(0, 2, 3, 1) * 255).astype(np.uint8)[..., ::-1]
    for batch in (2, 32):
        made = generate_faces(network, crops, windows, batch)
        assert made.dtype == np.uint8
        # Sums in another order may move a value across a whole number.
        assert np.abs(made.astype(int) - expected).max() <= 1
    assert np.ptp(expected.reshape(-1, 3).mean(axis=0)) > 2, (
        "the colours differ, or their order would not show"
    )
    assert generate_faces(network, crops[:0], windows[:0]).shape == (0, 96, 96, 3)


def test_other_crops_and_windows_are_refused(network: Wav2Lip) -> None:
    crops, windows = np.zeros((2, 96, 96, 3), np.uint8), np.zeros((2, 1280), np.float32)
    with pytest.raises(ValueError, match=r"crops: expected uint8 \[N, 96, 96, 3\]"):
        generate_faces(network, crops[:, :95], windows)
    with pytest.raises(ValueError, match=r"windows: expected float32 \[2, 1280\]"):
        generate_faces(network, crops, windows[:1])


@pytest.mark.parametrize(
    "fps", [Fraction(25), Fraction(30000, 1001), Fraction(24), Fraction(50), Fraction(60)]
)
def test_windows_start_where_the_originals_do(fps: Fraction) -> None:
    """At int(i * (80 / fps)), which exact arithmetic gives as well."""
    audio, count = speech_like(25 * 10), int(9.5 * fps)
    starts = np.array([int(i * (80.0 / float(fps))) for i in range(count)])
    assert starts.tolist() == [int(i * 80 / fps) for i in range(count)]
    windows = mel_windows_at(audio, np.arange(count) / float(fps)).reshape(count, 16, 80)
    np.testing.assert_array_equal(windows, mel(audio)[starts[:, None] + np.arange(16)])


def test_windows_of_times_at_the_ends() -> None:
    times = np.arange(25) / 25
    audio = speech_like(25)
    np.testing.assert_array_equal(mel_windows_at(audio, times), mel_windows(audio, 25))
    ends = mel_windows_at(audio, np.array([-1.0, 0.0, 0.9, 50.0])).reshape(4, 16, 80)
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[2], ends[3])
    np.testing.assert_array_equal(ends[3], mel(audio)[-16:])
