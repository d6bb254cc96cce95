"""Fixtures every test file may ask for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips and golden files that lies beside the project; the test is skipped without it."""
    folder = Path(os.environ.get("SYNCDIFF_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"needs the real clips and golden files, which are not at {folder} (set SYNCDIFF_SHARED)")
    return folder


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray of two CPUs for all tests: starting one costs seconds. Workers import modules of tests/."""
    from syncdiff_data.cli import RayOptions
    from syncdiff_data.stage import ray_session

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "tests"), prepend=os.pathsep)
        with ray_session(RayOptions(workers=2)):
            yield
