"""What the packages import is declared, and reading or scoring does not need the trainer's dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from runs import ROOT, preprocess
from stub_faces import write_colour

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_LISTED = {"dlib": "dlib-bin"}
"""Modules that no metadata names, and their distributions."""
ONE_OF_SEVERAL = {"cv2": "opencv-python", "torch": "torch"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra: str | None) -> set[str]:
    """Distributions that pyproject names for an extra, those of the extras it includes and of no extra too."""
    lines = PROJECT["dependencies"] + (PROJECT["optional-dependencies"][extra] if extra else [])
    found: set[str] = set()
    for line in lines:
        name, extras = re.match(r"([\w.-]+)(?:\[(.*?)\])?", line).groups()  # type: ignore[union-attr]
        if name == "syncdiff":
            for other in extras.split(","):
                found |= declared(other)
        else:
            found.add(normal(name))
    return found


def imported(folder: Path) -> Iterator[tuple[str, Path]]:
    """(top-level module, file) of every import of a module that is neither Python's nor the project's."""
    own = {path.stem for path in folder.glob("*.py")} | {"tests"}
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for top in {name.partition(".")[0] for name in names}:
                if not (top in sys.stdlib_module_names or top in own or top.startswith("syncdiff")):
                    yield top, file


@pytest.mark.parametrize(
    ("folder", "extra"),
    [
        ("syncdiff_data", "data"),
        ("syncdiff_eval", "eval"),
        ("syncdiff_model", "model"),
        ("pipelines", "all"),
        ("tests", "dev"),
        ("benchmarks", "dev"),
    ],
)
def test_kind_47_every_direct_dependency_is_declared(folder: str, extra: str) -> None:
    listed = packages_distributions()
    allowed = declared(extra)
    helpers = {
        path.stem for room in ("tests", "pipelines", "benchmarks") for path in ROOT.glob(f"{room}/*.py")
    }
    undeclared = {
        (top, file.name)
        for top, file in imported(ROOT / folder)
        if top not in helpers | {"syncnet_weights"}  # lies beside the golden files
        and not {normal(name) for name in listed.get(top, [NOT_LISTED.get(top, top)])} & allowed
    }
    assert undeclared == set()


def closure(names: set[str]) -> set[str]:
    """These distributions and all that they require."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = normal(todo.pop())
        if name in found:
            continue
        found.add(name)
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        todo += [re.match(r"[\w.-]+", line).group() for line in requires if "extra ==" not in line]  # type: ignore[union-attr]
    return found


def run_with_only(extra: str | None, code: str) -> None:
    """Run code in a process that cannot import what the extra does not install."""
    have = closure(declared(extra))
    blocked = sorted(
        top
        for top, names in packages_distributions().items()
        if not ({normal(name) for name in names} & have or top.startswith("syncdiff") or top.startswith("_"))
    )
    blocked += [] if extra else ["dlib"]
    block = f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
    done = subprocess.run([sys.executable, "-c", block + code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_shards_are_read_without_any_extra(tmp_path: Path, ray_session: None) -> None:
    write_colour(tmp_path / "videos" / "a.mp4", "face")
    preprocess(tmp_path / "videos", tmp_path / "clips")
    run_with_only(
        None,
        "import syncdiff_data.__main__\n"
        "from syncdiff_data.shards import read_clips\n"
        f"(clip,) = read_clips({str(tmp_path / 'clips')!r})\n"
        "assert clip.face.shape == (12, 32, 32, 3) and len(clip.audio) == 12 * 640\n",
    )


def test_scoring_does_not_import_the_trainers_dependencies() -> None:
    assert "diffusers" not in closure(declared("eval"))
    run_with_only(
        "eval", "import syncdiff_eval.benchmark, syncdiff_eval.__main__, syncdiff_eval.networks.syncnet"
    )


def test_data_does_not_import_the_trainers_dependencies() -> None:
    run_with_only("data", "import syncdiff_data.preprocess, syncdiff_data.extract, syncdiff_data.loader")
