"""The engine on Ray: order, models, exceptions of items, crashes, heartbeats."""

from __future__ import annotations

import gc
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine_stages import EXPECTED, TWO, notes_of, numbers

from syncdiff_data.records import UserError
from syncdiff_data.stage import (
    Context,
    Failure,
    Stage,
    heartbeat,
    run_stage,
)
from syncdiff_data.stage import context as context_module
from syncdiff_data.stage.actor import RunActor
from syncdiff_data.stage.quarantine import CrashCounts


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_module, "RETRY_AFTER_S", (0.0, 0.0, 0.0))


def test_results_come_in_the_order_of_the_plans(tmp_path: Path, ray_session: None) -> None:
    assert numbers(tmp_path, plans_per_block=1) == EXPECTED
    assert notes_of(tmp_path, "try") == 12


def test_no_plans_give_no_results(tmp_path: Path, ray_session: None) -> None:
    assert numbers(tmp_path, count=0) == []


def test_the_next_run_adds_no_class_of_its_actor(tmp_path: Path, ray_session: None) -> None:
    """Each `ray.remote` of a class is another one, which every process of the session and its GCS keep."""
    counts = []
    for _ in range(3):
        numbers(tmp_path, plans_per_block=4)
        gc.collect()
        counts.append(len(RunActor.__subclasses__()))
    assert counts[-1] <= counts[0], counts


def test_kind_47_models_are_loaded_once_a_process_and_off_the_heartbeat(
    tmp_path: Path, ray_session: None
) -> None:
    assert numbers(tmp_path, "slow setup", plans_per_block=1, heartbeat_timeout=1) == EXPECTED
    pids = {path.name.split("-")[1] for path in tmp_path.glob("setup-*")}
    assert notes_of(tmp_path, "setup") == len(pids) <= 3


def test_kind_14_an_unexpected_exception_is_one_failure(tmp_path: Path, ray_session: None) -> None:
    results = numbers(tmp_path, "bug")
    assert results[5].startswith("unexpected_error: KeyError: 'nobody foresaw this'")
    assert results[:5] + results[6:] == EXPECTED[:5] + EXPECTED[6:]


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("disk full", r"^No space left on device \(/scratch/x\): make room"),
        ("user", r"^the output is gone$"),
        ("no weights", r"^the weights are not there"),
        ("broken setup", r"a worker could not load what it needs: TypeError: no such layer"),
    ],
)
def test_kind_14_only_faults_of_the_run_end_it(
    what: str, sentence: str, tmp_path: Path, ray_session: None
) -> None:
    with pytest.raises(UserError, match=sentence):
        numbers(tmp_path, what)


def test_after_a_fault_of_the_run_ray_data_works_no_longer(tmp_path: Path, ray_session: None) -> None:
    """Its thread would go on with the other blocks, and start another Ray once this one is shut down."""
    with pytest.raises(UserError) as caught:
        numbers(tmp_path, "disk full", count=300, plans_per_block=1)
    assert caught.tb  # which holds the frames of the run
    assert not [
        name for name in (thread.name for thread in threading.enumerate()) if "StreamingExecutor" in name
    ]
    assert notes_of(tmp_path, "try") < 300


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("what", "plans_per_block"),
    [("crash", 1), pytest.param("hang", 1, marks=SLOW), pytest.param("crash", 64, marks=SLOW)],
)
def test_kind_31_the_third_crash_is_the_last(
    what: str, plans_per_block: int, tmp_path: Path, ray_session: None
) -> None:
    results = numbers(tmp_path, what, heartbeat_timeout=2, plans_per_block=plans_per_block)
    assert results[5].startswith("worker_crashed: crashed its worker 3 times in a row")
    assert results[:5] + results[6:] == EXPECTED[:5] + EXPECTED[6:]
    tries = len(list(tmp_path.glob("try-5-*")))
    assert tries == 3 or (tries == 4 and plans_per_block > 1), (
        "of many small plans one crash may go uncounted"
    )


def test_kind_31_one_crash_costs_nothing(tmp_path: Path, ray_session: None) -> None:
    assert numbers(tmp_path, "crash once") == EXPECTED


def test_kind_31_crashes_are_counted_in_a_row_and_lost_nodes_apart() -> None:
    lost: set[str] = set()
    counts = CrashCounts(lost.__contains__)
    assert [counts.begin("a", "n1") for _ in range(4)] == [True, True, True, False]
    counts = CrashCounts(lost.__contains__)
    assert counts.begin("a", "n1")
    assert counts.begin("a", "n1")
    counts.end("a")
    assert [counts.begin("a", "n1") for _ in range(4)] == [True, True, True, False], "finished: from zero"
    counts = CrashCounts(lambda node: True)
    assert [counts.begin("a", "n1") for _ in range(10)] == [True] * 10, "preempted nodes are no crashes"
    assert not counts.begin("a", "n1"), "but what takes ten nodes down is not tried again"


@dataclass(frozen=True)
class KilledAtCommit(Stage[int, int]):
    """Its worker is killed four times after the last item, while the shard is written."""

    notes: str

    plans_per_block = 1

    def process(self, plan: int, context: Context) -> int:
        records = list(context.item("the last source", lambda: [41]))
        tries = len(list(Path(self.notes).iterdir()))
        Path(self.notes, f"try-{tries}").touch()
        if tries < 4:
            os.kill(os.getpid(), signal.SIGKILL)
        assert not isinstance(records[0], Failure), records[0].detail
        return records[0] + 1


def test_kind_31_a_finished_source_has_no_crash_count(tmp_path: Path, ray_session: None) -> None:
    assert run_stage(KilledAtCommit(str(tmp_path)), [0], TWO) == [42]


class Clock:
    """Stands for faulthandler and time in heartbeat.py: what would end the process, and when."""

    def __init__(self) -> None:
        self.now, self.ends_at = 0.0, float("inf")

    def monotonic(self) -> float:
        return self.now

    def dump_traceback_later(self, seconds: float, exit: bool) -> None:
        assert exit
        self.ends_at = self.now + seconds

    def cancel_dump_traceback_later(self) -> None:
        self.ends_at = float("inf")


def test_kind_48_a_heartbeat_restarts_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    monkeypatch.setattr(heartbeat, "faulthandler", clock)
    with heartbeat.Watchdog(10) as watchdog:
        assert clock.ends_at == 10
        for second in range(1, 50):
            clock.now = second
            watchdog.heartbeat()
            assert clock.ends_at == second + 10
        clock.now += 0.01
        watchdog.heartbeat()
        assert clock.ends_at == 59, "not at every frame: a restart starts a thread"
    assert clock.ends_at == float("inf"), "nothing is watched outside"
    with heartbeat.Watchdog(0):
        assert clock.ends_at == float("inf"), "0: never"
