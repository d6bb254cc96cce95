"""python -m syncdiff_eval inspect REPORT | validate REPORT | schema"""

from __future__ import annotations

import json
from pathlib import Path

import tyro
from rich.console import Console

from syncdiff_data.cli import run_commands
from syncdiff_eval.report.tables import terminal
from syncdiff_eval.results import Results, read_results
from syncdiff_eval.validate import validate_report


def inspect(report: tyro.conf.Positional[Path]) -> None:
    """Print a report's leaderboard."""
    terminal(read_results(report), Console())


def validate(report: tyro.conf.Positional[Path]) -> None:
    """Check a report's files against the schema and against each other; exit status 2 if they do not agree."""
    print(validate_report(report))


def schema() -> None:
    """Print the JSON schema of results.json."""
    print(json.dumps(Results.model_json_schema(), indent=2))


def command() -> None:
    """The command line."""
    run_commands({"inspect": inspect, "validate": validate, "schema": schema}, __doc__)


if __name__ == "__main__":
    command()
