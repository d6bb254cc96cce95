"""Which code made a report."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which


def git_commit() -> str | None:
    """Of the checkout this package lies in; null where it was installed, or inside a Ray scoring."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists() or not which("git"):
        return None
    answer = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None
