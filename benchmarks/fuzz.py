"""Damaged files by the thousand: does every one end as a result or as a refusal with a reason?

    python benchmarks/fuzz.py --part media --count 10000 --log media.jsonl

Parts: media (videos and sounds through probe, preprocessing, dubbing and scoring), tables (CSV, YAML, JSON), shards
(Parquet), checkpoints (models, published weights, pickles that would run code). Good files are made, case i of a seed
is a damaged copy of one of them, and functions of the library read it in worker processes whose address space is
limited.

A finding is an exception that nobody foresaw, a fault of the file that is blamed on the disk, a crash, a hang, or more
memory than allowed; its file is kept in --keep. --log takes one line a case: the same command again goes on behind the
last one, so that a long run may be done in pieces (--first, --count, --seconds). The summary is that of the whole log.
Exit status 1 where there is a finding.
"""

from __future__ import annotations

import collections
import importlib
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import tyro

PARTS = {"media": "fuzz_media", "tables": "fuzz_files", "shards": "fuzz_files", "checkpoints": "fuzz_files"}
"""Part -> the module beside this one that has it, by name in its PARTS."""
Act = Callable[[], str]
"""Does one thing with a file; how it ended, in a word."""


@dataclass(frozen=True)
class Options:
    part: Literal["media", "tables", "shards", "checkpoints"] = "media"
    count: int = 10_000
    first: int = 0
    """Number of the first case."""
    seed: int = 0
    workers: int = 1
    timeout_s: float = 30
    """Seconds of a case after which it counts as a hang."""
    memory_mib: int = 1024
    """Address space of a worker beyond what it has once everything is loaded."""
    seconds: float = 0
    """Start no further case after so many seconds; 0: never stop before the last."""
    log: Path | None = None
    keep: Path = Path("fuzz-findings")


class Part(Protocol):
    """One kind of files. Made anew in each worker by `load(good, scratch)`."""

    def make(self, good: Path) -> None:
        """Write the good files below an empty folder; the same bytes every time."""

    def load(self, good: Path, scratch: Path) -> Loaded:
        """What a worker needs."""


class Loaded(Protocol):
    def damage(self, rng: np.random.Generator) -> tuple[str, bytes]:
        """The name of the damaged copy, which says what it is of, and its bytes."""

    def acts(self, name: str, data: bytes) -> Iterator[tuple[str, Act]]:
        """(what is done, the act) for a damaged file."""


@dataclass
class Case:
    """What became of one damaged file."""

    number: int
    name: str = ""
    ends: dict[str, str] = field(default_factory=dict)
    """What was done -> how it ended."""
    finding: str | None = None
    doing: str = ""
    """What was being done last."""
    peak_mib: int = 0
    seconds: float = 0.0


def find_part(name: str) -> Part:
    part: Part = importlib.import_module(PARTS[name]).PARTS[name]
    return part


def run_case(
    loaded: Loaded, seed: int, number: int, tell: Callable[[str], None] = lambda doing: None
) -> Case:
    """Damage one file and do everything with it. tell: called before each act."""
    case, started = Case(number), time.monotonic()
    case.name, data = loaded.damage(np.random.default_rng([seed, number]))
    for doing, act in loaded.acts(case.name, data):
        tell(doing)
        case.doing = doing
        try:
            case.ends[doing] = act()
        except BaseException as error:
            case.finding = "".join(traceback.format_exception(error))[-4000:]
            break
    case.peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    case.seconds = time.monotonic() - started
    return case


