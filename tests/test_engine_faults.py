"""The engine: faults of disks and of the run, shared work, resources, progress, locks."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine_stages import EXPECTED, TWO, Numbers, notes_of, numbers

from syncdiff_data.cli import RayOptions
from syncdiff_data.progress import ProgressCounts, ProgressPrinter
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError, UserError
from syncdiff_data.shards.store import Store
from syncdiff_data.stage import (
    Context,
    Failure,
    Resources,
    Stage,
    exclusive,
    is_transient,
    raise_unexpected,
    resources,
    run_stage,
)
from syncdiff_data.stage import context as context_module
from syncdiff_data.stage.actor import RunClient
from syncdiff_data.stage.faults import failure_of, run_fault
from syncdiff_data.stage.link import Link
from syncdiff_data.stage.worker import run_plan


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_module, "RETRY_AFTER_S", (0.0, 0.0, 0.0))


# Faults of a disk or mount


@dataclass
class Fake:
    """Raises each of `errors` in turn, then yields numbers; `reach` of them before each error."""

    errors: list[Exception]
    reach: int = 0

    def __call__(self) -> Iterator[int]:
        error = self.errors.pop(0) if self.errors else None
        for i in range(4):
            if error is not None and i == self.reach:
                raise error
            yield i


def eio() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO), "/mnt/a.mp4")


def media_error(cause: Exception) -> MediaError:
    try:
        try:
            raise cause
        except OSError as error:
            raise MediaError(Reason.UNREADABLE, "cannot be read") from error
    except MediaError as wrapped:
        return wrapped


@pytest.mark.parametrize("reach", [0, 2])
def test_kind_17_a_transient_fault_is_retried_without_yielding_twice(reach: int) -> None:
    assert list(Context().item("a", Fake([eio(), media_error(eio())], reach))) == [0, 1, 2, 3]


def test_kind_17_a_fault_that_stays_is_failed_and_transient() -> None:
    *records, failure = Context().item("a", Fake([eio() for _ in range(4)], reach=1))
    assert records == [0]
    assert isinstance(failure, Failure)
    assert (failure.reason, failure.reason.kind, failure.transient) == ("read_error", "failed", True)


@pytest.mark.parametrize(
    "code",
    ["EIO", "ESTALE", "ENOENT", "EMFILE", "ENFILE", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN", "ECONNRESET"],
)
def test_kind_17_what_disks_and_mounts_do_is_transient(code: str) -> None:
    assert is_transient(OSError(getattr(errno, code), "x"))
    assert is_transient(media_error(OSError(getattr(errno, code), "x")))


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), OSError(errno.EISDIR, "x"), OSError("no number"), MediaError(Reason.UNREADABLE, "x")],
)
def test_kind_17_what_files_are_is_not_transient(error: Exception) -> None:
    assert not is_transient(error)
    assert run_fault(error) is None


def test_kind_43_items_that_fail_in_a_row_end_the_run() -> None:
    context = Context(Link(node="n7"))
    for number in range(9):
        assert isinstance(list(context.item(f"{number}", Fake([eio() for _ in range(4)])))[-1], Failure)
    assert list(context.item("good", Fake([]))) == [0, 1, 2, 3]
    for number in range(9):
        list(context.item(f"{number}", Fake([eio() for _ in range(4)])))
    with pytest.raises(UserError, match=r"^the last 10 items on node n7 could not be read, .*mounted there"):
        list(context.item("last", Fake([eio() for _ in range(4)])))


def test_an_iteration_that_is_given_up_is_no_failure() -> None:
    context = Context()
    records = context.item("a", Fake([]))
    assert next(records) == 0
    records.close()  # type: ignore[attr-defined]
    assert list(context.item("a", Fake([]))) == [0, 1, 2, 3]


# Shared work, blocks


@dataclass(frozen=True)
class Shared(Stage[int, int]):
    """Holds ten megabytes and says in a note whenever it is unpickled."""

    table: bytes
    notes: str

    title = "shared"

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        Path(str(state["notes"]), f"unpickled-{os.getpid()}-{time.monotonic_ns()}").touch()

    def process(self, plan: int, context: Context) -> int:
        return len(self.table) + plan


@pytest.mark.slow
def test_kind_15_what_plans_share_is_fetched_once_a_process(tmp_path: Path, ray_session: None) -> None:
    size = 10_000_000
    results = run_stage(Shared(bytes(size), str(tmp_path)), range(3000), TWO)
    assert results == [size + i for i in range(3000)]
    pids = {path.name.split("-")[1] for path in tmp_path.glob("unpickled-*")}
    assert notes_of(tmp_path, "unpickled") == len(pids) <= 4


# Resources


def test_kind_16_threads_that_no_node_has_are_a_sentence(tmp_path: Path, ray_session: None) -> None:
    with pytest.raises(UserError, match=r"^numbers: one task asks for 4 CPUs, and no node has that .*2 CPUs"):
        numbers(tmp_path, resources=Resources(cpus=4))


def test_kind_16_a_gpu_that_no_node_has_is_a_sentence(tmp_path: Path, ray_session: None) -> None:
    stage = Numbers(str(tmp_path))
    with pytest.raises(UserError, match=r"asks for 1 CPU and 0\.25 of a GPU.*0 GPUs"):
        run_stage(stage, range(3), RayOptions(device="cuda", gpus_per_task=0.25))


def test_kind_16_a_cluster_that_may_grow_is_not_asked(
    ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "may_grow", lambda: True)
    assert resources.check_resources("x", 64, 8) == 1


def test_kind_33_a_task_on_a_gpu_always_asks_for_a_share() -> None:
    assert RayOptions().gpu_share == 0
    assert RayOptions(device="cuda").gpu_share == 1
    assert RayOptions(device="cuda", gpus_per_task=0.25).gpu_share == 0.25
    for wrong in (
        RayOptions(device="cuda", gpus_per_task=0),
        RayOptions(gpus_per_task=0.5),
        RayOptions(device="cuda:1"),
        RayOptions(device="cuda", gpus_per_task=1.5),
        RayOptions(device="cuda", gpus_per_task=-1),
    ):
        with pytest.raises(UserError, match=r"^--(device|gpus-per-task) "):
            _ = wrong.gpu_share


@dataclass(frozen=True)
class Threads(Stage[int, int]):
    """How many threads torch uses, loaded after the limit was set."""

    resources: Resources

    def process(self, plan: int, context: Context) -> int:
        import torch

        return torch.get_num_threads()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_task_has_the_threads_it_was_given(threads: int, ray_session: None) -> None:
    assert run_stage(Threads(Resources(threads)), [0], RayOptions()) == [threads]


# Faults outside of items


@dataclass
class FaultyShard(Stage[int, int]):
    """The output's disk fails `faults` times."""

    faults: int

    def process(self, plan: int, context: Context) -> int:
        self.faults -= 1
        if self.faults >= 0:
            raise UserError("shard 3 cannot be read") from eio()
        return plan


