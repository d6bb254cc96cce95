"""A Ray of several nodes on this machine, as a cluster has them: nodes that can be killed whole and replaced."""

from __future__ import annotations

import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from small_chain import environment, family

STARTED = b"Ray runtime started"
"""What `ray start` prints when its node takes work."""


@dataclass
class Cluster:
    """Nodes started by hand, each a process tree of its own; nothing of the machine's other Rays is touched."""

    folder: Path
    port: int = field(default_factory=lambda: free_port())
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: int = 0
    token: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def environment(self) -> dict[str, str]:
        """Of its nodes and of the commands that run there."""
        return environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=self.token)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *arguments: str) -> None:
        """A node; returns when it takes work. One at a time: two that start at once take one name for their sockets."""
        ray = str(Path(sys.executable).with_name("ray"))
        agent = f"--dashboard-agent-listen-port={free_port()}"
        log = self.folder / f"node{self.started}.log"
        self.started += 1
        node = subprocess.Popen(
            [ray, "start", "--block", "--object-store-memory=100000000", agent, *arguments],
            env=self.environment, cwd=self.folder, stdout=log.open("wb"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.nodes.append(node)
        wait_for(lambda: STARTED in log.read_bytes() or node.poll() is not None)
        if node.poll() is not None:
            raise SystemExit(f"a node does not start: {log.read_text()[-2000:]}")

    def start_head(self) -> None:
        self.start(
            "--head", "--num-cpus=0", f"--port={self.port}", f"--dashboard-port={free_port()}", "--disable-usage-stats",
            f"--ray-client-server-port={free_port()}", f"--temp-dir={self.folder}/head",
        )  # fmt: skip

    def start_node(self) -> None:
        self.start("--num-cpus=1", f"--address={self.address}")

    def replace_node(self, rng: random.Random) -> None:
        """Kill one of the nodes that work, whole, and start another."""
        lost = rng.choice(self.nodes[1:])
        kill(family(lost.pid))
        lost.wait()
        self.nodes.remove(lost)
        self.start_node()

    def stop(self) -> None:
        for node in self.nodes:
            kill(family(node.pid))
            node.wait()


@contextmanager
def cluster_of_two() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="sd-nodes-"))  # short: it holds the names of Ray's sockets
    cluster = Cluster(folder)
    try:
        cluster.start_head()
        for _ in range(2):
            cluster.start_node()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def kill(processes: Iterable[psutil.Process]) -> bool:
    """SIGKILL; whether any was there."""
    hit = False
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
            hit = True
    return hit


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"the cluster does not start within {seconds:.0f} s")
        time.sleep(0.1)
