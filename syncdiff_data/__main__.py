"""python -m syncdiff_data: look at a data set, check it, and keep third-party weights in order."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from tyro.conf import Positional

from syncdiff_data.cli import RayOptions, for_console, run_commands, shared_path, user_path
from syncdiff_data.records import UserError
from syncdiff_data.shards.inspect import contact_sheet, summarise
from syncdiff_data.shards.validate import validate
from syncdiff_data.sources import source_root
from syncdiff_data.validation import check_on_ray
from syncdiff_data.weights.commands import COMMANDS as WEIGHTS_COMMANDS


def inspect_command(
    path: Positional[str],
    clips: str | None = None,
    contact_sheet_png: Annotated[Path | None, tyro.conf.arg(name="contact-sheet")] = None,
) -> None:
    """Show what a data set holds.

    Args:
        path: A data set of clips or features.
        clips: For features of `sync`: the clips they were made of, to name the sources that are out of step.
        contact_sheet_png: Also write this PNG: faces with landmarks and mouth crops of some clips.
    """
    path = shared_path("PATH", path)
    summarise(path, clips=None if clips is None else shared_path("--clips", clips))
    if contact_sheet_png is not None:
        contact_sheet(path, contact_sheet_png)
        print(contact_sheet_png)


def validate_command(
    dataset: Positional[str],
    clips: str | None = None,
    root: Path | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
) -> None:
    """Read every byte of a data set and check every promise it makes; exit status 2 when one is broken.

    Args:
        dataset: A data set of clips or features.
        clips: For features: the clips they were made of, to check them row by row.
        root: For clips: the sources, as preprocess took them (a folder, or a CSV of paths); crops of 100 clips are
            compared with their sources, decoded anew, if all else is well.
        workers: Shards checked in parallel; unset means as many as the cluster has room for.
        ray_address: Address of a running Ray; unset means $RAY_ADDRESS, else a local Ray that this command starts.
    """
    from syncdiff_data.audit import audit  # Needs the extra `data`, which looking at a data set does not.

    folder = None if root is None else source_root(Path(user_path("--root", root)))
    if folder is not None and not folder.is_dir():
        raise UserError(f"The root {root} does not exist: give the --root that preprocess took.")
    problems = validate(
        shared_path("DATASET", dataset),
        None if clips is None else shared_path("--clips", clips),
        check_on_ray(RayOptions(workers, ray_address)),
    )
    if folder is not None and not problems:
        problems += audit(dataset, folder, AUDITED_CLIPS)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise UserError(f"{dataset} has {len(problems)} problems.")
    Console().print(f"{for_console(dataset)}: [green]valid[/green]")


AUDITED_CLIPS = 100

COMMANDS = {"inspect": inspect_command, "validate": validate_command, "weights": WEIGHTS_COMMANDS}


def command() -> None:
    """The command line."""
    run_commands(COMMANDS, __doc__)


if __name__ == "__main__":
    command()
