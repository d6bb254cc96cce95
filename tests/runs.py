"""Whole runs of the pipelines from tests, in this process or in one of their own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from stub_faces import CONFIG

from syncdiff_data.cli import RayOptions

ROOT = Path(__file__).resolve().parent.parent


@cache
def pipeline(name: str) -> ModuleType:
    """The script pipelines/<name>.py as a module."""
    spec = importlib.util.spec_from_file_location(f"pipelines_{name}", ROOT / "pipelines" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def preprocess(root: Path, out: Path | str, **options: Any) -> None:
    """pipelines/preprocess.py on a folder of colour videos, two sources a shard."""
    workers = options.pop("workers", 2)
    defaults = {"source": "folder", "shard_size": 2, "clips": CONFIG, "ray": RayOptions(workers=workers)}
    module = pipeline("preprocess")
    module.main(module.Options(root=root, out=str(out), **{**defaults, **options}))


def extract(clips: Path, out: Path, encoder: str = "logfbank", **options: Any) -> None:
    """pipelines/extract_features.py."""
    module = pipeline("extract_features")
    module.main(module.Options(str(clips), encoder, str(out), ray=RayOptions(workers=2), **options))


def command(name: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a pipeline as a user would, from the project's folder."""
    line = [sys.executable, str(ROOT / "pipelines" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder: relative path -> bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
