"""SIGKILLs over every pipeline: are the outputs those of a run that nobody disturbed?

    python benchmarks/kills.py --out FOLDER [--kills 1000] [--seed 0] [--stages preprocess train]   (make prove-kills)

A round runs one command on generated talkers from an empty folder to its end. On the way it kills

- a worker: a process of Ray that works for the run, or one that loads training batches,
- the driver: the command itself, and nothing else of it,
- the machine: the command and all that it started, at once,
- the raylet of the command's own Ray,
- a whole node of a cluster, in whose place another is started (every second round runs on one, made of `ray start` on
  ports of its own: a head without CPUs, two nodes of one CPU),

each after a random pause, starts the same command again wherever it ended, and compares every file with those of the
undisturbed run; of training the weights byte by byte, the optimisers' states by value, and the losses of all steps. The
third crash of one item in one run makes it a reject by design, so at most two workers are killed between two starts.
With --clips 120 a start has ten times as many kills; what was made a reject is then tried again by --retry-failed.

A line a round goes to FOLDER/rounds.csv; run it again and it goes on after the last, with the moments that the seed
gives to the next round. At the end, or for --kills 0, the table of all rounds there. Exit status 1 where a file
differs, a command hangs, prints a stack, leaves processes or ends with another status than 0 though what it runs on
was there.
"""

from __future__ import annotations

import csv
import itertools
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import tyro
from own_cluster import Cluster, cluster_of_two, kill
from small_chain import CLIPS, ROOT, STAGES, Chain, environment, family, title

ENDS = ("driver", "machine", "raylet")
"""What ends a command."""
KINDS = ("worker", *ENDS, "node")
ENDINGS = (2, 6)
"""Fewest and most times that a round's command is ended by force."""
RETRIED = ("preprocess", "extract_features", "benchmark")
QUARANTINED = "worker_crashed"
AGAIN = "again"
MORE_STARTS = 3
"""Starts beyond those ended by force that may lose workers, which ends training; the next is not disturbed."""
WORKERS = ("ray::Map", "ray::RunActor", "ray::RayTrainWorker", "ray::TrainController")
COLUMNS = ("round", "stage", "ray", "starts", *KINDS, "seconds", "equal", "what")
OF_RAY = ("Ray could not be started on this machine", "The core worker has already been shutdown")
"""Ends of a command that are Ray's own, on a busy machine: it did not start, or it stopped the driver's process while
it shut down. The command is started again, MOST_OF_RAY times in a round; rounds.csv notes it."""
MOST_OF_RAY = 2
LONGEST_S = 900.0
"""Of one start of a command, on a machine that does nothing else: longer is a hang."""
LONGEST_LEFT_S = 120.0
"""So long after a command's end its processes may be there."""


@dataclass(frozen=True)
class Options:
    out: Path
    """Inputs, undisturbed outputs and rounds.csv; the same folder goes on."""
    kills: int = 1000
    """Rounds are run until there were so many, those of earlier calls included."""
    seed: int = 0
    stages: tuple[str, ...] = STAGES
    local: float = 0.5
    """Share of rounds that run on a Ray of the command's own, and not on the cluster."""
    clips: int = CLIPS
    """Talkers. With more of them a run is longer, and as many more workers and nodes are killed in it."""
    seconds: float | None = None
    """Begin no round after so many seconds; unset goes on to --kills."""


