"""The worked examples of CONTRIBUTING.md, applied literally."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from runs import ROOT

from syncdiff_data.demo import talker_clip
from syncdiff_data.media import write_video
from syncdiff_data.shards import read_clips, read_features
from syncdiff_eval.results import read_results

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"```\w+ file=(\S+)\n(.*?)```", TEXT, re.DOTALL))
COMMANDS = [
    line for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the files of the examples, a talker as CREMA-D would have it, and the outputs of a method."""
    here = tmp_path_factory.mktemp("contributing")
    for name in ("pipelines", "syncdiff_data", "syncdiff_eval", "syncdiff_model"):
        (here / name).symlink_to(ROOT / name)
    for name, content in FILES.items():
        (here / name).write_text(content)
    frames, audio, _ = talker_clip(1, num_frames=30)
    for path in ("CREMA-D/VideoFlash/1001_DFA_ANG_XX.mkv", "real/a.mp4"):
        (here / path).parent.mkdir(parents=True)
        write_video(here / "one.mp4", frames, audio)
        shutil.copy(here / "one.mp4", here / path)
    (here / "my-gan").mkdir()
    write_video(here / "my-gan" / "a.mp4", [255 - (255 - frame) // 2 for frame in frames], audio)
    return here


def run(folder: Path, name: str) -> None:
    """The one command of CONTRIBUTING.md that starts that pipeline."""
    (command,) = [line for line in COMMANDS if f"pipelines/{name}.py" in line]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_example_has_its_file_and_its_command() -> None:
    assert sorted(FILES) == ["colour.py", "crema.py", "loudness.py", "mine.yaml"]
    assert len(COMMANDS) == 3


def test_a_source_and_an_encoder(folder: Path) -> None:
    run(folder, "preprocess")
    (clip,) = read_clips(folder / "clips")
    assert clip.speaker == "1001"
    run(folder, "extract_features")
    ((clip_id, columns),) = read_features(folder / "features")
    assert clip_id == clip.clip_id
    assert columns["loudness"].shape == (clip.num_frames, 1)


def test_a_metric_and_a_method(folder: Path) -> None:
    run(folder, "benchmark")
    results = read_results(folder / "report")
    (added,) = [metric for metric in results.metrics if not metric.in_protocol]
    assert (added.name, added.group) == ("colour_mouth", "Picture")
    (method,) = [row for row in results.methods if row.name == "my-gan"]
    assert method.type == "gan"
    table = pd.read_parquet(folder / "report" / "per_clip.parquet").set_index("method")
    assert 20 < table.loc["my-gan", "colour_mouth"] < 221, "every channel is half way to white"
    assert "Added metrics" in (folder / "report" / "index.html").read_text()


def test_the_map_names_what_is_there() -> None:
    """Every file and folder of the table exists, below the room that its row stands in."""
    room = ROOT
    for line in TEXT.splitlines():
        if match := re.match(r"\| \*\*`(\w+)/`\*\*", line):
            room = ROOT / match[1]
        elif line.startswith("| `"):
            for name in re.findall(r"`([\w./]+(?:\.py|/))`", line.split("|")[1]):
                assert (room / name).exists() or (ROOT / name).exists(), f"{name} in {room.name}"
