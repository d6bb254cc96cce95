"""Lists of dubs on Ray: every pair has its row, whatever becomes of it, and equal bytes however it was made."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
from runs import command, pipeline
from stub_faces import CONFIG, write_colour
from tiny_models import save_tiny_model

from syncdiff_data.cli import RayOptions
from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_data.stage import UnexpectedFailures
from syncdiff_model import dub_lists
from syncdiff_model.dub_lists import DubStage
from syncdiff_model.dub_pairs import REPORT
from syncdiff_model.dubbing import DubConfig, DubPair
from syncdiff_model.rollout import SamplingConfig

DUB = DubConfig(SamplingConfig(steps=1), backend=CONFIG.faces.backend, min_face_px=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video per colour; the sound of each is another tone."""
    folder = tmp_path_factory.mktemp("media")
    for number, what in enumerate(("face", "no_face", "crash", "bug")):
        write_colour(folder / f"{what}.mp4", what, 12 + number)
    write_colour(folder / "longer.mp4", "face", 25)
    return folder


def synthesize(model: Path, media: Path, out: Path, videos: list[str], **options: object) -> None:
    """pipelines/synthesize.py on a list: each video with the sound of longer.mp4, outputs 0.mp4, 1.mp4, ..."""
    table = out.with_suffix(".csv")
    rows = [f"{media / video},{media / 'longer.mp4'},{i}.mp4" for i, video in enumerate(videos)]
    table.write_text("\n".join(["video,audio,output", *rows]) + "\n")
    module = pipeline("synthesize")
    defaults = {"config": DUB, "ray": RayOptions(workers=2)}
    module.main(module.Options(model=str(model), out=out, pairs=table, **{**defaults, **options}))


def report(out: Path) -> list[tuple[str, str, str]]:
    with (out / REPORT).open(newline="") as file:
        return [(row["output"], row["status"], row["reason"]) for row in csv.DictReader(file)]


