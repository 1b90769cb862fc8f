"""Pairs the resources of two previews and says what differs; a rename with an alias is a resource that stayed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from infra.review.graph import SECRET, Graph, Resource
from infra.review.values import comparable, plain, shown

_NEUTRAL = frozenset({"tags", "tagsAll", "tagSpecifications", "description", "alarmDescription"})
_COMPONENT = "modelkeep:"  # every other type, of whatever provider, is something that is made


@dataclass(frozen=True)
class Change:
    """Two graphs under one naming: a resource that stayed has the same URN in both, and so have references to it."""

    before: Graph
    after: Graph
    renamed: Mapping[str, str]

    @cached_property
    def pairs(self) -> list[tuple[Resource | None, Resource | None]]:
        """Every resource with its other self; None where it is not there."""
        urns = sorted({*self.before.resources, *self.after.resources})
        return [(self.before.resources.get(urn), self.after.resources.get(urn)) for urn in urns]


def align(before: Graph, after: Graph) -> Change:
    """The change from one graph to the other, with renamed resources under the name they have afterwards."""
    renamed = _renames(before, after)
    if not renamed:
        return Change(before=before, after=after, renamed={})
    texts = _texts(before, after, renamed)
    resources = {}
    for urn, resource in before.resources.items():
        new_urn = renamed.get(urn, urn)
        resources[new_urn] = replace(
            resource,
            urn=new_urn,
            name=new_urn.rpartition("::")[2],
            parent=renamed.get(resource.parent, resource.parent),
            inputs=_substituted(resource.inputs, texts),
            dependencies=tuple(renamed.get(each, each) for each in resource.dependencies),
            property_dependencies={
                key: tuple(renamed.get(each, each) for each in urns)
                for key, urns in resource.property_dependencies.items()
            },
        )
    return Change(before=replace(before, resources=resources), after=after, renamed=renamed)


def _renames(before: Graph, after: Graph) -> dict[str, str]:
    """Old URN to new URN, where either side names the other as its alias."""
    found: dict[str, str] = {}
    gone = {urn: resource for urn, resource in before.resources.items() if urn not in after.resources}
    for urn, resource in after.resources.items():
        if urn in before.resources:
            continue
        for old, other in gone.items():
            if other.type == resource.type and (old in resource.aliases or urn in other.aliases) and old not in found:
                found[old] = urn
                break
    return found


def _texts(before: Graph, after: Graph, renamed: Mapping[str, str]) -> dict[str, str]:
    """What renaming changes inside values: references, and the names that end in digits made from the URN."""
    texts = {}
    for old, new in renamed.items():
        resource, other = before.resources[old], after.resources[new]
        texts[f"<{resource.name}."] = f"<{other.name}."
        for key in ("name", "bucket", "statementId"):
            own, new_own = str(resource.inputs.get(key, "")), str(other.inputs.get(key, ""))
            if re.fullmatch(re.escape(resource.name) + r"-[0-9a-f]{7}", own, re.IGNORECASE):
                texts[own] = new_own
    return texts


def _substituted(value: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for old, new in texts.items():
            value = value.replace(old, new)
        return value
    if isinstance(value, Mapping):
        return {key: _substituted(item, texts) for key, item in value.items()}
    return [_substituted(item, texts) for item in value] if isinstance(value, list | tuple) else value


def differences(before: Resource, after: Resource) -> Iterator[tuple[str, str, str]]:
    """The properties that differ in more than spelling, order, tags and descriptions: path, from, to."""
    hidden = before.secret_inputs | after.secret_inputs
    for key in sorted({*before.inputs, *after.inputs} - _NEUTRAL):
        if before.inputs.get(key) == after.inputs.get(key):
            continue
        old, new = plain(before.inputs.get(key)), plain(after.inputs.get(key))
        if comparable(old) == comparable(new):
            continue
        if any(path.partition(".")[0].partition("[")[0] == key for path in hidden):
            yield key, SECRET, SECRET
        else:
            yield from _inside(key, old, new)
    if before.protect != after.protect:
        yield "protect (resource option)", shown(before.protect), shown(after.protect)


def _inside(path: str, old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping) and "Statement" not in old:
        for key in sorted({*old, *new}):
            if comparable(old.get(key)) != comparable(new.get(key)):
                yield from _inside(f"{path}.{key}", old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _inside_lists(path, old, new)
    else:
        yield path, shown(old), shown(new)


def _inside_lists(path: str, old: list[Any], new: list[Any]) -> Iterator[tuple[str, str, str]]:
    """Elements with names are compared by name; others are there, or are not."""
    named = _by_name(old), _by_name(new)
    if named[0] is not None and named[1] is not None:
        for name in sorted({*named[0], *named[1]}):
            one, other = named[0].get(name), named[1].get(name)
            if comparable(one) != comparable(other):
                yield from _inside(f"{path}[{name}]", one, other)
        return
    olds = {json.dumps(comparable(item), sort_keys=True): item for item in old}
    news = {json.dumps(comparable(item), sort_keys=True): item for item in new}
    gone = [item for key, item in olds.items() if key not in news]
    come = [item for key, item in news.items() if key not in olds]
    if len(gone) == len(come) == 1 and len(old) == len(new):
        yield from _inside(f"{path}[{new.index(come[0])}]", gone[0], come[0])
    elif not gone and not come:
        yield path, shown(old), shown(new)
    else:
        yield path, shown(gone or None), shown(come or None)


def _by_name(items: list[Any]) -> dict[str, Any] | None:
    """Elements by the member that names them; None where not every one has a name of its own."""
    for key in ("name", "Sid", "id", "key"):
        names = [str(item[key]) for item in items if isinstance(item, Mapping) and key in item]
        if items and len(set(names)) == len(items):
            return dict(zip(names, items, strict=True))
    return None


def is_component(resource_type: str) -> bool:
    """Whether a type groups others and is nothing in AWS."""
    return resource_type.startswith(_COMPONENT)
