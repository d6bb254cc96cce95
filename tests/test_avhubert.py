"""AV-HuBERT without fairseq: parity with the published code, checkpoints honest and hostile, split forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_avhubert import published_shapes, some_inputs

from syncdiff_data.avhubert import (
    BASE,
    LARGE,
    AVHubertEncoder,
    EncoderConfig,
    align_frames,
    audio_input,
    video_input,
)
from syncdiff_data.avhubert import video_frontend as front_end
from syncdiff_data.avhubert.weights import published_weights
from syncdiff_data.features import logfbank

GOLDEN = {"atol": 5e-5, "rtol": 1e-4}
LAYERS = (1, 2, None)

pytestmark = pytest.mark.usefixtures("one_thread")


# --- Parity with the published code ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("tiny_plain", 18), ("tiny_fp16", 3)])
def test_golden_outputs(shared: Path, name: str, count: int) -> None:
    golden = shared / "golden"
    encoder = AVHubertEncoder.from_checkpoint(golden / f"{name}.pt")
    inputs = {key: torch.from_numpy(value) for key, value in np.load(golden / "tiny_inputs.npz").items()}
    expected = np.load(golden / ("tiny_fp16_outputs.npz" if name == "tiny_fp16" else "tiny_outputs.npz"))
    compared = 0
    for modality in ("audio", "video", "av"):
        for padded in ("nopad", "pad"):
            suffix = "_padded" if padded == "pad" else ""
            if f"finetune/{modality}/{padded}/layerNone" not in expected:
                continue
            states = encoder.hidden_states(
                LAYERS,
                inputs[f"audio{suffix}"] if modality != "video" else None,
                inputs[f"video{suffix}"] if modality != "audio" else None,
                inputs["padding_mask"] if padded == "pad" else None,
            )
            for layer in LAYERS:
                key = f"finetune/{modality}/{padded}/layer{layer}"
                if key in expected:
                    np.testing.assert_allclose(states[layer], expected[key], **GOLDEN, err_msg=key)
                    compared += 1
    assert compared == count


@pytest.mark.parametrize("name", ["tiny_fairseq", "tiny_seq2seq"])
def test_golden_layouts_hold_the_encoder_whose_outputs_were_compared(shared: Path, name: str) -> None:
    golden = shared / "golden"
    compared = AVHubertEncoder.from_checkpoint(golden / "tiny_plain.pt")
    other = AVHubertEncoder.from_checkpoint(golden / f"{name}.pt")
    assert other.config == compared.config
    for key, tensor in compared.state_dict().items():
        assert torch.equal(other.state_dict()[key], tensor), key


def test_golden_whole_path_from_pixels_and_samples(shared: Path) -> None:
    golden = np.load(shared / "golden" / "dump_tiny.npz")
    encoder = AVHubertEncoder.from_checkpoint(shared / "golden" / "tiny_plain.pt")
    mouth = golden["gray_u8"]
    audio = audio_input(align_frames(logfbank(golden["wav_i16"]), len(mouth)))
    states = encoder.hidden_states(
        [1, 2], torch.from_numpy(audio)[None], torch.from_numpy(video_input(mouth))[None]
    )
    for layer in (1, 2):
        np.testing.assert_allclose(states[layer][0], golden[f"layer{layer}"], **GOLDEN)


@pytest.mark.parametrize(
    ("keys", "prefix", "config"),
    [
        ("avhubert_base_pinned", "", BASE),
        ("avhubert_base_seq2seq", "encoder.w2v_model.", BASE),
        ("avhubert_large_pinned", "", LARGE),
    ],
)
def test_published_sizes_build_with_exactly_the_published_tensors(
    shared: Path, keys: str, prefix: str, config: EncoderConfig
) -> None:
    lines = (shared / "golden" / "keys" / f"{keys}.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    published = {
        name: tuple(int(size) for size in shape.split(",") if size)
        for name, _, shape in ((*row, "")[:3] for row in rows)
    }
    ours = published_shapes(config, clusters=2000, final_dim=256)
    if prefix:
        ours = {name: shape for name, shape in ours.items() if not name.startswith("final_proj")}
    assert {prefix + name: shape for name, shape in ours.items()} == {
        name: shape for name, shape in published.items() if name.startswith(prefix)
    }
    with torch.device("meta"):
        model = {name: torch.empty(shape) for name, shape in published.items()}
    found, tensors = published_weights({"cfg": {}, "model": model}, "base.pt")
    assert found == config
    assert AVHubertEncoder.from_tensors(found, tensors, "base.pt").config == config


def test_base_has_the_published_number_of_parameters() -> None:
    shapes = published_shapes(BASE, clusters=2000, final_dim=256)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = sum(
        torch.Size(shape).numel() for name, shape in shapes.items() if not name.endswith(buffers)
    )
    assert (len(shapes), parameters) == (346, 103_330_280)


# --- The forward contract ----------------------------------------------------------------------------------


def test_a_layer_asked_for_alone_equals_the_same_among_others(encoder: AVHubertEncoder) -> None:
    audio, video = some_inputs()
    states = encoder.hidden_states([1, 3, None], audio, video)
    for layer in (1, 3, None):
        assert torch.equal(states[layer], encoder(audio, video, layer=layer))
    assert not torch.allclose(states[3], states[None], atol=0.1)


def test_inference_is_without_gradients(encoder: AVHubertEncoder) -> None:
    assert not encoder.training
    assert not encoder(audio=some_inputs()[0]).requires_grad


def test_a_missing_modality_is_not_a_zero_input(encoder: AVHubertEncoder) -> None:
    audio, video = some_inputs()
    assert (encoder(audio) - encoder(audio, torch.zeros_like(video))).abs().max() > 1e-3
    assert (encoder(video=video) - encoder(torch.zeros_like(audio), video)).abs().max() > 1e-3


@pytest.mark.parametrize("modality", ["audio", "video", "av"])
def test_padding_changes_nothing_but_rounding(encoder: AVHubertEncoder, modality: str) -> None:
    audio, video = some_inputs(frames=7)
    lengths = (7, 4)
    mask = torch.arange(7)[None] >= torch.tensor(lengths)[:, None]
    audio[1, :, 4:], video[1, :, 4:] = 0, 0
    heard, seen = (audio if modality != "video" else None), (video if modality != "audio" else None)
    together = encoder(heard, seen, mask)
    for row, length in enumerate(lengths):
        alone = encoder(
            None if heard is None else heard[row : row + 1, :, :length],
            None if seen is None else seen[row : row + 1, :, :length],
        )
        torch.testing.assert_close(together[row, :length], alone[0], atol=1e-5, rtol=1e-5)


def test_content_of_padded_frames_is_not_heard(encoder: AVHubertEncoder) -> None:
    audio, _ = some_inputs(frames=9)
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[:, 6:] = True
    other = audio.clone()
    other[:, :, 6:] = 5.0
    assert torch.equal(encoder(audio, padding_mask=mask)[:, :6], encoder(other, padding_mask=mask)[:, :6])


def test_long_video_in_chunks_equals_video_at_once(
    encoder: AVHubertEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, video = some_inputs(frames=7)
    whole = encoder(video=video)
    monkeypatch.setattr(front_end, "CHUNK_FRAMES", 6)  # Three frames of each of two clips.
    torch.testing.assert_close(encoder(video=video), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("heard", [True, False])
def test_a_projection_of_the_video_stands_for_it(encoder: AVHubertEncoder, heard: bool) -> None:
    audio, video = some_inputs(frames=7)
    projected = encoder.project_video(video)
    assert projected.shape == (2, 7, 32)
    sound = audio if heard else None
    torch.testing.assert_close(encoder(sound, projected), encoder(sound, video), atol=0, rtol=0)
    with pytest.raises(ValueError, match="video: expected float32"):
        encoder(sound, projected[..., :31])


def test_bfloat16_stays_close(checkpoint: Path, encoder: AVHubertEncoder) -> None:
    audio, video = some_inputs(batch=1, frames=2)
    half = AVHubertEncoder.from_checkpoint(checkpoint).to(torch.bfloat16)
    exact, rounded = encoder(audio, video), half(audio, video)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("layer", [0, 4, -1, 1.0, True, "9"])
def test_layers_that_are_not_there_are_refused(encoder: AVHubertEncoder, layer: object) -> None:
    audio, _ = some_inputs()
    with pytest.raises(ValueError, match=r"layer: expected 1..3"):
        encoder(audio, layer=layer)
    with pytest.raises(ValueError, match=r"layer: expected 1..3"):
        encoder.resume_from(layer, torch.zeros(1, 4, 32))


AUDIO, VIDEO = some_inputs(frames=4)
NO_PADDING = torch.zeros(2, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "audio, video: at least one"),
        ({"audio": AUDIO.double()}, "audio: expected float32"),
        ({"audio": AUDIO.transpose(1, 2)}, "audio: expected float32"),
        ({"audio": AUDIO[0]}, "audio: expected float32"),
        ({"video": (VIDEO * 255).byte()}, "video: expected float32"),
        ({"video": VIDEO[..., :80]}, "video: expected float32"),
        ({"video": VIDEO[:, 0]}, "video: expected float32"),
        ({"audio": AUDIO, "video": VIDEO[:, :, :3]}, "audio, video: .* differ"),
        ({"audio": AUDIO[:, :, :0]}, "nothing to encode"),
        ({"audio": AUDIO, "padding_mask": NO_PADDING.float()}, "padding_mask: expected bool"),
        ({"audio": AUDIO, "padding_mask": NO_PADDING[:, :3]}, "padding_mask: expected bool"),
        ({"audio": AUDIO, "padding_mask": ~NO_PADDING}, "padding_mask: a row is all padding"),
    ],
)
def test_wrong_inputs_are_refused_by_name(encoder: AVHubertEncoder, arguments: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        encoder(**arguments)


# --- Lower and upper part ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_lower_and_upper_part_make_the_whole(encoder: AVHubertEncoder, layer: int) -> None:
    audio, video = some_inputs()
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[1, 3:] = True
    whole = encoder(audio, video, mask)
    hidden = encoder.encode_until(layer, audio, video, mask)
    with torch.no_grad():
        torch.testing.assert_close(encoder.resume_from(layer, hidden, mask), whole, atol=1e-5, rtol=0)
        stored = encoder.resume_from(layer, hidden.half(), mask)
    assert (stored - whole).norm() < 1e-3 * whole.norm()


def test_upper_part_learns_and_lower_part_does_not(checkpoint: Path) -> None:
    encoder = AVHubertEncoder.from_checkpoint(checkpoint)
    audio, _ = some_inputs()
    target = torch.zeros(2, 5, 32)
    hidden = encoder.encode_until(2, audio).requires_grad_()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = (encoder.resume_from(2, hidden) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]
    assert hidden.grad is not None
    trained = {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert trained == {
        name
        for name, _ in encoder.named_parameters()
        if name.startswith(("encoder.layers.2.", "encoder.layer_norm."))
    }


def test_parts_need_a_number_and_the_right_width(encoder: AVHubertEncoder) -> None:
    with pytest.raises(ValueError, match="layer: encode_until"):
        encoder.encode_until(None, AUDIO)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layer: resume_from"):
        encoder.resume_from(None, torch.zeros(1, 4, 32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"hidden: expected floating point \[B, T, 32\]"):
        encoder.resume_from(1, torch.zeros(1, 4, 31))