def dubs(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.mp4"))}


def test_every_pair_has_a_row_and_the_next_run_tries_the_failed_ones_again(
    model: Path, media: Path, tmp_path: Path, ray_session: None
) -> None:
    """Kinds 1, 3, 14: no face, no such file, a bug."""
    out = tmp_path / "dubs"
    videos = ["face.mp4", "no_face.mp4", "missing.mp4", "bug.mp4", "longer.mp4"]
    with pytest.raises(UnexpectedFailures, match="1 of 5 pairs"):
        synthesize(model, media, out, videos)
    first = report(out)
    assert first == [
        ("0.mp4", "ok", ""),
        ("1.mp4", "failed", Reason.NO_FACE),
        ("2.mp4", "failed", Reason.MISSING_INPUT),
        ("3.mp4", "failed", Reason.UNEXPECTED_ERROR),
        ("4.mp4", "ok", ""),
    ]
    assert "ZeroDivisionError" in (out / REPORT).read_text()
    assert list(dubs(out)) == ["0.mp4", "4.mp4"]
    made = {path: path.stat().st_mtime_ns for path in out.glob("*.mp4")}
    write_colour(media / "missing.mp4", "face")
    try:
        with pytest.raises(UnexpectedFailures):
            synthesize(model, media, out, videos)
    finally:
        (media / "missing.mp4").unlink()
    assert report(out)[2] == ("2.mp4", "ok", "")
    assert [row for i, row in enumerate(report(out)) if i != 2] == [
        row for i, row in enumerate(first) if i != 2
    ]
    assert all(path.stat().st_mtime_ns == time for path, time in made.items()), "what was made is kept"


@pytest.mark.slow
def test_kind_1_a_pair_that_kills_its_worker_is_a_row(
    model: Path, media: Path, tmp_path: Path, ray_session: None
) -> None:
    with pytest.raises(UserError, match="1 of 2 pairs"):
        synthesize(model, media, tmp_path / "dubs", ["crash.mp4", "face.mp4"])
    assert report(tmp_path / "dubs") == [
        ("0.mp4", "failed", Reason.WORKER_CRASHED),
        ("1.mp4", "ok", ""),
    ]


def test_equal_bytes_with_one_worker_two_workers_and_after_an_interruption(
    model: Path, media: Path, tmp_path: Path, ray_session: None
) -> None:
    videos = ["face.mp4", "longer.mp4", "face.mp4"]
    synthesize(model, media, tmp_path / "one", videos, ray=RayOptions(workers=1))
    synthesize(model, media, tmp_path / "two", videos)
    assert dubs(tmp_path / "one") == dubs(tmp_path / "two")
    assert len(dubs(tmp_path / "two")) == 3
    (tmp_path / "two" / "1.mp4").unlink()
    (tmp_path / "two" / REPORT).unlink()
    synthesize(model, media, tmp_path / "two", videos)
    assert dubs(tmp_path / "one") == dubs(tmp_path / "two")
    assert [status for _, status, _ in report(tmp_path / "two")] == ["ok"] * 3


def test_dubs_of_another_model_are_refused_and_replaced_when_asked(
    model: Path, media: Path, tmp_path: Path, ray_session: None
) -> None:
    out, other = tmp_path / "dubs", save_tiny_model(tmp_path / "other", seed=1)
    synthesize(model, media, out, ["face.mp4"])
    before = dubs(out)
    with pytest.raises(UserError, match="another model"):
        synthesize(other, media, out, ["face.mp4"])
    assert dubs(out) == before
    synthesize(other, media, out, ["face.mp4"], overwrite=True)
    assert dubs(out) != before


def test_a_video_replaced_under_its_name_is_noticed_and_only_its_dub_made_anew(
    model: Path, media: Path, tmp_path: Path, ray_session: None
) -> None:
    out = tmp_path / "dubs"
    for name, source in (("a.mp4", "face.mp4"), ("b.mp4", "face.mp4"), ("longer.mp4", "longer.mp4")):
        shutil.copy(media / source, tmp_path / name)
    synthesize(model, tmp_path, out, ["a.mp4", "b.mp4"])
    before, times = dubs(out), {path: path.stat().st_mtime_ns for path in out.glob("*.mp4")}
    shutil.copy(media / "longer.mp4", tmp_path / "b.mp4")
    with pytest.raises(UserError, match=r"the sound of .*1\.mp4 has changed since \(1 such dubs\)"):
        synthesize(model, tmp_path, out, ["a.mp4", "b.mp4"])
    assert dubs(out) == before
    synthesize(model, tmp_path, out, ["a.mp4", "b.mp4"], overwrite=True)
    assert dubs(out)["0.mp4"] == before["0.mp4"]
    assert dubs(out)["1.mp4"] != before["1.mp4"]
    assert (out / "0.mp4").stat().st_mtime_ns == times[out / "0.mp4"]


def test_a_list_none_of_whose_files_exist_stops_with_a_sentence(
    model: Path, media: Path, tmp_path: Path, ray_session: None
) -> None:
    with pytest.raises(
        UserError, match=r"none of the 2 pairs has both of its files: .*a\.mp4 does not exist"
    ):
        synthesize(model, media, tmp_path / "dubs", ["a.mp4", "b.mp4"])


def test_nothing_is_removed_for_a_list_that_cannot_be_dubbed(
    model: Path, media: Path, tmp_path: Path, ray_session: None
) -> None:
    out = tmp_path / "dubs"
    synthesize(model, media, out, ["face.mp4"])
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(UserError, match="none of the 1 pairs"):
        synthesize(model, media, out, ["nothing.mp4"], overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    (out / "dubs.json").write_text("{")
    with pytest.raises(UserError, match=r"dubs\.json is damaged"):
        synthesize(model, media, out, ["face.mp4"], overwrite=True)


def test_a_video_among_the_dubs_that_would_be_replaced_stays(
    model: Path, media: Path, tmp_path: Path, ray_session: None
) -> None:
    out = tmp_path / "dubs"
    out.mkdir()
    shutil.copy(media / "face.mp4", out / "old.mp4")
    (out / "dubs.json").write_text('{"pairs": [["a.mp4", "b.wav", "old.mp4"]]}')
    with pytest.raises(UserError, match=r"old\.mp4 is read, and a dub would take its place"):
        synthesize(model, media, out, [str(out / "old.mp4")], overwrite=True)
    assert (out / "old.mp4").read_bytes() == (media / "face.mp4").read_bytes()


def test_a_run_in_training_gives_all_pairs_one_checkpoint(model: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Workers start later than the list, and must not load a newer checkpoint of the run."""
    run = tmp_path / "run"
    shutil.copytree(model, run / "checkpoints" / "step-00000001")
    seen: list[str] = []

    def stage(stage: DubStage, plans: object, options: object) -> list[object]:
        shutil.copytree(model, run / "checkpoints" / "step-00000002")
        seen.append(stage.model)
        return [{"reason": ""}]

    monkeypatch.setattr(dub_lists, "run_stage", stage)
    monkeypatch.setattr(dub_lists, "probe_nodes", lambda *_: None)
    for name in ("a.mp4", "b.wav"):
        (tmp_path / name).touch()
    pair = DubPair(tmp_path / "a.mp4", tmp_path / "b.wav", tmp_path / "out" / "c.mp4")
    dub_lists.dub_list(dub_lists.DubList(str(run), [pair], tmp_path / "out", RayOptions(), DUB))
    assert seen == [str(run / "checkpoints" / "step-00000001")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_that_cannot_be_written_is_a_sentence(
    model: Path, media: Path, tmp_path: Path, ray_session: None
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UserError, match="locked"):
        synthesize(model, media, tmp_path / "locked" / "dubs", ["face.mp4"])


def test_one_video_is_dubbed_without_ray_and_a_mistyped_sound_is_named(
    model: Path, media: Path, tmp_path: Path
) -> None:
    arguments = ["--model", model, "--video", media / "face.mp4", "--out", tmp_path / "dub.mp4"]
    wrong = command("synthesize", *arguments, "--audio", media / "typo.wav", RAY_ADDRESS="127.0.0.1:1")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: --audio ")
    assert "typo.wav does not exist" in wrong.stderr
