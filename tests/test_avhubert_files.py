"""AV-HuBERT's checkpoints: every layout, and files that are hostile, broken or something else."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_avhubert import TINY, published_state, some_inputs, write_tiny_checkpoint

from syncdiff_data.avhubert import (
    AVHubertEncoder,
    convert_checkpoint,
)
from syncdiff_data.avhubert.pickle_reader import read_pt
from syncdiff_data.records import UserError

pytestmark = pytest.mark.usefixtures("one_thread")


# --- Checkpoints -------------------------------------------------------------------------------------------

LAYOUTS = {
    "pre-trained": {},
    "pickled classes": {"foreign_classes": True},
    "seq2seq": {"prefix": "encoder.w2v_model.", "foreign_classes": True},
    "ctc": {"prefix": "w2v_encoder.w2v_model."},
    "before torch 1.6": {"legacy": True, "foreign_classes": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_encoder(tmp_path: Path, encoder: AVHubertEncoder, layout: str) -> None:
    other = AVHubertEncoder.from_checkpoint(write_tiny_checkpoint(tmp_path / "tiny.pt", **LAYOUTS[layout]))
    assert other.config == TINY
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_float16_tensors_are_read_as_float32(tmp_path: Path, encoder: AVHubertEncoder) -> None:
    half = AVHubertEncoder.from_checkpoint(write_tiny_checkpoint(tmp_path / "half.pt", dtype=torch.float16))
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    audio, _ = some_inputs()
    assert (half(audio) - encoder(audio)).abs().max() < 0.05


@pytest.mark.parametrize("legacy", [False, True])
def test_stubs_are_named(tmp_path: Path, legacy: bool) -> None:
    path = write_tiny_checkpoint(tmp_path / "tiny.pt", foreign_classes=True, legacy=legacy)
    content, stubs = read_pt(path)
    assert stubs == ["fairseq.data.dictionary.Dictionary"]
    assert type(content["task_state"]["dictionaries"][0]).__name__ == "Dictionary"
    assert "fairseq" not in sys.modules


def test_heads_come_from_the_encoder_or_are_asked_for(tmp_path: Path, encoder: AVHubertEncoder) -> None:
    path = write_tiny_checkpoint(tmp_path / "sparse.pt", with_heads=False)  # Its decoder has 2: not a hint.
    with pytest.raises(UserError, match="give heads="):
        AVHubertEncoder.from_checkpoint(path)
    with pytest.raises(UserError, match="do not divide"):
        AVHubertEncoder.from_checkpoint(path, heads=5)
    audio, _ = some_inputs()
    assert torch.equal(AVHubertEncoder.from_checkpoint(path, heads=4)(audio), encoder(audio))


def test_conversion_keeps_every_number(tmp_path: Path, checkpoint: Path, encoder: AVHubertEncoder) -> None:
    folder = convert_checkpoint(checkpoint, tmp_path / "converted")
    audio, video = some_inputs()
    for path in (folder, folder / "model.safetensors"):
        assert torch.equal(AVHubertEncoder.from_checkpoint(path)(audio, video), encoder(audio, video))
    assert "non-commercial" in (folder / "config.json").read_text()
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    again = convert_checkpoint(checkpoint, tmp_path / "again")
    for file in folder.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes()


# --- Hostile and broken files ------------------------------------------------------------------------------


class Runs:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, function: object, *arguments: object):
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def attacks(mark: Path) -> dict[str, object]:
    return {
        "system": Runs(os.system, f"touch {mark}"),
        "popen": Runs(subprocess.Popen, ["touch", str(mark)]),
        "eval": Runs(eval, f"open({str(mark)!r}, 'w')"),
        "open": Runs(open, str(mark), "w"),
        "pickle": Runs(pickle.loads, pickle.dumps(Runs(os.system, f"touch {mark}"))),
        "getattr": Runs(getattr, Runs(__import__, "os"), "system"),
    }


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("attack", list(attacks(Path("x"))))
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, attack: str, legacy: bool) -> None:
    mark = tmp_path / "ran"
    bomb = attacks(mark)[attack]
    path = tmp_path / "evil.pt"
    torch.save({"model": {}, "cfg": bomb}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match="nothing was run"):
        AVHubertEncoder.from_checkpoint(path)
    assert not mark.exists()
    if attack == "system":
        torch.load(path, weights_only=False)  # The bomb is a real one.
        assert mark.exists()


def test_a_function_of_another_package_is_stubbed_not_called(tmp_path: Path) -> None:
    """Third-party names are never imported, so even a dangerous one is inert."""
    mark = tmp_path / "ran"
    code = f"cnumpy.f2py.diagnose\nrun_command\n(S'touch {mark}'\ntR."
    path = tmp_path / "raw.pkl"
    path.write_bytes(code.encode())
    with pytest.raises(UserError, match="not a readable PyTorch checkpoint"):
        read_pt(path)
    assert not mark.exists()


def test_python_2_names_of_dangerous_functions_are_known(tmp_path: Path) -> None:
    path = tmp_path / "raw.pkl"
    path.write_bytes(b"c__builtin__\neval\n(S'1'\ntR.")
    with pytest.raises(UserError, match=r"builtins\.eval"):
        read_pt(path)


def test_a_tensor_cannot_reach_beyond_its_bytes(tmp_path: Path) -> None:
    class Overlong:
        def __reduce__(self) -> tuple:
            storage = torch.zeros(4).untyped_storage()
            return torch._utils._rebuild_tensor_v2, (
                torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True),
                0,
                (1000,),
                (1,),
                False,
                {},
            )

    path = tmp_path / "overlong.pt"
    torch.save({"model": {"x": Overlong()}}, path)
    with pytest.raises(UserError, match="out of bounds"):
        read_pt(path)


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_files_get_one_sentence(tmp_path: Path, share: float, legacy: bool) -> None:
    path = write_tiny_checkpoint(tmp_path / "cut.pt", legacy=legacy)
    cut(path, share)
    with pytest.raises(
        UserError, match=r"not a readable PyTorch checkpoint: expected .* found .* incomplete"
    ):
        AVHubertEncoder.from_checkpoint(path)


def test_flipped_bytes_are_noticed(tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "flipped.pt")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match="not a readable PyTorch checkpoint"):
        AVHubertEncoder.from_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"RIFF....WAVE", "starting with b'RIFF"),
    ],
)
def test_files_that_are_something_else_are_named(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "thing.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"expected a .pt file .* found .*{found}"):
        AVHubertEncoder.from_checkpoint(path)


def test_a_missing_file_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No checkpoint at"):
        AVHubertEncoder.from_checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(UserError, match=r"expected config\.json and model\.safetensors"):
        AVHubertEncoder.from_checkpoint(tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "alone.safetensors")
    with pytest.raises(UserError, match=r"expected config\.json"):
        AVHubertEncoder.from_checkpoint(tmp_path / "alone.safetensors")


def test_other_models_and_damaged_states_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(UserError, match=r"expected a dictionary with 'model', found .'state_dict'"):
        AVHubertEncoder.from_checkpoint(path)
    torch.save({"model": {"conv1.weight": torch.zeros(1)}}, path)
    with pytest.raises(UserError, match=r"expected post_extract_proj.weight .* found conv1\.weight"):
        AVHubertEncoder.from_checkpoint(path)

    state = published_state(TINY, seed=0)
    changes = {
        "encoder.layers.1.fc1.weight: expected .64, 32., found no such tensor": lambda s: s.pop(
            "encoder.layers.1.fc1.weight"
        ),
        "extra: expected no such tensor": lambda s: s.update(extra=torch.zeros(1)),
        "layer_norm.bias: expected .64., found .3.": lambda s: s.update({"layer_norm.bias": torch.zeros(3)}),
        "expected the tensor 'encoder.pos_conv.0.weight_g'": lambda s: s.pop("encoder.pos_conv.0.weight_g"),
    }
    for message, change in changes.items():
        broken = dict(state)
        change(broken)
        with pytest.raises(UserError, match=message):
            AVHubertEncoder.from_checkpoint(write_tiny_checkpoint(path, state=broken))
