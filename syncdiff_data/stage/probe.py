"""Before hours are spent: does every node see the sources, share the output and have the same libraries?"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncdiff_data.environment import libraries
from syncdiff_data.records import UserError
from syncdiff_data.shards.store import Store
from syncdiff_data.stage.faults import first_line

ANSWER_WITHIN_S = 120.0
LOOKED_AT = 100
"""Files, in search of one that can be read."""


def sample(*lists: Iterable[str | Path]) -> dict[str, int]:
    """What the probe looks at: path -> size in bytes of the first, middle and last of each list of absolute paths that
    can be read here.

    Links that lead nowhere, pipes and files without the right to read end as rejects, and say nothing of a mount.
    """
    found: dict[str, int] = {}
    for paths in lists:
        ordered = sorted(map(str, paths))
        for some in (ordered, ordered[len(ordered) // 2 :], ordered[::-1]):
            found |= _first_readable(some[:LOOKED_AT])
    return found


def _first_readable(paths: Iterable[str]) -> dict[str, int]:
    """Path and size of the first that is a file which can be read; empty where none is."""
    for path in paths:
        with suppress(OSError):
            status = Path(path).stat()
            if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
                return {path: status.st_size}
    return {}


@dataclass(frozen=True)
class Answer:
    """What one node found."""

    problem: str | None
    libraries: Mapping[str, str]


def probe_nodes(out: str, samples: Mapping[str, int]) -> None:
    """Check that every node sees the sample files, shares the output and has the driver's libraries.

    samples: absolute path -> size in bytes, as the driver sees them. Every node stats them, reads a token that the
    driver wrote into the output and leaves one that the driver reads. Needs an open `ray_session`. UserError names
    the node and what is wrong there; a node that is lost meanwhile is left out, as it is later.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    store, token = Store(out), secrets.token_hex(8)
    question = f"probe-{token}.tmp"
    store.write_text(question, token)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        task = ray.remote(num_cpus=0, max_retries=2)(_probe)
        answers = [
            task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(out, question, token, node["NodeID"], dict(samples))
            for node in nodes
        ]
        ray.wait(answers, num_returns=len(answers), timeout=ANSWER_WITHIN_S)
        for node, answer in zip(nodes, answers):
            problem = _problem(answer, store, token, node["NodeID"])
            if problem:
                raise UserError(f"node {node['NodeManagerHostname']} {problem}")
    finally:
        _remove(store, question)


def _problem(ref: Any, store: Store, token: str, node: str) -> str | None:
    import ray

    try:
        answer = ray.get(ref, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return (
            f"did not answer within {ANSWER_WITHIN_S:.0f} s: does a mount hang there, or is its memory full?"
        )
    except ray.exceptions.RayError as error:
        if not any(other["Alive"] for other in ray.nodes() if other["NodeID"] == node):
            _remove(store, answer_name(token, node))
            return None
        return f"was lost during the check ({first_line(error)}): run the same command again."
    if answer.problem:
        return answer.problem
    return _unshared(store, token, node) or _other_libraries(answer.libraries, libraries())


def _unshared(store: Store, token: str, node: str) -> str | None:
    """The driver's half: the node's token must be in the driver's view of the output."""
    name = answer_name(token, node)
    try:
        same = store.read_text(name) == token
    except OSError:
        same = False
    _remove(store, name)
    return None if same else f"writes to {store.uri} and this command does not see it: {_SHARED}"


_SHARED = "the output must be one shared folder, mounted under the same path everywhere, or an s3:// URI."


def _other_libraries(there: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    differing = [
        f"{name} {there[name]} there, {here[name]} here" for name in here if there[name] != here[name]
    ]
    return f"has other libraries ({'; '.join(differing)}): use one image." if differing else None


def answer_name(token: str, node: str) -> str:
    return f"probe-{token}-{node}.tmp"


def _probe(out: str, question: str, token: str, node: str, samples: Mapping[str, int]) -> Answer:
    """Runs on the node."""
    return Answer(_unseen(samples) or _unreadable(Store(out), question, token, node), libraries())


def _unseen(samples: Mapping[str, int]) -> str | None:
    for path, size in samples.items():
        try:
            there = Path(path).stat().st_size
            with Path(path).open("rb") as file:
                file.read(1)
        except OSError as error:
            return f"cannot read {path} ({error.strerror}): mount its folder there under the same path."
        if there != size:
            return (
                f"sees {path} with {there:,} bytes instead of {size:,}: mount the same folder there, or wait until the "
                "file is whole."
            )
    return None


def _unreadable(store: Store, question: str, token: str, node: str) -> str | None:
    try:
        seen = store.exists(question) and store.read_text(question) == token
        if seen:
            store.write_text(answer_name(token, node), token)
    except (UserError, OSError) as error:
        return f"cannot write to {store.uri}: {error}"
    return None if seen else f"does not see in {store.uri} what this command wrote there: {_SHARED}"


def _remove(store: Store, name: str) -> None:
    try:
        if store.exists(name):
            store.delete(name)
    except OSError:  # The next run's sweep takes it.
        pass
