"""Whether the cluster can ever run a task: asked before the work, since Ray would wait for ever."""

from __future__ import annotations

import time
from typing import Any, Literal

from syncdiff_data.records import UserError

ROOM_WITHIN_S = 60.0
"""Seconds in which a lost node may come back."""


def check_resources(title: str, cpus: int, gpus: float) -> int:
    """How many tasks of so many CPUs and GPUs fit into the cluster at once, at least 1.

    UserError when no node holds even one, unless the cluster may grow. Needs an open `ray_session`.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    slots = sum(_fitting(node, cpus, gpus) for node in nodes)
    if not slots and not may_grow():
        asked = f"{cpus} CPU{'s' * (cpus != 1)}" + (f" and {gpus:g} of a GPU" if gpus else "")
        there = "; ".join(sorted({_describe(node) for node in nodes}))
        raise UserError(
            f"{title}: one task asks for {asked}, and no node has that (nodes: {there}). Ask for fewer --threads, "
            "or another --device and --gpus-per-task, or give the cluster such a node."
        )
    return max(1, slots)


def wait_for_room(workers: int, kind: Literal["CPU", "GPU"]) -> None:
    """Until the cluster has a CPU or GPU for each of so many workers that start together.

    UserError when it has not within ROOM_WITHIN_S, unless it may grow. Needs an open `ray_session`.
    """
    import ray

    until = time.monotonic() + ROOM_WITHIN_S
    while (there := int(ray.cluster_resources().get(kind, 0))) < workers and not may_grow():
        if time.monotonic() >= until:
            raise UserError(
                f"--workers {workers} asks for {workers} {kind}s at once, and Ray has {there}: ask for fewer, or give "
                "the cluster such nodes."
            )
        time.sleep(1)


def may_grow() -> bool:
    """True where an autoscaler has told the cluster which nodes it may add."""
    from ray._private.state import state

    try:
        return state.get_cluster_config() is not None
    except Exception:  # Ray's private interface: an unknown release is taken to have no autoscaler.
        return False


def _fitting(node: dict[str, Any], cpus: int, gpus: float) -> int:
    fits = int(node.get("CPU", 0) // cpus)
    if gpus >= 1:
        return min(fits, int(node.get("GPU", 0) // gpus))
    return min(fits, int(node.get("GPU", 0)) * int(1 / gpus + 1e-9)) if gpus else fits


def _describe(node: dict[str, Any]) -> str:
    return f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs"
