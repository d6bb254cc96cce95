"""The disk of the output is full, at every write: is all kept that was there, and does the next run go on?

    python benchmarks/full_disk.py --out FOLDER [--step 64] [--stages preprocess train] [--seconds 800]

A command writes into a tmpfs of --step KiB, which is full before the command is done. The disk grows by --step KiB and
the same command runs again, until it ends well: so the disk is full at every multiple of --step that the output takes.
Each run that cannot end well must end with status 2 and one sentence that says that the disk is full, no stack; every
file that was there before it must be there after it with the same bytes, or whole and newer; in the end all files are
those of a run with room (small_chain.py). A report that only lacks its previews is whole: the sentence says so, and the
status is 0.

Commands run on one Ray of the proof's own. The tmpfs lies in a mount namespace of this process, so that no right but
the kernel's user namespaces is needed and nothing is left. FOLDER/disk.csv has a line a stage; run it again for others.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import tyro
from own_cluster import Cluster, cluster_of_two
from small_chain import ROOT, STAGES, Chain, outputs

PRIVATE = "SYNCDIFF_PRIVATE_MOUNTS"
MAY_CHANGE = ("dataset.json", "run.json", "dubs.json", "dubs.csv", "results.json", "index.html")
"""Files that a run writes anew: those of the run before may differ, and must be whole."""
NO_PREVIEWS = "The report has no previews: "
PASSING = (".tmp", "events.out.tfevents", "cache/lock", "ray_train/")
LARGEST_KIB = 64 * 1024
"""A disk on which every command has room."""


@dataclass(frozen=True)
class Options:
    out: Path
    """Inputs, undisturbed outputs and disk.csv."""
    step: int = 64
    """KiB by which the disk grows from run to run."""
    stages: tuple[str, ...] = tuple(stage for stage in STAGES if stage != "train_on_workers")
    seconds: float | None = None
    """Begin no stage after so many seconds."""


@dataclass
class Row:
    """A line of disk.csv: one stage."""

    stage: str
    step: int
    runs: int = 0
    """Of which all but the last found the disk full."""
    kib: int = 0
    """Size of the disk in the last."""
    lost: int = 0
    """Files that were there before a run and not after it."""
    stacks: int = 0
    sentences: int = 0
    """Runs with one sentence on the disk and status 2."""
    equal: str = ""
    what: str = ""


def fill(chain: Chain, stage: str, step: int, cluster: Cluster) -> Row:
    """One stage on a disk that grows."""
    row, disk = Row(stage, step), chain.folder / "disk"
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={step}k", "tmpfs", str(disk)], check=True)
    try:
        while True:
            row.runs, row.kib = row.runs + 1, row.kib + step
            subprocess.run(["mount", "-o", f"remount,size={row.kib}k", str(disk)], check=True)
            before = kept(disk / "out")
            line = chain.line(stage, disk / "out", "--ray-address", cluster.address)
            run = subprocess.run(line, cwd=ROOT, env=cluster.environment, capture_output=True, text=True)
            judge(row, run, before, kept(disk / "out"))
            without_previews = NO_PREVIEWS in run.stderr
            if (run.returncode == 0 and not without_previews) or row.kib > LARGEST_KIB:
                found = chain.differences(stage, disk / "out")
                row.equal = "no" if found else "yes"
                row.what += "; ".join(found)
                return row
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def kept(folder: Path) -> dict[str, bytes]:
    """The files that a killed or stopped command leaves to the next one."""
    found = outputs(folder) if folder.exists() else {}
    return {name: data for name, data in found.items() if not any(part in name for part in PASSING)}


def is_whole(name: str, data: bytes) -> bool:
    """Whether a file that a run writes anew was written to its end."""
    if name.endswith(".json"):
        with suppress(ValueError):
            json.loads(data)
            return True
        return False
    return data.rstrip().endswith(b"</html>") if name.endswith(".html") else data.endswith(b"\n")


def lost_files(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Files that are gone, changed or cut. Old checkpoints go by design; the end of the run is compared in any case."""
    gone = [name for name in before if name not in after and "checkpoints/" not in name]
    changed = [name for name in before.keys() & after.keys() if before[name] != after[name]]
    return gone + [n for n in changed if Path(n).name not in MAY_CHANGE or not is_whole(n, after[n])]


def judge(
    row: Row, run: subprocess.CompletedProcess[str], before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    """Add to the row what one run did."""
    if lost := lost_files(before, after):
        row.lost += len(lost)
        row.what += f"lost at {row.kib} KiB: {', '.join(lost[:3])}; "
    said = [text for text in run.stderr.splitlines() if text.startswith("error: ")]
    stack = "\nTraceback" in f"\n{run.stderr}"
    row.stacks += stack
    if NO_PREVIEWS in run.stderr:
        row.sentences += 1
    elif run.returncode:
        right = run.returncode == 2 and len(said) == 1 and "No space left on device" in said[0]
        row.sentences += right
        if stack or not right:
            row.what += f"at {row.kib} KiB status {run.returncode}: {run.stderr[-800:]}; "


def full(row: dict[str, str]) -> int:
    """Runs that found the disk full."""
    return int(row["runs"]) - 1


def is_good(row: dict[str, str]) -> bool:
    return (
        row["equal"] == "yes" and row["lost"] == row["stacks"] == "0" and int(row["sentences"]) == full(row)
    )


def table(rows: list[dict[str, str]]) -> str:
    """Markdown."""
    lines = [
        "| stage | step, KiB | disk in the end, KiB | runs on a full disk | one sentence | stacks | lost | equal |"
    ]
    lines.append("|---|--:|--:|--:|--:|--:|--:|---|")
    for row in rows:
        cells = [row[name] for name in ("stage", "step", "kib")]
        cells += [str(full(row)), *(row[name] for name in ("sentences", "stacks", "lost", "equal"))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Prepare, fill, print the table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves no process behind
    chain, path, began = Chain(options.out.absolute()), options.out / "disk.csv", time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    with cluster_of_two() as cluster:
        chain.prepare(options.stages, cluster.address, cluster.environment)
        for stage in options.stages:
            if options.seconds is not None and time.monotonic() - began > options.seconds:
                break
            row = asdict(fill(chain, stage, options.step, cluster))
            print(row, flush=True)
            new = not path.exists()
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, [field.name for field in fields(Row)])
                if new:
                    writer.writeheader()
                writer.writerow(row)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    print(table(rows))
    raise SystemExit(not all(map(is_good, rows)))


if __name__ == "__main__":
    chosen = tyro.cli(Options, description=__doc__)
    if PRIVATE not in os.environ:
        unshare = shutil.which("unshare") or "unshare"
        os.execve(
            unshare,
            [unshare, "--map-root-user", "--mount", sys.executable, *sys.argv],
            os.environ | {PRIVATE: "1"},
        )
    main(chosen)
