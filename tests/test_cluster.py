"""A real cluster on this machine: two nodes, a submitted job, and a node that dies on the way."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from runs import ROOT, contents, family, preprocess
from stub_faces import CONFIG, write_colour

from syncdiff_data.shards.validate import validate

LARGEST_UPLOAD = 8 << 20
RAY = str(Path(sys.executable).with_name("ray"))


def test_what_a_job_uploads_is_small() -> None:
    """Ray leaves out what .gitignore and .rayignore name, so the upload is what git lists outside of these folders."""
    left_out = tuple(
        line.strip("/") + "/"
        for line in (ROOT / ".rayignore").read_text().splitlines()
        if line.startswith("/")
    )
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    sizes = {
        name: (ROOT / name).stat().st_size
        for name in listed.stdout.split("\0")
        if (ROOT / name).is_file() and not name.startswith(left_out)
    }
    assert "pipelines/preprocess.py" in sizes
    assert "tests/conftest.py" not in sizes
    assert sum(sizes.values()) < LARGEST_UPLOAD, sorted(sizes, key=sizes.__getitem__)[-5:]


@dataclass
class Cluster:
    """Ray nodes started by hand, each with one CPU; nothing of the machine's other Rays is touched."""

    folder: Path
    port: int
    dashboard: int
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_ADDRESS": f"http://127.0.0.1:{self.dashboard}",
            "PYTHONPATH": str(ROOT / "tests"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        return os.environ | own

    def __post_init__(self) -> None:
        self.token = secrets.token_hex(32)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`ray start --block`: a process whose children are the node."""
        environment = self.environment
        del environment["RAY_ADDRESS"]
        agent = (
            f"--dashboard-agent-listen-port={free_port()}"  # Every node has one, and takes 52365 unless told.
        )
        node = subprocess.Popen(
            [RAY, "start", "--block", "--num-cpus=1", "--object-store-memory=100000000", agent, *arguments],
            env=environment,
            cwd=self.folder,
            stdout=(self.folder / f"node{len(self.nodes)}.log").open("wb"),
            stderr=subprocess.STDOUT,
        )
        self.nodes.append(node)
        return node

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([RAY, *arguments], env=self.environment, capture_output=True, text=True)

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """As a machine goes: every process of the node at once, without a goodbye."""
        for pid in family(node.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait()

    def stop(self) -> None:
        for node in reversed(self.nodes):
            if node.poll() is None:
                self.kill(node)


@contextmanager
def two_nodes() -> Iterator[Cluster]:
    folder = Path(
        tempfile.mkdtemp(prefix="syncdiff-ray-")
    )  # Short: Ray's socket names must fit 107 characters.
    cluster = Cluster(folder, free_port(), free_port())
    try:
        cluster.start(
            "--head",
            f"--port={cluster.port}",
            f"--dashboard-port={cluster.dashboard}",
            f"--ray-client-server-port={free_port()}",
            f"--temp-dir={folder}/head",
            "--disable-usage-stats",
        )
        wait_for(lambda: cluster.run("job", "submit", "--", "true").returncode == 0)
        cluster.start(f"--address=127.0.0.1:{cluster.port}")
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_job_outlives_a_node_and_equals_a_local_run(tmp_path: Path, ray_session: None) -> None:
    root, out = tmp_path / "videos", tmp_path / "out"
    for number in range(80):
        write_colour(root / f"{number:02d}.mp4", "no_face" if number % 7 == 3 else "face", 20 + number)
    options = ["--source", "folder", "--root", str(root), "--out", str(out), "--shard-size", "2"]
    options += ["--backend", CONFIG.faces.backend, "--min-face-px", "0", "--crop-size", "32", "--no-mouth"]
    with two_nodes() as cluster:
        log = cluster.folder / "job.log"
        job = subprocess.Popen(
            [RAY, "job", "submit", "--working-dir", ".", "--", "python", "pipelines/preprocess.py", *options],
            env=cluster.environment,
            cwd=ROOT,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        wait_for(lambda: len(list((out / "clips").glob("*.parquet"))) >= 6 or job.poll() is not None)
        assert job.poll() is None, log.read_text()
        cluster.kill(cluster.nodes[1])
        assert len(list((out / "clips").glob("*.parquet"))) < 40, "killed on the way"
        job.wait(timeout=600)
        text = log.read_text()
        print(text)
        assert job.returncode == 0, text
        uploaded = list(
            (cluster.folder / "head").glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/")
        )
        where = cluster.run(
            "job", "submit", "--working-dir", str(ROOT), "--", "python", "-c",
            "import syncdiff_data; print(syncdiff_data.__file__)",
        )  # fmt: skip
        relative = cluster.run(
            "job", "submit", "--working-dir", str(ROOT), "--", "python", "pipelines/preprocess.py",
            "--source", "folder", "--root", "data", "--out", str(out),
        )  # fmt: skip
        size = sum(len(data) for data in contents(uploaded[0]).values())
        names = {path.name for path in uploaded[0].iterdir()}
    assert "preprocess: 100% 80/80" in text
    assert "clips/s" in text
    assert "Traceback" not in text
    assert size < LARGEST_UPLOAD, size
    assert not names & {".git", ".venv"}
    assert re.search(r"_ray_pkg_\w+/syncdiff_data/__init__\.py", where.stdout), (
        "the job runs the uploaded code"
    )
    assert relative.returncode != 0
    assert "--root data is relative, and a Ray job" in relative.stdout
    assert validate(out) == []
    preprocess(root, tmp_path / "local")
    assert contents(out) == contents(tmp_path / "local")
