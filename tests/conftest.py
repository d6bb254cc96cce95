"""Fixtures every test file may ask for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:  # Imported by the fixtures that need them: torch costs seconds.
    from syncdiff_data.avhubert import AVHubertEncoder
    from syncdiff_eval.networks.lip_reader import LipReader

ROOT = Path(__file__).resolve().parent.parent

# No test is decided by timing: an example may take as long as the machine needs.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

LONG_FILES = (
    "test_contributing",
    "test_preprocess",
    "test_eval_benchmark",
    "test_chain",
    "test_eval_running",
    "test_stage_faults",
    "test_eval_face_tracks",
    "test_eval_kinds",
    "test_eval_leak",
    "test_dub_lists",
)
"""Files of a minute or more: they begin first, so that no worker is left with one of them at the end."""
LONGEST_PROOF_S = 3600
"""Of a slow test, which may run beside other work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONGEST_PROOF_S))


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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch on one thread, as in Ray's workers: small networks are quicker, and sums always in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a random, tiny AV-HuBERT in the published layout."""
    from tiny_avhubert import write_tiny_checkpoint

    return write_tiny_checkpoint(tmp_path_factory.mktemp("avhubert") / "tiny.pt")


@pytest.fixture(scope="session")
def encoder(checkpoint: Path) -> AVHubertEncoder:
    """That checkpoint's encoder; tests that change its weights load their own."""
    from syncdiff_data.avhubert import AVHubertEncoder

    return AVHubertEncoder.from_checkpoint(checkpoint)


@pytest.fixture(scope="session")
def reader(checkpoint: Path) -> LipReader:
    """The same encoder as the metrics use it."""
    from syncdiff_eval.networks.lip_reader import load_reader

    return load_reader(checkpoint)


@pytest.fixture
def same_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit between two runs of a benchmark in a test is no difference between them."""
    monkeypatch.setattr("syncdiff_eval.benchmark.git_commit", lambda: None)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The folders of a clips data set and of its features: four shards of 3, 0, 5 and 3 clips of 10 to 20 frames, the
    last shard of split `val`."""
    from loader_data import make_dataset, numbered_clip

    shards_of = (range(3), range(0), range(3, 8), range(8, 11))
    shards = [
        [numbered_clip(number, 10 + number, "val" if number >= 8 else "train") for number in numbers]
        for numbers in shards_of
    ]
    return make_dataset(tmp_path_factory.mktemp("loader"), shards)


@pytest.fixture
def damaged(dataset: tuple[str, str], tmp_path: Path) -> tuple[str, str]:
    """A copy of `dataset` that a test may harm."""
    shutil.copytree(Path(dataset[0]).parent, tmp_path / "copy")
    return str(tmp_path / "copy" / "clips"), str(tmp_path / "copy" / "features")


@pytest.fixture
def object_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """An object store on this machine: bucket/path -> the URI of it, which may create the bucket."""
    server_module = pytest.importorskip("moto.server")
    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    yield lambda path: f"s3://{path}?{options}"
    server.stop()
