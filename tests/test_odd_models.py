"""Settings, runs and models that ask for what cannot be: one sentence before memory or time is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from loader_data import write_dataset
from rich.console import Console
from syncdiff_pipelines import synthesize, train

from syncdiff_data.loader.sync import SyncFilter
from syncdiff_data.records import UserError
from syncdiff_data.shards import Store, load_dataset
from syncdiff_data.shards.inspect import summarise
from syncdiff_data.shards.schema import features_schema
from syncdiff_data.sync_expert.network import NetworkConfig
from syncdiff_model.checkpoint import list_checkpoints, prune, steps_done
from syncdiff_model.describe import check_networks
from syncdiff_model.dubbing import DubConfig
from syncdiff_model.presets import Settings, load_preset, settings_from
from syncdiff_model.rollout import SamplingConfig
from syncdiff_model.runs import RunOptions, SyncTrainingData, train_sync

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
    check_networks(settings_from({"denoiser": {"widths": [65536] * 3}}))


def test_a_preset_outside_its_ranges_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("gan: {widths: []}")
    with pytest.raises(UserError, match=r"mine\.yaml is not a preset: widths is empty"):
        load_preset(str(path))


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
