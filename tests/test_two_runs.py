"""A second command in a folder where one is writing: refused by all five, before any work and before Ray is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from runs import pipeline
from stub_faces import CONFIG, write_colour

from syncdiff_data.records import UserError
from syncdiff_data.stage import exclusive

Data = tuple[str, str]


def preprocess(data: Data, root: Path) -> None:
    module = pipeline("preprocess")
    module.main(module.Options(source="folder", root=root / "videos", out=str(root / "out"), clips=CONFIG))


def extract_features(data: Data, root: Path) -> None:
    module = pipeline("extract_features")
    module.main(module.Options(data[0], "logfbank", str(root / "out")))


def train(data: Data, root: Path) -> None:
    module = pipeline("train")
    module.main(module.Options(model="autoencoder", clips=(Path(data[0]),), out=root / "out", resume=True))


def synthesize(data: Data, root: Path) -> None:
    (root / "pairs.csv").write_text("video,audio,output\nvideos/a.mp4,videos/a.mp4,a.mp4\n")
    module = pipeline("synthesize")
    module.main(module.Options(model="wav2lip", pairs=root / "pairs.csv", out=root / "out"))


def benchmark(data: Data, root: Path) -> None:
    module = pipeline("benchmark")
    module.main(module.Options(reference=root / "videos", out=root / "out", method=(f"m={root / 'videos'}",)))


@pytest.mark.parametrize("command", [preprocess, extract_features, train, synthesize, benchmark])
def test_a_second_command_is_refused(
    command: Callable[[Data, Path], None],
    dataset: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_colour(tmp_path / "videos" / "a.mp4", "face")
    monkeypatch.setattr("ray.is_initialized", lambda: True)  # no command here comes so far as to use one
    with exclusive(tmp_path / "out"), pytest.raises(UserError, match="is being written by another command"):
        command(dataset, tmp_path)
    assert list((tmp_path / "out").iterdir()) == []
