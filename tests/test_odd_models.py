"""Settings, runs and models that ask for what cannot be: one sentence before memory or time is taken."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import test_model_training as training
import torch
from diffusers import AutoencoderTiny
from loader_data import write_dataset
from rich.console import Console
from safetensors.torch import load_file, save_file
from syncdiff_pipelines import synthesize, train
from test_model_training import trainer
from tiny_avhubert import write_tiny_checkpoint
from tiny_models import save_tiny_model, tiny_model

from syncdiff_data.avhubert import AVHubertEncoder
from syncdiff_data.avhubert.convert import convert_checkpoint
from syncdiff_data.loader.sync import SyncFilter
from syncdiff_data.records import UserError
from syncdiff_data.shards import Store, load_dataset
from syncdiff_data.shards.inspect import summarise
from syncdiff_data.shards.schema import features_schema
from syncdiff_data.sync_expert.expert import SyncExpert, save_network
from syncdiff_data.sync_expert.network import NetworkConfig, SyncNetwork
from syncdiff_model.checkpoint import (
    INDEX,
    list_checkpoints,
    load_autoencoder,
    load_state,
    load_syncdiff,
    prune,
    steps_done,
)
from syncdiff_model.describe import check_networks
from syncdiff_model.device import check_device
from syncdiff_model.dubbing import DubConfig
from syncdiff_model.pipeline import SyncDiffPipeline
from syncdiff_model.presets import Settings, load_preset, settings_from
from syncdiff_model.rollout import SamplingConfig, advance, start_rollout
from syncdiff_model.runs import RunOptions, SyncTrainingData, start_run, train_sync
from syncdiff_model.sync_data import SyncBatches, SyncDataConfig
from syncdiff_model.tasks.audio import Origin, check_origin
from syncdiff_model.training import STATE

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: SamplingConfig(guidance=NAN), "guidance"),
        (lambda: SamplingConfig(guidance=INF), "guidance"),
        (lambda: SamplingConfig(seed=10**400), "seed"),
        (lambda: DubConfig(sharpen=NAN), "sharpen"),
        (lambda: DubConfig(max_roll=INF), "max_roll"),
        (lambda: DubConfig(face="²"), "the number of a track"),
        (lambda: DubConfig(face="9" * 5000), "the number of a track"),
        (lambda: SyncFilter("", min_confidence=NAN), "min_confidence"),
        (lambda: SyncFilter("", max_offset=-1), "max_offset"),
        (lambda: NetworkConfig(widths=(8, 8, 8, 12)), "multiples of 8"),
        (
            lambda: synthesize.main(synthesize.Options(model="m", out=Path("o"), pair_timeout=INF)),
            "pair_timeout",
        ),
        (lambda: train.parse(["--loss.pixel", "nan"]), "pixel"),
        (lambda: train.parse(["--train-gan.batch-size", "1000000000"]), "batch_size"),
        (lambda: check_device("cuda:99"), "--device cuda:99 cannot be used here"),
        (lambda: train.parse(["--train-syncdiff.steps", "100000000"]), "steps"),
        (lambda: train.parse(["--mask.left", "0.9", "--mask.right", "0.1"]), "mask is empty"),
        (lambda: settings_from({"denoiser": {"layers": 10**9}}), "layers is 1000000000: expected 1 to"),
        (lambda: settings_from({"diffusion": {"train_steps": 10**8}}), "train_steps"),
        (lambda: settings_from({"corruption": {"audio_dropout": 2}}), "audio_dropout"),
        (lambda: settings_from({"sync_data": {"held_out": 0}}), "held_out"),
        (lambda: check_networks(settings_from({"autoencoder": {"groups": 7}})), "no networks that fit"),
        (lambda: check_networks(settings_from({"denoiser": {"attention": [True]}})), "no networks that fit"),
        (
            lambda: train_sync(SyncTrainingData((Path("c"),), (NAN,)), Settings(), RunOptions(Path("o"))),
            "weights",
        ),
        (
            lambda: train_sync(SyncTrainingData((Path("c"),), (0,)), Settings(), RunOptions(Path("o"))),
            "weight is 0",
        ),
    ],
)
def test_options_of_models_outside_their_range_are_a_sentence(make: Callable[[], object], name: str) -> None:
    with pytest.raises(UserError, match=name):
        make()


def test_networks_too_large_for_any_memory_are_checked_without_it() -> None:
    check_networks(settings_from({"denoiser": {"widths": [65536] * 2, "attention": [False, True]}}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gan: {widths: []}", "widths is empty"),
        ("mask: {top: null}", "mask.top: Input should be a valid number, found None"),
        ("1: 2\nfoo: 3", "unknown 1, foo; there are mask, "),
        ("gan: {sync: 0.1}\nmask: {top: 0.4}\ngan: {}", "the key 'gan' is there twice"),
        ("mask:\n  {top: 0.1, top: 0.2}", "the key 'top' is there twice"),
        ("gan: !!map [1]", "expected a mapping node"),
    ],
)
def test_a_preset_of_odd_values_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"mine\.yaml is not a preset: (.|\n)*{re.escape(said)}"):
        load_preset(str(path))
    path.write_text("mask: {<<: {top: 0.2}, top: 0.4}")
    assert load_preset(str(path)).mask.top == 0.4


def test_what_is_no_checkpoint_is_none_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for name in ("step-zzzzzzzz", "step-0000000٣", "step-00000001", "step-00000003", "step-000000004"):
        (folder / name).mkdir(parents=True)
    (folder / "step-00000009").touch()
    (tmp_path / "elsewhere").mkdir()
    (folder / "step-00000002").symlink_to(tmp_path / "elsewhere")
    assert [path.name[-1] for path in list_checkpoints(tmp_path)] == ["1", "2", "3"]
    assert steps_done(tmp_path) == 3
    prune(tmp_path, 1)
    assert [path.name[-1] for path in list_checkpoints(tmp_path)] == ["3"]
    assert (tmp_path / "elsewhere").is_dir(), "a link is removed, not what it leads to"
    assert len(list(folder.iterdir())) == 5


@pytest.mark.parametrize(
    ("columns", "values", "shown"),
    [
        ({"sync_offset": pa.string(), "sync_confidence": pa.float32()}, ("a", 0.5), None),
        ({"sync_offset": pa.int32()}, (3,), None),
        ({"sync_offset": 4, "sync_confidence": 4}, ([], []), None),
        ({"sync_offset": pa.int32(), "sync_confidence": pa.float32()}, (3, None), {}),
        ({"sync_offset": pa.int32(), "sync_confidence": pa.float32()}, (3, NAN), {}),
        ({"sync_offset": pa.int32(), "sync_confidence": pa.float32()}, (2**31 - 1, 1.0), {}),
        ({"sync_offset": pa.int32(), "sync_confidence": pa.float32()}, (-3, INF), {"clip0000": -3}),
    ],
)
def test_odd_offsets_are_shown_and_leave_a_clip_out(
    tmp_path: Path, columns: dict, values: tuple, shown: dict[str, int] | None
) -> None:
    """None: no data set of offsets."""
    schema = features_schema(columns)
    row = pa.Table.from_pylist([dict(zip(schema.names, ("clip0000", *values)))], schema)
    folder = write_dataset(tmp_path / "sync", "features", [[row]], schema)
    path = tmp_path / "sync" / "dataset.json"
    path.write_text(path.read_text().replace('"counts": {}', '"counts": {"clips": 1, "frames": 5}'))
    console = Console(width=120, record=True)
    summarise(folder, console)
    assert "sync_offset" in console.export_text()
    clips = replace(load_dataset(Store(folder)), kind="clips", fingerprint="clips")
    if shown is None:
        with pytest.raises(UserError, match="expected sync_offset and sync_confidence"):
            SyncFilter(folder).shifts(clips)
    else:
        assert SyncFilter(folder).shifts(clips) == shown


WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("out", ["x" * 300 + ".mp4", "a\0b/c.mp4", "file.mp4/x.mp4", "/proc/x.mp4"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, out: str) -> None:
    (tmp_path / "file.mp4").touch()
    with pytest.raises(UserError, match="cannot be written"):
        synthesize.dub_one(synthesize.Options(model="m", out=tmp_path / out), tmp_path, tmp_path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "good")


def changed(saved: Path, folder: Path, change: Callable[[Path], object]) -> Path:
    """A copy of a model with other files, whose index has their hashes."""
    shutil.copytree(saved, folder)
    change(folder)
    index = json.loads((folder / INDEX).read_text())
    index["sha256"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in index["sha256"]
    }
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def rewrite(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("part", "key", "value", "sentence"),
    [
        ("denoiser", "layers_per_block", 10**9, "a larger network than its weights, 212 tensors"),
        ("denoiser", "block_out_channels", [2**16] * 2, "a larger network than its weights"),
        ("denoiser", "in_channels", 10**12, "a larger network than its weights"),
        (
            "denoiser",
            "block_out_channels",
            16,
            r"config\.json: block_out_channels: .* a valid list, found 16",
        ),
        ("denoiser", "sample_size", 16, "is damaged"),
        ("denoiser", "class_embed_type", None, "its weights are not those of its config"),
        ("conditioner", "mask", None, r"config\.json: mask: .*, found None"),
        ("conditioner", "mask", {"top": 5}, "top is 5.0: expected 0 to 1"),
        ("conditioner", "mask", {"top": 0.99}, "its mask covers no latent"),
        ("conditioner", "encoder", ["logfbank"], "encoder: Input should be a valid string"),
        ("conditioner", "faces", {"detect_every": -1}, "detect_every is -1"),
        ("conditioner", "crop_size", 10**9, "crop_size: .* less than or equal to 4096, found 1000000000"),
        ("conditioner", "crop_size", 128, "is damaged"),
        ("conditioner", "audio_layers", 10**9, "a larger network than its weights"),
        ("conditioner", "map_shape", [10**9] * 3, r"map_shape\.0: "),
        ("conditioner", "pose", "sideways", "pose: Input should be 'none', 'masked', 'bottleneck' or 'full'"),
        ("conditioner", "feature", "x", "its encoder logfbank gives {'logfbank': 104}"),
        ("autoencoder", "patch", 10**9, "patch: "),
        ("autoencoder", "scaling_factor", NAN, "scaling_factor: Input should be a finite number"),
        ("scheduler", "num_train_timesteps", 10**8, r"num_train_timesteps: .* 100000, found 100000000"),
        ("scheduler", "beta_end", 5, "no 1000 noise levels between 0 and 1"),
        ("scheduler", "trained_betas", [0.1], "no 1000 noise levels"),
    ],
)
def test_a_config_that_fits_its_hash_and_asks_for_what_cannot_be_is_a_sentence(
    saved: Path, tmp_path: Path, part: str, key: str, value: object, sentence: str
) -> None:
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    folder = changed(saved, tmp_path / "m", lambda folder: rewrite(folder / part / name, **{key: value}))
    with pytest.raises(UserError, match=sentence):
        SyncDiffPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda value: value * NAN, "are not finite"),
        (lambda value: value.to(torch.int8), "as I8: expected one of"),
        (lambda value: value.bfloat16(), None),
        (lambda value: None, "in one of them alone"),
    ],
)
def test_weights_of_other_kinds(
    saved: Path, tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor | None], sentence: str | None
) -> None:
    def rewrite_weights(folder: Path) -> None:
        path = folder / "conditioner" / WEIGHTS
        tensors = load_file(path)
        value = change(tensors.pop("mouth.1.bias"))
        save_file(tensors if value is None else tensors | {"mouth.1.bias": value}, path)

    folder = changed(saved, tmp_path / "m", rewrite_weights)
    if sentence is None:
        assert next(load_syncdiff(folder).conditioner.parameters()).dtype == torch.float32
    else:
        with pytest.raises(UserError, match=sentence):
            load_syncdiff(folder)


def test_an_index_that_does_not_name_a_parts_files_is_not_whole(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "m")
    rewrite(tmp_path / "m" / INDEX, sha256={})
    with pytest.raises(UserError, match="does not name the files of autoencoder"):
        load_syncdiff(tmp_path / "m")


def test_an_autoencoder_that_enlarges_is_refused(tmp_path: Path) -> None:
    one = (8, 8)
    AutoencoderTiny(
        encoder_block_out_channels=one,
        decoder_block_out_channels=one,
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).save_pretrained(tmp_path)
    assert load_autoencoder(tmp_path).config.latent_channels == 4
    rewrite(tmp_path / "config.json", upsampling_scaling_factor=10**6)
    with pytest.raises(UserError, match="it makes images of shape"):
        load_autoencoder(tmp_path)


def test_a_model_whose_values_overflow_makes_no_picture() -> None:
    model = tiny_model()
    model.conditioner.feature_std.zero_()
    crop = np.zeros((1, 64, 64, 3), np.uint8)
    rollout = start_rollout(model, crop[0], np.zeros((3, 104), np.float32))
    with pytest.raises(UserError, match="values that are not finite"):
        advance(model, [rollout], [crop], [np.zeros(1)], SamplingConfig(steps=1))


def test_an_expert_and_an_encoder_larger_than_their_weights_are_refused(tmp_path: Path) -> None:
    save_network(SyncNetwork(NetworkConfig(8, (8, 8, 8, 8), False, 8, 8)), tmp_path / "expert")
    config = {"dim": 8, "widths": [2**16] * 4, "landmarks": False, "landmark_width": 8, "audio_width": 8}
    rewrite(tmp_path / "expert" / "config.json", network=config)
    with pytest.raises(UserError, match="a larger network than its weights"):
        SyncExpert.from_pretrained(tmp_path / "expert")
    convert_checkpoint(write_tiny_checkpoint(tmp_path / "a.pt"), tmp_path / "avhubert")
    path = tmp_path / "avhubert" / "config.json"
    for layers, said in ((10**9, "a larger network than its weights"), ("3", "does not fit")):
        rewrite(path, encoder=json.loads(path.read_text())["encoder"] | {"layers": layers})
        with pytest.raises(UserError, match=said):
            AVHubertEncoder.from_checkpoint(tmp_path / "avhubert")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run of one step."""
    run = tmp_path_factory.mktemp("run")
    trainer(run, replace(training.TRAIN, steps=1)).run()
    return run / "checkpoints" / "step-00000001"


