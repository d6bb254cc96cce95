"""What the demo does and says of trainings that ended before their last step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from syncdiff_pipelines import demo

from syncdiff_model.presets import Settings, load_preset

SETTINGS = load_preset("demo")


def trained(out: Path, **steps: int) -> dict[str, Path]:
    """Runs with a checkpoint at the last step of every training, or at the step given."""
    runs = {"syncdiff": out / "run", "gan": out / "gan"}
    folders = {"autoencoder": out / "run" / "autoencoder", "audio": out / "run" / "audio", **runs}
    for name, folder in folders.items():
        step = steps.get(name, getattr(SETTINGS, f"train_{name}").steps)
        (folder / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    return runs


def test_whole_trainings_need_no_word(tmp_path: Path) -> None:
    assert demo.cut_short(SETTINGS, trained(tmp_path)) == []


@pytest.mark.parametrize("name", ["autoencoder", "audio", "syncdiff", "gan"])
def test_a_training_that_the_clock_ended_is_named_with_its_steps(name: str, tmp_path: Path) -> None:
    (sentence,) = demo.cut_short(SETTINGS, trained(tmp_path, **{name: 36}))
    assert name in sentence
    assert f"at step 36 of {getattr(SETTINGS, f'train_{name}').steps}" in sentence


@pytest.mark.parametrize(("max_seconds", "goes_on"), [(600.0, False), (None, True)])
def test_only_a_training_without_a_clock_goes_on(
    max_seconds: float | None, goes_on: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Settings = replace(SETTINGS, train_gan=replace(SETTINGS.train_gan, max_seconds=max_seconds))
    begun = []
    monkeypatch.setattr(demo.train, "main", begun.append)
    data = demo.Data((tmp_path,), tmp_path, "demo", settings)
    demo.train_once(data, "gan", trained(tmp_path, gan=36)["gan"])
    assert bool(begun) == goes_on
    assert all(options.resume for options in begun)
