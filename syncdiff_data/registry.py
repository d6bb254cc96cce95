"""Names that a command line takes: keys of a registry, or `module:attribute` of a user's own."""

from __future__ import annotations

import functools
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

    Raises UserError where the module cannot be imported, whatever it raises, or has no such attribute.
    """
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise UserError(
            f"The {what} {name!r} cannot be loaded ({type(error).__name__}: {error}): its module must be importable, "
            "on every node: from a package that is installed, or a folder on PYTHONPATH."
        ) from error
    return found


def make_own(name: str, what: str, make: Any, *arguments: Any) -> Any:
    """What `make`, the attribute of that name, returns for these arguments. UserError where it cannot be called so."""
    try:
        return make(*arguments)
    except UserError:
        raise
    except Exception as error:
        given = ", ".join(type(argument).__name__ for argument in arguments) or "nothing"
        raise UserError(
            f"The {what} {name!r} cannot be made from ({given}): {type(error).__name__}: {error}. CONTRIBUTING.md "
            f"shows what a {what} is."
        ) from error


def defining_file(value: Any, name: str, what: str) -> Path:
    """The file that defines a class or function: it decides results as weights do, so recipes and cache keys hold its
    hash. Of an entry or family it is the file of its `load`. UserError where there is none."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        value = getattr(value, "load", type(value))
    while isinstance(value, functools.partial):
        value = value.func
    try:
        file = inspect.getsourcefile(value)
    except TypeError:
        file = None
    if file is None:
        raise UserError(f"The {what} {name!r} has no source file: define it in a module.")
    return Path(file)


def source_file(name: str, what: str) -> Path:
    """The file that defines what `module:attribute` names, wherever that module has it from."""
    return defining_file(import_own(name, what), name, what)


def choices(registry: Mapping[str, Any]) -> str:
    """What `--help` shows for a flag that takes a registry's names."""
    return f"{{{','.join(registry)},module:NAME}}"