@dataclass
class Round:
    """One command from an empty folder to its end, with kills on the way."""

    chain: Chain
    stage: str
    out: Path
    rng: random.Random
    lasts: float
    """Seconds of an undisturbed run, over which the moments are drawn."""
    cluster: Cluster | None
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    notes: list[str] = field(default_factory=list)
    deadline: float = 0.0
    text: str = ""
    """What the last start printed."""
    family: set[psutil.Process] = field(default_factory=set)
    """Processes of the command under way as they were at its kills."""

    def run(self) -> list[str]:
        """What is wrong in the end."""
        shutil.rmtree(self.out, ignore_errors=True)
        ends = self.rng.randint(*ENDINGS)
        for start in itertools.count():
            undisturbed = start > ends + MORE_STARTS
            self.starts += 1
            outcome = self._start([] if undisturbed else self._plan(ends_by_force=start < ends))
            if outcome != AGAIN:
                return self._found(outcome)
        raise AssertionError

    def _found(self, outcome: str) -> list[str]:
        """What is wrong after the last start. Of a long list an item may have crashed three times in a row: a reject
        by design, which --retry-failed tries again."""
        found = [outcome] if outcome else self.chain.differences(self.stage, self.out)
        if found and not outcome and self.stage in RETRIED and QUARANTINED in self.text:
            self.notes.append(QUARANTINED)
            self.starts += 1
            outcome = self._start([], "--retry-failed")
            found = [outcome] if outcome else self.chain.differences(self.stage, self.out)
        return found

    def _plan(self, ends_by_force: bool) -> list[tuple[float, str]]:
        """Seconds since the kill before it and what is killed then; only the last may end the command."""
        kinds = []
        for _ in range(max(1, self.chain.clips // CLIPS)):
            kinds += ["worker"] * self.rng.choice((0, 1, 1, 2))
            if self.cluster:
                kinds += ["node"] * self.rng.randint(0, 2)
        self.rng.shuffle(kinds)
        if ends_by_force:
            ways = ("driver",) if self.cluster else ("driver", "machine") if self.stage == "train" else ENDS
            kinds.append(self.rng.choice(ways))
        return [(self.rng.uniform(0, self.lasts / len(kinds)), kind) for kind in kinds]

    def _start(self, plan: list[tuple[float, str]], *more: str) -> str:
        """Run the command and kill by the plan: AGAIN where it has to be started again, an empty text where it ended
        well, else what is wrong."""
        before = self.kills.copy()
        self.family.clear()
        variables = self.cluster.environment if self.cluster else environment()
        with tempfile.TemporaryFile() as log:
            driver = subprocess.Popen([*self._line(), *more], cwd=ROOT, env=variables, stdout=log, stderr=log)
            self.deadline = time.monotonic() + LONGEST_S
            try:
                for pause, kind in plan:
                    if not self._wait(driver, pause):
                        break
                    self.kills[kind] += self._kill_one(kind, driver)
                status = driver.wait(max(1.0, self.deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return f"start {self.starts} hangs"
            finally:
                if driver.poll() is None:
                    kill(family(driver.pid))
            left = psutil.wait_procs(self.family, LONGEST_LEFT_S)[1]
            if left:
                titles = ", ".join(map(title, left))
                kill(left)
                return f"start {self.starts} leaves processes: {titles}"
            log.seek(0)
            self.text = log.read().decode(errors="replace")
        return self._judge(status, self.text, {kind for kind in KINDS if self.kills[kind] > before[kind]})

    def _judge(self, status: int, text: str, hit: set[str]) -> str:
        """What an exit status and the text printed mean, as `_start` returns it. hit: the kinds that were killed."""
        ended = bool(hit & {*ENDS})
        # The stacks that Ray prints of its own begin with a name.
        if "\nTraceback" in f"\n{text}" and not ended:
            return f"start {self.starts} prints a stack: {text[-1500:]}"
        # Training in one process needs those that load its batches, Ray Train its controller.
        if status and (ended or (hit and self.stage.startswith("train"))):
            return AGAIN
        said = next((words for words in OF_RAY if words in text), None)
        if status and said and len(self.notes) < MOST_OF_RAY:
            self.notes.append(f"start {self.starts}: {said}")
            return AGAIN
        return f"start {self.starts} ends with status {status}: {text[-1500:]}" if status else ""

    def _line(self) -> list[str]:
        where = ["--ray-address", self.cluster.address] if self.cluster else []
        return self.chain.line(self.stage, self.out, *where)

    def _kill_one(self, kind: str, driver: subprocess.Popen[bytes]) -> bool:
        """Of that kind; whether there was one."""
        self.family |= set(family(driver.pid))
        if kind == "worker":
            return self._kill_a_worker(driver)
        if kind == "node":
            assert self.cluster
            self.cluster.replace_node(self.rng)
            return True
        members = list(family(driver.pid))
        if kind == "driver":
            members = [member for member in members if member.pid == driver.pid]
        if kind == "raylet":
            members = [member for member in members if title(member).endswith("raylet/raylet")]
        return kill(members)

    def _kill_a_worker(self, driver: subprocess.Popen[bytes]) -> bool:
        """One, as soon as there is one."""
        while driver.poll() is None and time.monotonic() < self.deadline:
            if (worker := self._worker(driver)) is not None:
                return kill([worker])
            time.sleep(0.1)
        return False

    def _wait(self, driver: subprocess.Popen[bytes], seconds: float) -> bool:
        """So long; False where the command is over before."""
        with suppress(subprocess.TimeoutExpired):
            driver.wait(seconds)
        return driver.poll() is None

    def _worker(self, driver: subprocess.Popen[bytes]) -> psutil.Process | None:
        """One that works for the run; None where none does at this moment."""
        roots = [node.pid for node in self.cluster.nodes] if self.cluster else [driver.pid]
        members = [
            member for root in roots for member in family(root) if member.pid not in (*roots, driver.pid)
        ]
        found = [
            member
            for member in members
            if title(member).startswith(WORKERS) or (self.stage == "train" and loads_batches(member))
        ]
        return self.rng.choice(found) if found else None


def loads_batches(process: psutil.Process) -> bool:
    """A worker of a DataLoader: a child of the fork server."""
    try:
        return "forkserver" in " ".join(process.parent().cmdline())
    except (psutil.Error, AttributeError):
        return False


def read_rounds(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def add_round(path: Path, row: dict[str, object]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def killed(rounds: Iterable[dict[str, str]]) -> int:
    return sum(int(row[kind]) for row in rounds for kind in KINDS)


def table(rounds: list[dict[str, str]]) -> str:
    """Markdown: what was killed of each stage, and whether the outputs are equal."""
    lines = ["| stage | workers | drivers | machines | raylets | nodes | kills | runs | starts | equal |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|--:|--:|---|")
    for stage in (*STAGES, "all"):
        rows = [row for row in rounds if stage in (row["stage"], "all")]
        if rows:
            counts = [sum(int(row[kind]) for row in rows) for kind in KINDS]
            equal = sum(row["equal"] == "yes" for row in rows)
            starts = sum(int(row["starts"]) for row in rows)
            cells = [stage, *counts, sum(counts), len(rows), starts, f"{equal} of {len(rows)}"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def run_round(options: Options, chain: Chain, number: int, cluster: Cluster | None) -> bool:
    """One round and its line; whether the output is equal."""
    stage = options.stages[number % len(options.stages)]
    rng = random.Random(f"{options.seed} {number}")
    out = options.out / "killed"
    lasts = float((chain.folder / f"{stage}.done").read_text())
    on_cluster = rng.random() >= options.local and stage != "train"
    began = time.monotonic()
    found = Round(chain, stage, out, rng, lasts, cluster if on_cluster else None)
    problems = found.run()
    row = {
        "round": number,
        "stage": stage,
        "ray": "cluster" if on_cluster else "local",
        "starts": found.starts,
    }
    row |= {kind: found.kills[kind] for kind in KINDS}
    row |= {
        "seconds": round(time.monotonic() - began),
        "equal": "no" if problems else "yes",
        "what": "; ".join([*found.notes, *problems]),
    }
    add_round(options.out / "rounds.csv", row)
    print({name: value for name, value in row.items() if value not in (0, "")}, flush=True)
    return not problems


def main(options: Options) -> None:
    """Prepare, run rounds, print the table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves no process behind
    chain, log, began = (
        Chain(options.out.absolute(), options.clips),
        options.out / "rounds.csv",
        time.monotonic(),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    if options.kills:
        with cluster_of_two() as cluster:
            chain.prepare(options.stages, cluster.address, cluster.environment)
            while (kills := killed(read_rounds(log))) < options.kills:
                if options.seconds is not None and time.monotonic() - began > options.seconds:
                    print(f"{kills} of {options.kills} kills; run it again to go on", flush=True)
                    break
                done = {int(row["round"]) for row in read_rounds(log)}
                run_round(options, chain, next(n for n in itertools.count() if n not in done), cluster)
    rounds_there = read_rounds(log)
    print(table(rounds_there))
    raise SystemExit(any(row["equal"] == "no" for row in rounds_there))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
