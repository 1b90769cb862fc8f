"""The URNs a resource had before: from its own aliases, and from those of its parent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from local.project import Project

STACK = "pulumi:pulumi:Stack"


def urn_of(*, stack: str, project: str, parent: str, kind: str, name: str) -> str:
    """The URN as Pulumi builds it: the types of all parents but the stack stand before the resource's own."""
    if parent:
        above = parent.split("::")[2]
        if above != STACK:
            kind = f"{above}${kind}"
    return f"urn:pulumi:{stack}::{project}::{kind}::{name}"


def alias_urns(request: Any, urn: str, *, project: Project, known: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Every URN that the resource `urn` may have had; `known` has the aliases of what was registered before it.

    A child of a renamed parent had the parent's old URN above it, and, as Pulumi has it, the parent's old name at the
    beginning of its own where it begins with the new one.
    """
    parents = [request.parent, *known.get(request.parent, ())] if request.parent else [""]
    found: dict[str, None] = {}
    for parent in parents:
        name = _inherited_name(request.name, parent=request.parent, old_parent=parent)
        found[_urn(project, parent=parent, kind=request.type, name=name)] = None
    for alias in getattr(request, "aliases", []):
        if alias.urn:
            found[alias.urn] = None
            continue
        spec = alias.spec
        above = [""] if spec.noParent else [spec.parentUrn] if spec.parentUrn else parents
        for parent in above:
            name = spec.name or _inherited_name(request.name, parent=request.parent, old_parent=parent)
            found[
                urn_of(
                    stack=spec.stack or project.stack,
                    project=spec.project or project.name,
                    parent=parent,
                    kind=spec.type or request.type,
                    name=name,
                )
            ] = None
    found.pop(urn, None)
    return tuple(found)


def _urn(project: Project, *, parent: str, kind: str, name: str) -> str:
    return urn_of(stack=project.stack, project=project.name, parent=parent, kind=kind, name=name)


def _inherited_name(name: str, *, parent: str, old_parent: str) -> str:
    new, old = parent.rpartition("::")[2], old_parent.rpartition("::")[2]
    return old + name.removeprefix(new) if new and old and name.startswith(new) else name
