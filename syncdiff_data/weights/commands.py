"""What `python -m syncdiff_data weights {list,fetch,import,verify}` does."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from tyro.conf import Positional

from syncdiff_data.cli import for_console
from syncdiff_data.records import UserError
from syncdiff_data.weights.registry import WEIGHTS
from syncdiff_data.weights.store import (
    cache_folder,
    check_hash,
    download,
    file_sha256,
    import_file,
    locate,
    lookup,
)


def list_weights() -> None:
    """Show every weight file: where it lies or that it is missing, its licence, and what needs it."""
    table = Table("name", "where", "size", "needed by", "licence")
    for weight in WEIGHTS.values():
        path = locate(weight)
        where, size = (str(path), decimal(path.stat().st_size)) if path else ("missing", "")
        table.add_row(weight.name, for_console(where), size, weight.needed_by, weight.licence)
    Console().print(table)


def fetch_weights(name: Positional[str]) -> None:
    """Download one weight file into the cache, verified where its hash is known.

    Args:
        name: A name that `weights list` shows.
    """
    weight = lookup(name)
    path = locate(weight)
    in_cache = path is not None and path.is_relative_to(cache_folder(weight))
    if path is None or (in_cache and not _is_published(name, path)):
        print(f"{weight.file_name}: {weight.licence} ({weight.page})")
        path = download(weight)
    check_hash(weight, path)
    print(path)


def import_weights(name: Positional[str], file: Positional[Path]) -> None:
    """Copy a weight file you already have into the cache.

    Args:
        name: A name that `weights list` shows.
        file: The published file; AV-HuBERT's checkpoints are converted on the way.
    """
    weight = lookup(name)
    print(f"{weight.file_name}: {weight.licence} ({weight.page})")
    print(import_file(weight, file))


def verify_weights() -> None:
    """Hash every weight file that is here and compare it with the published hash, where one is known."""
    table = Table("name", "file", "sha256", "verdict")
    wrong = []
    for weight in WEIGHTS.values():
        path = locate(weight)
        if path is None:
            continue
        good = _is_published(weight.name, path)
        verdict = "wrong" if not good else "as published" if weight.sha256 else "no published hash"
        table.add_row(weight.name, for_console(str(path)), file_sha256(path), verdict)
        if not good:
            wrong.append(weight.name)
    Console().print(table)
    if wrong:
        raise UserError(f"Not the published files: {', '.join(wrong)}. Fetch or import them again.")


def _is_published(name: str, path: Path) -> bool:
    try:
        check_hash(WEIGHTS[name], path)
    except UserError:
        return False
    return True


COMMANDS = {
    "list": list_weights,
    "fetch": fetch_weights,
    "import": import_weights,
    "verify": verify_weights,
}
"""For tyro.extras.subcommand_cli_from_dict."""
