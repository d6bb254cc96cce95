"""A connection to Ray, or one sentence why there is none."""

from __future__ import annotations

import gc
import logging
import os
import resource
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from syncdiff_data.cli import RayOptions, inside_ray_job
from syncdiff_data.records import UserError
from syncdiff_data.stage.faults import first_line

OBJECT_STORE_BYTES = 150 << 20
RAY_ENVIRONMENT = {
    # A task that asked for no GPU sees none: Ray's default is to leave it all of them.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    # Lost workers are expected here; Ray's paragraph about each would hide the progress.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed while executing|infinite retries remaining",
    # An actor of Ray Data's that lost its worker raises where nobody asks for its result: Ray would print that, too.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    # Where memory stays full, Ray's default is to try again for ever. So many tries of one task take an hour.
    "RAY_task_oom_retries": "60",
}
"""Ray reads these when it is imported; variables that the user has set keep their values."""
NO_BOOKKEEPING = {"enable_metrics_collection": False, "task_events_report_interval_ms": 0}
"""Of a Ray of our own, which has no dashboard: else it keeps metrics and events of tasks that nobody can read, and its
memory grows with every stage that is run."""
# A second each, of asking what listens at an address whether it is a Ray after all.
GIVEN_ADDRESS = {"RAY_NUM_REDIS_GET_RETRIES": "10"}
ANSWER_WITHIN_S = 5.0
RAY_DATA_THREADS = ("StreamingExecutor-", "ray-data-")
THREADS_END_WITHIN_S = 60.0
SOCKET_BELOW_TEMP = "/ray/session_2000-01-01_00-00-00_000000_1234567/sockets/plasma_store"
STARTS = 3
"""Of a local Ray, before the command gives up: Ray waits 30 s for itself, too short on a busy machine."""
START_TIMED_OUT = "timed out during startup"
LEAST_OPEN_FILES = 256
"""That this process may have, or a local Ray starts and then waits for ever. With 64 it does."""
LONGEST_SOCKET = 107
"""Bytes of the path of a Unix socket."""
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""HTTP/2's opening and empty settings; a gRPC server answers with its own settings, frame type 4."""


@contextmanager
def ray_session(options: RayOptions, log_to_driver: bool = False) -> Iterator[None]:
    """A connection to Ray for the body of a `with`: the address asked for, $RAY_ADDRESS, or a new local Ray.

    log_to_driver: print what workers print, for work that reports its own progress. Raises UserError when an address
    was given and no Ray answers there, or when none can be started here.
    """
    address = options.ray_address or os.environ.get("RAY_ADDRESS")
    given = bool(address) and address != "local"
    for name, value in (RAY_ENVIRONMENT | (GIVEN_ADDRESS if given else {})).items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():  # a caller's session, which stays open
        yield
        return
    with _connection(str(address), log_to_driver) if given else _local_ray(options, log_to_driver):
        yield


@contextmanager
def _connection(address: str, log_to_driver: bool) -> Iterator[None]:
    import ray

    advice = "Start one with `ray start --head`, or unset RAY_ADDRESS and leave out --ray-address for a Ray of its own."
    if not inside_ray_job():
        _check_answer(address, advice)
    try:
        with _own_signals():
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=log_to_driver)
    except Exception as error:  # Ray raises many kinds here: versions, tokens, dead heads
        raise UserError(f"no Ray answers at {address} ({first_line(error)}). {advice}") from error
    try:
        yield
    finally:
        _release_objects()
        ray.shutdown()


def _check_answer(address: str, advice: str) -> None:
    """UserError when nobody listens at `address`, or what listens is no Ray: `ray.init` would try for ten minutes."""
    if address.startswith(("http://", "https://")):
        raise UserError(
            f"{address} is the address of a dashboard: give it to `ray job submit --address`, or give the address of "
            "the cluster (HOST:6379) here."
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # "auto"
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_WITHIN_S) as connection:
            connection.settimeout(ANSWER_WITHIN_S)
            if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
                connection.sendall(HTTP2_HELLO)
                if connection.recv(9)[3:4] != b"\x04":
                    raise UserError(f"what listens at {address} is no Ray. {advice}")
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray answers at {address} ({error}). {advice}") from error


