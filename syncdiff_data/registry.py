"""Names that a command line takes: keys of a registry, or `module:attribute` of a user's own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from syncdiff_data.records import UserError

Entry = TypeVar("Entry")


def is_own(name: str) -> bool:
    """Whether the name is `module:attribute` instead of a key of a registry."""
    return ":" in name


def lookup(name: str, registry: Mapping[str, Entry], what: str) -> Entry:
    """The registry's entry of that name. UserError with the names there are; `what` is the kind, as in "encoder"."""
    if name not in registry:
        raise UserError(
            f"There is no {what} {name!r}: choose one of {', '.join(registry)}, or module:NAME of your own."
        )
    return registry[name]


def import_own(name: str, what: str) -> Any:
    """The attribute that `module:attribute` names, from the working directory or PYTHONPATH.

    Raises UserError where the module cannot be imported or has no such attribute.
    """
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"The {what} {name!r} cannot be loaded ({error}): its module must be importable, on every node: from a "
            "package that is installed, or a folder on PYTHONPATH."
        ) from error
    return found


def source_file(name: str, what: str) -> Path:
    """The file that defines `module:attribute`: it decides results as weights do, so recipes hold its hash."""
    found = import_own(name, what)
    file = inspect.getsourcefile(
        found if inspect.isclass(found) or inspect.isfunction(found) else type(found)
    )
    if file is None:
        raise UserError(f"The {what} {name!r} has no source file: define it in a module.")
    return Path(file)


def choices(registry: Mapping[str, Any]) -> str:
    """What `--help` shows for a flag that takes a registry's names."""
    return f"{{{','.join(registry)},module:NAME}}"
