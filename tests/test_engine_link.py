"""Messages of workers to the actor of the run: which items wait for it, by a clock that stands for time."""

from __future__ import annotations

from typing import Any

import pytest

from syncdiff_data.stage import link as link_module
from syncdiff_data.stage.actor import LocalRun
from syncdiff_data.stage.link import MAX_WAIT_SHARE, REPORT_EVERY_S, Link

ANSWER_S = 0.002


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


class SlowRun(LocalRun):
    """An actor whose answers take ANSWER_S."""

    def __init__(self, clock: Clock):
        super().__init__()
        self.clock, self.asked, self.sent = clock, 0, 0

    def ask(self, default: Any, method: str, *arguments: Any) -> Any:
        self.clock.now += ANSWER_S
        self.asked += method == "begin"
        return super().ask(default, method, *arguments)

    def send(self, method: str, *arguments: Any) -> None:
        self.sent += 1
        super().send(method, *arguments)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> SlowRun:
    clock = Clock()
    monkeypatch.setattr(link_module, "time", clock)
    return SlowRun(clock)


def process(link: Link, run: SlowRun, seconds: float, count: int = 1000) -> None:
    for number in range(count):
        assert link.begin(f"{number}")
        run.clock.now += seconds
        link.end(f"{number}")
    link.flush()


def test_items_of_a_second_all_wait(run: SlowRun) -> None:
    link = Link(run)
    link.begin_block(0)
    process(link, run, 1.0)
    assert run.asked == 1000


def test_quick_items_wait_a_twentieth_of_the_time(run: SlowRun) -> None:
    link = Link(run)
    link.begin_block(0)
    process(link, run, 0.005)
    assert 0 < run.asked * ANSWER_S <= MAX_WAIT_SHARE * run.clock.now + ANSWER_S
    assert run.sent <= run.asked + 2 * run.clock.now / REPORT_EVERY_S
    assert not run.actor.crashes.node, "all that began has ended"


def test_after_a_lost_worker_every_item_waits(run: SlowRun) -> None:
    Link(run).begin_block(0)
    link = Link(run)
    link.begin_block(0)
    process(link, run, 0.0)
    assert run.asked == 1000


def test_a_crash_of_an_item_that_waited_is_counted_and_an_end_clears_it(run: SlowRun) -> None:
    first, second = Link(run), Link(run)
    first.begin("a")
    second.begin("a")
    assert run.actor.crashes.crashes == {"a": 1}
    second.end("a")
    assert not run.actor.crashes.crashes