@contextmanager
def _local_ray(options: RayOptions, log_to_driver: bool) -> Iterator[None]:
    import ray

    _check_open_files()
    _check_loopback()
    with _token_without_home(), _short_temp_folder() as folder:
        place: dict[str, Any] = {"_temp_dir": folder} if folder else {}
        cpus = len(os.sched_getaffinity(0))
        _start_ray(
            address="local",
            # More workers than CPUs where the user asks for it; else Ray counts, and heeds a container's limit.
            num_cpus=options.workers if (options.workers or 0) > cpus else None,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level=logging.ERROR,
            log_to_driver=log_to_driver,
            _system_config=NO_BOOKKEEPING,
            **place,
        )
        try:
            yield
        finally:
            _release_objects()
            ray.shutdown()


def _check_open_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # Ray raises the soft limit to the hard one
    if 0 <= most < LEAST_OPEN_FILES:  # -1: no limit
        raise UserError(
            f"this process may have {most} open files, and Ray needs {LEAST_OPEN_FILES}: raise the limit (ulimit -Hn)."
        )


def _check_loopback() -> None:
    """UserError where this machine cannot talk to itself, as Ray's processes do: Ray would wait for minutes."""
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), ANSWER_WITHIN_S),
        ):
            pass
    except OSError as error:
        raise UserError(
            f"this machine cannot connect to itself at 127.0.0.1 ({error}), as Ray's processes do: bring the loopback "
            "interface up (ip link set lo up)."
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Put back what this process does at SIGTERM: Ray's handler ends it with a stack of its own, or without a word."""
    ours = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # of Ray's handler, while it starts
        if callable(ours):
            ours(signal.SIGTERM, None)
        raise
    finally:
        if callable(ours) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)


def _start_ray(**options: Any) -> None:
    """`ray.init`, again where the machine is too busy to answer in time. UserError where it cannot be started."""
    import ray

    for left in reversed(range(STARTS)):
        try:
            with _own_signals():
                ray.init(**options)
            return
        except Exception as error:
            busy = START_TIMED_OUT in str(error)
            if busy and left:
                print(
                    "Ray did not start in time: this machine is busy. Trying again.",
                    file=sys.stderr,
                    flush=True,
                )
                continue
            needs = "a temporary folder that can be written ($TMPDIR or /tmp) and free memory"
            if busy:
                needs = f"a less busy machine: {STARTS} starts took too long"
            raise UserError(
                f"Ray could not be started on this machine: {type(error).__name__}: {first_line(error)}. "
                f"It needs {needs}."
            ) from error


def _release_objects() -> None:
    """An object that is released in another thread while Ray shuts down ends this process with status 1: release what
    is left in cycles, and wait for Ray Data's threads, which it does for 2 s only."""
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith(RAY_DATA_THREADS):
            thread.join(THREADS_END_WITHIN_S)


@contextmanager
def _token_without_home() -> Iterator[None]:
    """Ray keeps the token of its own processes in ~/.ray; where that cannot be written, one for this session only."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - that of Path raises where there is none
    place = next((p for p in (home / ".ray", home) if p.is_dir()), None)
    if (place and os.access(place, os.W_OK)) or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        yield
        return
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        yield
    finally:
        del os.environ["RAY_AUTH_TOKEN"]


@contextmanager
def _short_temp_folder() -> Iterator[str | None]:
    """None where Ray's own choice will do, else a temporary folder whose sockets' paths are short enough."""
    if _usable(os.environ.get("RAY_TMPDIR") or _temp_dir()):
        yield None
        return
    for place in ("/tmp", "/var/tmp", "/dev/shm"):
        if _usable(place):
            folder = tempfile.mkdtemp(prefix="sd-", dir=place)
            break
    else:
        raise UserError(
            "Ray needs a temporary folder with a short path that can be written, and finds none: "
            f"{_temp_dir() or 'none at all'}, /tmp, /var/tmp and /dev/shm will not do. Set TMPDIR to one of at most "
            f"{LONGEST_SOCKET - len(SOCKET_BELOW_TEMP)} characters."
        )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temp_dir() -> str | None:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return None


def _usable(folder: str | None) -> bool:
    """Whether Ray's sockets fit below the folder, which can be written. mkdtemp adds 12 characters at most.

    Ray reads its paths as ASCII where the locale is that (LC_ALL=C).
    """
    if (
        folder is None
        or not folder.isascii()
        or len(os.fsencode(folder)) + 12 + len(SOCKET_BELOW_TEMP) > LONGEST_SOCKET
    ):
        return False
    return Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)
