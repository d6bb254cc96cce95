"""Stages for tests of the engine: numbered plans, some of which crash, hang or fail."""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from syncdiff_data.cli import RayOptions
from syncdiff_data.records import UserError
from syncdiff_data.stage import (
    Context,
    Failure,
    Resources,
    Stage,
    run_stage,
)

TWO = RayOptions(workers=2)


@dataclass(frozen=True)
class Numbers(Stage[int, str]):
    """Plans are numbers; `what` says how some of them go wrong. `notes` is a folder for what workers leave."""

    notes: str
    what: str = ""
    heartbeat_timeout: float = 0
    plans_per_block: int = 64
    resources: Resources = field(default_factory=Resources)

    title = "numbers"
    unit = "numbers"

    @cached_property
    def model(self) -> str:
        Path(self.notes, f"setup-{os.getpid()}-{time.monotonic_ns()}").touch()
        if self.what == "slow setup":
            time.sleep(self.heartbeat_timeout + 0.5)
        if self.what == "no weights":
            raise UserError("the weights are not there: fetch them")
        if self.what == "broken setup":
            raise TypeError("no such layer")
        return "model"

    def setup(self) -> None:
        _ = self.model

    def item_name(self, plan: int) -> str:
        return f"number {plan}"

    def process(self, plan: int, context: Context) -> str:
        tries = len(list(Path(self.notes).glob(f"try-{plan}-*")))
        Path(self.notes, f"try-{plan}-{tries}").touch()
        if plan == 5:
            self._go_wrong(tries)
        context.report({"numbers": 1})
        return f"{self.model} {plan}"

    def _go_wrong(self, tries: int) -> None:
        if self.what == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "crash once" and tries == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "hang":
            time.sleep(3600)
        if self.what == "bug":
            raise KeyError("nobody foresaw this")
        if self.what == "disk full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/x")
        if self.what == "user":
            raise UserError("the output is gone")

    def failed(self, plan: int, failure: Failure) -> str:
        return f"{failure.reason}: {failure.detail.splitlines()[0]}"


def numbers(
    notes: Path, what: str = "", count: int = 12, options: RayOptions = TWO, **fields: object
) -> list[str]:
    return run_stage(Numbers(str(notes), what, **fields), range(count), options)  # type: ignore[arg-type]


def notes_of(folder: Path, kind: str) -> int:
    return len(list(folder.glob(f"{kind}-*")))


EXPECTED = [f"model {i}" for i in range(12)]