def test_kind_17_faults_outside_of_items_are_retried_too() -> None:
    assert run_plan(FaultyShard(3), 7, Context()) == 7
    with pytest.raises(UserError, match=r"^shard 3 cannot be read"):
        run_plan(FaultyShard(4), 7, Context())


@dataclass(frozen=True)
class Careless(Stage[int, int]):
    """Fails outside of any item."""

    title = "careless"

    def process(self, plan: int, context: Context) -> int:
        return 10 // plan


def test_a_plan_that_fails_outside_of_items_lets_the_others_finish(
    ray_session: None, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"^1 plan.* failed.*ZeroDivisionError"):
        run_stage(Careless(), [1, 0, 2], TWO)
    assert "Traceback" in capfd.readouterr().err


def test_a_stage_runs_without_ray(tmp_path: Path) -> None:
    stage = Numbers(str(tmp_path), "bug")
    assert run_plan(stage, 3, Context()) == "model 3"
    assert run_plan(stage, 5, Context()).startswith("unexpected_error")


def test_the_exit_status_says_unexpected() -> None:
    raise_unexpected(0, 10, "rows", "x")
    with pytest.raises(UserError, match=r"^2 of 10 rows failed") as raised:
        raise_unexpected(2, 10, "rows", "x")
    assert raised.value.exit_status == 3


# Progress, locks


def test_a_plan_that_is_done_again_counts_once() -> None:
    progress = ProgressCounts()
    for counts in ({"clips": 1}, {"clips": 2}, {"clips": 1}):
        progress.report(0, counts)
    progress.report(1, {"clips": 5, "rejects": 1})
    assert progress.total() == {"clips": 6, "rejects": 1}


def test_kind_42_progress_that_cannot_be_polled_or_printed_fails_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> dict[str, int]:
        raise BrokenPipeError(errno.EPIPE, "nobody reads")

    with ProgressPrinter("title", 1, "items", broken):
        pass
    monkeypatch.setattr("sys.stderr.write", broken)
    with ProgressPrinter("title", 1, "items", lambda: {"items": 1}):
        pass


def test_kind_14_a_failure_can_be_stored_whatever_its_text() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError

    for error in (Odd(), ValueError("caf\udce9"), ValueError("x" * 100_000)):
        detail = failure_of(error).detail
        assert len(detail.encode()) < 110_000
        assert detail.startswith(type(error).__name__)


def test_kind_35_one_command_at_a_time_in_a_folder(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "out"),
        pytest.raises(UserError, match=r"out is being written by another command"),
        exclusive(tmp_path / "out"),
    ):
        pass
    with exclusive(tmp_path / "out"):
        assert list((tmp_path / "out").iterdir()) == []
    with exclusive("s3://bucket/x"):
        pass


def test_kind_35_a_mount_that_does_not_sync_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    store = Store(tmp_path)
    store.write_text("a", "text")
    assert store.read_text("a") == "text"


def test_a_finished_run_leaves_no_actor_behind(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session may see many runs, as in a notebook."""
    run = RunClient.start()
    monkeypatch.setattr(RunClient, "start", classmethod(lambda cls: run))
    assert numbers(tmp_path) == EXPECTED
    for _ in range(100):  # Ray ends it in its own time
        if run.ask("gone", "total") == "gone":
            return
        time.sleep(0.1)
    pytest.fail("the actor still answers")
