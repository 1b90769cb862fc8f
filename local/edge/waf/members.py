"""Reads the WAF API's objects strictly: a member that nothing here acts on is an error, not a silence."""

from collections.abc import Collection, Mapping
from typing import Any

from local.errors import LocalError


def members(spec: Mapping[str, Any], *, known: Collection[str], where: str) -> dict[str, Any]:
    """The members of an object that are set; raises LocalError for one that is not in `known`."""
    found = {name: value for name, value in spec.items() if value is not None}
    if unknown := sorted(set(found) - set(known)):
        raise LocalError(f"{where}: {unknown[0]} is not emulated; known here: {', '.join(sorted(known))}")
    return found


def single(spec: Mapping[str, Any], *, where: str) -> tuple[str, dict[str, Any]]:
    """The one member that is set of a union, such as a statement or an action."""
    found = {name: value for name, value in spec.items() if value is not None}
    if len(found) != 1:
        raise LocalError(f"{where}: must have exactly one member, has {sorted(found) or 'none'}")
    return next(iter(found.items()))


def required(spec: Mapping[str, Any], name: str, *, where: str) -> Any:
    """One member that must be set."""
    if spec.get(name) is None:
        raise LocalError(f"{where}: {name} is missing")
    return spec[name]