def each_tensor(state: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if torch.is_tensor(state):
        return change(state) if state.dim() else state
    if isinstance(state, dict):
        return {name: each_tensor(value, change) for name, value in state.items()}
    return [each_tensor(value, change) for value in state] if isinstance(state, list) else state


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s | {"ema": each_tensor(s["ema"], lambda t: t * NAN)}, "values that are not finite"),
        (lambda s: each_tensor(s, lambda t: t.half()), "what belongs to it torch.float16"),
        (lambda s: s | {"optimizers": each_tensor(s["optimizers"], lambda t: t[:0])}, "what belongs to it"),
        (lambda s: s | {"ema": s["ema"] | {"shadow_params": []}}, "is not the state"),
        (lambda s: s | {"step": 10**12}, "it is of step 1000000000000"),
        (lambda s: s | {"step": INF}, "is not the state"),
        (lambda s: s | {"loader": 5}, "is not the state"),
    ],
)
def test_a_state_of_another_training_is_a_sentence(
    trained: Path, tmp_path: Path, change: Callable[[dict], dict], said: str
) -> None:
    checkpoint = tmp_path / trained.name
    checkpoint.mkdir()
    state = load_state(trained / STATE)
    torch.save(change(state), checkpoint / STATE)
    with pytest.raises(UserError, match=said):
        trainer(tmp_path, training.TRAIN).resume(checkpoint)


