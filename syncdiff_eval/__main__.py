"""python -m syncdiff_eval inspect REPORT | validate REPORT | merge A B --out OUT | compare A B | schema"""

from __future__ import annotations

import json
from pathlib import Path

import tyro
from rich.console import Console

from syncdiff_data.cli import run_commands
from syncdiff_eval.compare import compare_reports
from syncdiff_eval.merge import merge_reports
from syncdiff_eval.report.changes import print_comparison
from syncdiff_eval.report.tables import terminal
from syncdiff_eval.results import Results, read_results
from syncdiff_eval.validate import read_valid_report, validate_report


def inspect(report: tyro.conf.Positional[Path]) -> None:
    """Print a report's leaderboard."""
    terminal(read_results(report), Console())


def validate(report: tyro.conf.Positional[Path]) -> None:
    """Check a report's files against the schema and against each other; exit status 2 if they do not agree."""
    print(validate_report(report))


def merge(reports: tyro.conf.Positional[tuple[Path, ...]], out: Path, overwrite: bool = False) -> None:
    """Join reports of other methods on the same clips to one leaderboard.

    Args:
        reports: Two reports or more, of one protocol, with the same weights and versions.
        out: Folder of the joined report.
        overwrite: Replace a report that lies there.
    """
    merge_reports(reports, out, overwrite)
    print(f"{out / 'leaderboard.md'}\n{out / 'index.html'}")


def compare(first: tyro.conf.Positional[Path], second: tyro.conf.Positional[Path]) -> None:
    """Print what changed from one report to another of its protocol: scores, clips, settings, weights, versions."""
    print_comparison(compare_reports(read_valid_report(first), read_valid_report(second)), Console())


def schema() -> None:
    """Print the JSON schema of results.json."""
    print(json.dumps(Results.model_json_schema(), indent=2))


def command() -> None:
    """The command line."""
    commands = {
        "inspect": inspect,
        "validate": validate,
        "merge": merge,
        "compare": compare,
        "schema": schema,
    }
    run_commands(commands, __doc__)


if __name__ == "__main__":
    command()
