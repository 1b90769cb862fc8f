"""What the emulators do not take, and how it is left out of what is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.types import NOT_EMULATED


def not_taken(token: str) -> list[tuple[str, str]]:
    """The properties of a type that are not emulated, each with the reason; the type itself is the property ""."""
    entries = ((entry.partition("."), reason) for entry, reason in NOT_EMULATED.items())
    return [(path, reason) for (kind, _, path), reason in entries if kind == token]


def has_path(value: Any, path: list[str]) -> bool:
    """Whether `path` (list indices left out) leads to something in `value`."""
    if not path:
        return True
    if isinstance(value, list):
        return any(has_path(item, path) for item in value)
    return isinstance(value, Mapping) and path[0] in value and has_path(value[path[0]], path[1:])


def without_path(value: Any, path: list[str]) -> Any:
    """`value` without what `path` leads to."""
    if isinstance(value, list):
        return [without_path(item, path) for item in value]
    if not isinstance(value, Mapping):
        return value
    if len(path) == 1:
        return {key: item for key, item in value.items() if key != path[0]}
    return {key: without_path(item, path[1:]) if key == path[0] else item for key, item in value.items()}
