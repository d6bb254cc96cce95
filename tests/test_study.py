"""The study: which runs and rows there are, what resumes, and what its claims are decided by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from syncdiff_pipelines import study

from syncdiff_data.records import UserError
from syncdiff_eval.methods import read_methods

OPTIONS = study.Options(Path("videos.csv"), Path("clips"), Path("features"), Path("out"), share=0.01)


def test_main_rows_have_every_seed_and_the_others_one() -> None:
    names = [training.name for training in study.list_trainings(OPTIONS, Path("out"))]
    assert names[:3] == ["syncdiff-seed0", "gan-seed0", "regression-seed0"]
    assert sorted(names) == sorted(
        [f"{row}-seed{seed}" for row in ("syncdiff", "gan", "regression") for seed in (0, 1)]
        + ["bottleneck", "full", "sync"]
    )


def test_every_run_has_the_share_of_its_steps_and_what_its_row_changes() -> None:
    runs = {training.name: training for training in study.list_trainings(OPTIONS, Path("out"))}
    whole = study.load_preset("compact")
    assert runs["gan-seed1"].settings.train_gan.steps == round(whole.train_gan.steps * 0.01)
    assert runs["gan-seed1"].settings.train_gan.seed == 1
    assert runs["bottleneck"].settings.conditioning.pose == "bottleneck"
    assert runs["bottleneck"].settings.corruption.pose_source == "true"
    assert runs["regression-seed0"].settings.gan.adversarial == 0
    assert runs["sync"].settings.loss.sync > 0
    same = replace(runs["syncdiff-seed0"].settings, train_syncdiff=whole.train_syncdiff)
    assert same == whole
    with pytest.raises(UserError, match="leaves 0 of"):
        study.list_trainings(replace(OPTIONS, share=1e-6), Path("out"))


def test_rows_are_named_by_steps_and_seed() -> None:
    rows = [name for name, _, _ in study.dub_rows(study.list_trainings(OPTIONS, Path("out")))]
    assert {"syncdiff-1-seed0", "syncdiff-25-seed1", "gan-seed0", "bottleneck-4", "full-4", "sync-4"} <= set(
        rows
    )
    assert len(rows) == len(set(rows))


def test_the_report_knows_which_rows_are_a_gan_and_which_diffusion(tmp_path: Path) -> None:
    trainings = study.list_trainings(OPTIONS, tmp_path)
    for name, _, _ in study.dub_rows(trainings):
        (tmp_path / "dubs" / "own" / name).mkdir(parents=True)
    path = study.write_methods(tmp_path, "own", trainings)
    types = {method.name: str(method.type) for method in read_methods((), path)}
    assert types["syncdiff-25-seed1"] == types["full-4"] == types["sync-4"] == "diffusion"
    assert types["gan-seed0"] == "gan"
    assert types["regression-seed1"] == "other"


def test_a_training_is_done_when_its_last_checkpoint_is_there(tmp_path: Path) -> None:
    training = study.list_trainings(OPTIONS, tmp_path)[0]
    assert not study.training_done(training)
    for step in (100, training.settings.train_syncdiff.steps):
        (training.run / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
        assert study.training_done(training) == (step != 100)


def test_claims_are_decided_by_intervals(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    level = {
        "syncdiff-4-seed0": 0.80,
        "syncdiff-4-seed1": 0.82,
        "gan-seed0": 0.70,
        "gan-seed1": 0.72,
        "full-4": 0.6,
    }
    rows = [
        {"method": method, "clip": f"c{clip}", "opening_corr": value + 0.02 * rng.standard_normal()}
        for method, value in (level | {"bottleneck-4": 0.81}).items()
        for clip in range(30)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    text = study.claims(tmp_path / "rows.parquet", "own", 2)
    (sync,) = [line for line in text.splitlines() if "in better sync than a GAN" in line]
    assert "+0.1" in sync
    assert sync.endswith("confirmed |")
    (opened,) = [line for line in text.splitlines() if "open pose" in line]
    assert opened.endswith("denied |")
    (paper,) = [line for line in text.splitlines() if "bottlenecked" in line]
    assert paper.endswith("undecided |")
    assert "ssim" not in text, "a column that nobody scored decides nothing"


def test_a_data_set_without_a_split_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "read_clips", lambda clips, split: iter(["clip"] if split == "train" else []))
    with pytest.raises(UserError, match="no clip of the split validation"):
        study.check_splits(tmp_path)


def test_every_video_is_listed_with_its_own_and_with_the_next_sound(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.mpg" for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode())
    tables = study.write_pairs(tmp_path / "real", paths, tmp_path)
    assert tables["own"].read_text().splitlines()[1] == "a.mpg,a.mpg,a.mp4"
    assert [line.split(",")[1] for line in tables["foreign"].read_text().splitlines()[1:]] == [
        "b.mpg", "c.mpg", "a.mpg",
    ]  # fmt: skip
    assert (tmp_path / "real" / "b.mpg").read_bytes() == b"b.mpg"


def test_videos_of_one_name_in_two_folders_stay_two(tmp_path: Path) -> None:
    paths = [tmp_path / speaker / "00001.mp4" for speaker in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(path.parent.name.encode())
    tables = study.write_pairs(tmp_path / "real", paths, tmp_path)
    assert tables["own"].read_text().splitlines()[1:] == [
        f"{n}_00001.mp4,{n}_00001.mp4,{n}_00001.mp4" for n in ("one", "two")
    ]
    assert (tmp_path / "real" / "two_00001.mp4").read_bytes() == b"two"


def test_videos_that_cannot_be_copied_are_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.mp4, which --videos lists, does not exist"):
        study.write_pairs(tmp_path / "real", [tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path)
    assert not list((tmp_path / "real").iterdir())
    with pytest.raises(UserError, match="Two videos of the split test are called a"):
        study.write_pairs(tmp_path / "real", [tmp_path / "a.mp4", tmp_path / "a.mpg"], tmp_path)
