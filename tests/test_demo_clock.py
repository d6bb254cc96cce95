"""What the demo says of trainings that its clock ended."""

from __future__ import annotations

from pathlib import Path

from syncdiff_pipelines import demo

from syncdiff_model.presets import load_preset

SETTINGS = load_preset("demo")


def checkpoints(out: Path, autoencoder: int, syncdiff: int, gan: int) -> dict[str, Path]:
    runs = {"syncdiff": out / "run", "gan": out / "gan"}
    for folder, step in (
        (runs["syncdiff"] / "autoencoder", autoencoder),
        (runs["syncdiff"], syncdiff),
        (runs["gan"], gan),
    ):
        (folder / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    return runs


def test_whole_trainings_need_no_word(tmp_path: Path) -> None:
    whole = (SETTINGS.train_autoencoder.steps, SETTINGS.train_syncdiff.steps, SETTINGS.train_gan.steps)
    assert demo.cut_short(SETTINGS, checkpoints(tmp_path, *whole)) == []


def test_a_training_that_the_clock_ended_is_named_with_its_steps(tmp_path: Path) -> None:
    runs = checkpoints(tmp_path, SETTINGS.train_autoencoder.steps, 36, SETTINGS.train_gan.steps)
    (sentence,) = demo.cut_short(SETTINGS, runs)
    assert f"training of syncdiff at step 36 of {SETTINGS.train_syncdiff.steps}" in sentence
    assert str(runs["syncdiff"]) in sentence