def test_options_of_an_optimizer_are_the_runs_own(trained: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / trained.name
    checkpoint.mkdir()
    state = load_state(trained / STATE)
    state["optimizers"]["all"]["param_groups"][0] |= {"betas": (5,), "weight_decay": NAN, "rate": "x"}
    torch.save(state, checkpoint / STATE)
    resumed = trainer(tmp_path, training.TRAIN)
    resumed.resume(checkpoint)
    (group,) = resumed.optimizers["all"].param_groups
    assert (group["betas"], group["weight_decay"], group["rate"]) == ((0.9, 0.99), 0.0, 1.0)


def test_a_sample_count_that_counts_nothing_is_no_state() -> None:
    with pytest.raises(ValueError, match="it counts -5 batches"):
        SyncBatches([], [], SyncDataConfig()).load_state_dict({"number": -5})


def test_a_run_goes_on_with_the_data_it_began_with() -> None:
    config = tiny_model().conditioner.config
    origin = Origin({"encoder": "logfbank", "checkpoint": config.checkpoint}, "logfbank", {}, 64, 104)
    conditioner = tiny_model().conditioner
    check_origin(conditioner, origin.of_sound, "")
    with pytest.raises(UserError, match="whose encoder is logfbank, not mel: begin anew"):
        check_origin(conditioner, replace(origin, encoder={"encoder": "mel"}).of_sound, "begin anew")
    with pytest.raises(UserError, match="whose crop_size is 64, not 128"):
        check_origin(conditioner, {"crop_size": 128}, "begin anew")


def test_what_stands_where_a_run_writes_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").touch()
    with pytest.raises(UserError, match="tensorboard could not be written"):
        trainer(tmp_path, training.TRAIN).run()
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(UserError, match="it describes no run"):
        start_run(tmp_path, "gan", Settings(), resume=True)