def address_space() -> int:
    """Bytes of address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def serve(pipe: Connection, part: str, good: Path, scratch: Path, seed: int, memory_mib: int) -> None:
    """A worker: numbers of cases come in; what is being done and Cases go out."""
    loaded = find_part(part).load(good, scratch)
    pa.allocate_buffer(1)  # Arrow reserves a gigabyte of addresses at its first allocation.
    limit = address_space() + memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send("ready")
    while (number := pipe.recv()) is not None:
        pipe.send(run_case(loaded, seed, number, pipe.send))


class Worker:
    """A worker process and the case it has."""

    def __init__(self, options: Options, good: Path, scratch: Path):
        self._new = options, good, scratch
        self._start()

    def _start(self) -> None:
        options, good, scratch = self._new
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.scratch = Path(tempfile.mkdtemp(dir=scratch))
        arguments = (theirs, options.part, good, self.scratch, options.seed, options.memory_mib)
        self.process: BaseProcess = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        if self.pipe.recv() != "ready":
            raise RuntimeError("a worker did not start")
        self.case: Case | None = None

    def begin(self, number: int) -> None:
        self.case, self.started = Case(number), time.monotonic()
        self.pipe.send(number)

    def answer(self, timeout_s: float) -> Case | None:
        """Its finished case, or None while it is at work; a worker that died or hangs gives a finding and is
        replaced."""
        assert self.case is not None
        try:
            while self.pipe.poll():
                message = self.pipe.recv()
                if isinstance(message, Case):
                    return message
                self.case.doing = message
        except (EOFError, OSError):
            self.process.join()
            self.case.finding = f"crash: the process ended with {self.process.exitcode} in {self.case.doing}"
            return self._replaced()
        if time.monotonic() - self.started > timeout_s:
            self.process.kill()
            self.process.join()
            self.case.finding = f"hang: over {timeout_s:g} s in {self.case.doing}"
            return self._replaced()
        return None

    def _replaced(self) -> Case:
        case = self.case
        assert case is not None
        self.pipe.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
        self._start()
        return case

    def stop(self) -> None:
        self.pipe.send(None)
        self.process.join()


def cases(options: Options, numbers: Iterator[int], good: Path, scratch: Path) -> Iterator[Case]:
    """The cases of these numbers, as they are finished."""
    workers = [Worker(options, good, scratch) for _ in range(options.workers)]
    ended = time.monotonic() + options.seconds if options.seconds else float("inf")
    while True:
        for worker in workers:
            if (
                worker.case is None
                and time.monotonic() < ended
                and (number := next(numbers, None)) is not None
            ):
                worker.begin(number)
        busy = [worker for worker in workers if worker.case is not None]
        if not busy:
            break
        wait([worker.pipe for worker in busy], timeout=1)
        for worker in busy:
            if (case := worker.answer(options.timeout_s)) is not None:
                worker.case = None
                yield case
    for worker in workers:
        worker.stop()


def keep_file(options: Options, loaded: Loaded, case: Case) -> None:
    """Make the damaged file of a finding again, for a look at it."""
    name, data = loaded.damage(np.random.default_rng([options.seed, case.number]))
    options.keep.mkdir(parents=True, exist_ok=True)
    (options.keep / f"{options.part}-{options.seed}-{case.number}-{name.replace('/', '_')}").write_bytes(data)
    case.name = name


def read_log(log: Path | None) -> dict[int, Case]:
    if log is None or not log.exists():
        return {}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return {line["number"]: Case(**line) for line in lines}


def summary(found: Mapping[int, Case]) -> str:
    """Counts of ends by what was done, the largest memory and time, and the findings."""
    ends: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for case in found.values():
        for doing, end in case.ends.items():
            ends[doing][end] += 1
    lines = [f"{len(found)} damaged files"]
    for doing, counts in ends.items():
        lines.append(
            f"  {doing}: {sum(counts.values())}: "
            + ", ".join(f"{n} {end}" for end, n in counts.most_common())
        )
    peak, slowest = (max(getattr(case, name) for case in found.values()) for name in ("peak_mib", "seconds"))
    lines.append(f"largest process {peak} MiB; slowest file {slowest:.1f} s")
    findings = [case for case in found.values() if case.finding]
    lines.append(f"findings: {len(findings)}")
    for case in findings:
        last = (case.finding or "").strip().splitlines()[-1]
        lines.append(f"  {case.number} {case.name} {case.doing}: {last[:200]}")
    return "\n".join(lines)


def fuzz(options: Options) -> dict[int, Case]:
    """All cases that were asked for, and those that the log has already."""
    found = read_log(options.log)
    numbers = (n for n in range(options.first, options.first + options.count) if n not in found)
    with tempfile.TemporaryDirectory() as name:
        good, scratch = Path(name) / "good", Path(name) / "scratch"
        good.mkdir(), scratch.mkdir()
        part = find_part(options.part)
        part.make(good)
        loaded: Any = None
        for case in cases(options, numbers, good, scratch):
            if case.finding:
                loaded = loaded or part.load(good, scratch)
                keep_file(options, loaded, case)
            found[case.number] = case
            if options.log is not None:
                with options.log.open("a") as log:
                    log.write(json.dumps(asdict(case)) + "\n")
    return found


def main(options: Options) -> None:
    found = fuzz(options)
    print(summary(found))
    raise SystemExit(any(case.finding for case in found.values()))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
