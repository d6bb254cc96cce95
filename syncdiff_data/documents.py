"""JSON and YAML as plain data: no objects, no endless nesting, no aliases that unfold to gigabytes."""

from __future__ import annotations

import json
from reprlib import repr as short_repr
from typing import TYPE_CHECKING, Any

from syncdiff_data.tables import repeated

if TYPE_CHECKING:
    from pydantic import ValidationError

MOST_NODES = 100_000
"""Of a YAML file with its aliases written out; a registry of methods or a preset has some hundred."""


def parse_json(text: str | bytes) -> Any:
    """ValueError where it is no JSON, is not UTF-8 or is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_yaml(text: str) -> Any:
    """ValueError where it is no YAML, asks for objects, has a key twice, is nested too deeply or has more than
    MOST_NODES values."""
    import yaml  # shards are read where it is not installed

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            keys = [key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
            if twice := repeated(keys):
                problem = f"the key {twice[0]!r} is there twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
            return super().construct_mapping(node, deep)

    try:
        value = yaml.load(text, Loader)
        nodes = _count_nodes(value, {})
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if nodes > MOST_NODES:
        raise ValueError(
            f"with its aliases written out it has {nodes:,} values; at most {MOST_NODES:,} are read"
        )
    return value


def first_error(error: ValidationError) -> str:
    """The first value of a document that pydantic refuses: where it stands, what is expected, what is there."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"])) or "it"
    return f"{name}: {first['msg']}, found {short_repr(first['input'])}"


def _count_nodes(value: object, counted: dict[int, int]) -> int:
    """Keys and values with aliases written out, each counted once. counted: id -> count, of what was seen."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in counted:
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(_count_nodes(part, counted) for part in parts)
    return counted[id(value)]
