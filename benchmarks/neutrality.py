"""Do two revisions compute the same bytes? The proof that a rename or a refactoring changed no number.

    python benchmarks/neutrality.py BEFORE AFTER [--grid DIR] [--work DIR]

Each revision is checked out into a folder of its own and run from there: `preprocess` over the GRID folder and the
whole demo. Then the SHA-256 of every shard, dataset.json, demo talker and dub is compared, and the demo's
per_clip.parquet and results.json (without the commit it names). The demo's training is held to its steps: the
preset's limit of time is taken out, since a run that the clock ends differs from day to day. Exit status 1 where
anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
COMPARED = (
    "grid/**/*.parquet",
    "grid/dataset.json",
    "demo/**/*.parquet",
    "demo/**/*.mp4",
    "demo/**/dataset.json",
)


def check_out(revision: str, folder: Path) -> Path:
    """The revision's tree, without the clock in the demo's training preset."""
    tree = folder / "tree"
    if not tree.exists():
        tree.mkdir(parents=True)
        archive = subprocess.run(
            ["git", "archive", revision], cwd=REPOSITORY, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", str(tree)], input=archive, check=True)
        for preset in tree.glob("**/demo.yaml"):
            preset.write_text(re.sub(r"max_seconds: \d+", "max_seconds: 86400", preset.read_text()))
    return tree


def run_chain(tree: Path, folder: Path, grid: Path | None) -> None:
    """GRID's shards below folder/grid and the demo below folder/demo; what is there already is kept."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    commands = [["pipelines/demo.py", "--out", str(folder / "demo")]]
    if grid is not None:
        commands.insert(
            0,
            [
                "pipelines/preprocess.py",
                "--source",
                "grid",
                "--root",
                str(grid),
                "--out",
                str(folder / "grid"),
            ],
        )
    for command in commands:
        subprocess.run([sys.executable, *command], cwd=tree, env=environment, check=True)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every compared file by its name relative to the folder."""
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in COMPARED
        for path in sorted(folder.glob(pattern))
    }
    results = json.loads((folder / "demo/report/results.json").read_text(encoding="utf-8"))
    results.pop("git_commit")
    found["demo/report/results.json"] = hashlib.sha256(
        json.dumps(results, sort_keys=True).encode()
    ).hexdigest()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", help="git revision")
    parser.add_argument("after", help="git revision")
    parser.add_argument(
        "--grid", type=Path, help="a GRID speaker's folder; left out, only the demo is compared"
    )
    parser.add_argument("--work", type=Path, default=Path("neutrality"), help="default: %(default)s")
    options = parser.parse_args()
    sides = []
    for name, revision in (("before", options.before), ("after", options.after)):
        folder = options.work.absolute() / name
        run_chain(check_out(revision, folder), folder, options.grid and options.grid.absolute())
        sides.append(digests(folder))
    before, after = sides
    different = sorted(name for name in before | after if before.get(name) != after.get(name))
    for name in different:
        print(f"differs: {name}")
    print(f"{len(before)} files before, {len(after)} after, {len(different)} differ")
    raise SystemExit(bool(different))


if __name__ == "__main__":
    main()
