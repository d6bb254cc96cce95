"""The wheel, installed into a fresh environment and used from an empty folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import pytest
from runs import ROOT, hear_interrupts


def project_files() -> list[str]:
    """Tracked files and new ones that git does not ignore, relative to the project."""
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True)
    if listed.returncode != 0:
        pytest.skip("needs a git checkout to know which files belong to the project")
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the tracked files, in a copy: setuptools leaves its work beside its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in project_files():
        if not name.startswith(("tests/", "docs/")):
            target = folder / "tree" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", folder, folder / "tree"], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; its dependencies are those of this one, without its editable syncdiff."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, env=clean_environment(folder))
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def clean_environment(environment: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"PATH": f"{environment / 'bin'}:{os.environ['PATH']}"}


def syncdiff(environment: Path, folder: Path, *arguments: str) -> str:
    """Standard output of the installed command, run in that folder."""
    line = [environment / "bin" / "syncdiff", *arguments]
    done = subprocess.run(
        line, cwd=folder, env=clean_environment(environment), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_code_presets_templates_and_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    inside = {Path(name).relative_to(".").as_posix() for name in names}
    rooms = ("syncdiff_data/", "syncdiff_eval/", "syncdiff_model/")
    wanted = {name for name in project_files() if name.startswith(rooms)}
    assert wanted - inside == set()
    assert {f"syncdiff_pipelines/{path.name}" for path in (ROOT / "pipelines").glob("*.py")} <= inside
    foreign = {name.split("/")[0] for name in inside if ".dist-info/" not in name}
    assert foreign == {"syncdiff_data", "syncdiff_eval", "syncdiff_model", "syncdiff_pipelines"}


def test_the_command_teaches_and_knows_its_presets(environment: Path, tmp_path: Path) -> None:
    assert "extract-features" in syncdiff(environment, tmp_path, "--help")
    assert syncdiff(environment, tmp_path, "--version").startswith("syncdiff 0.")
    assert "usage: syncdiff preprocess" in syncdiff(environment, tmp_path, "preprocess", "--help")
    assert "attention: [false, true]" in syncdiff(
        environment, tmp_path, "train", "--describe", "--preset", "demo"
    )
    assert "syncnet" in syncdiff(environment, tmp_path, "data", "weights", "list")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_demo_begins_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    """Talkers and clips are made by workers that import the installed packages; then Ctrl-C."""
    line = [str(environment / "bin" / "syncdiff"), "demo", "--out", "demo", "--clips", "7", "--seconds", "1"]
    kept = clean_environment(environment)
    made = tmp_path / "demo" / "clips" / "dataset.json"
    with (tmp_path / "errors").open("w") as errors:
        run = subprocess.Popen(line, cwd=tmp_path, env=kept, stderr=errors, preexec_fn=hear_interrupts)
        try:
            while run.poll() is None and not made.exists():
                time.sleep(0.2)
            run.send_signal(signal.SIGINT)
            run.wait(timeout=120)
        finally:
            run.kill()
    assert made.exists(), (tmp_path / "errors").read_text()
    assert run.returncode == 130, (tmp_path / "errors").read_text()
