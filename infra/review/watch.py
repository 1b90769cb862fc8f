"""Watched settings: the tables in `watched/`, and the facets that they find in a graph."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jmespath
import yaml

from infra.review.facets import Facet
from infra.review.graph import SECRET, Graph, Resource
from infra.review.model import CONCERNS, SEVERITIES, Topic
from infra.review.scales import Scale, make_scale
from infra.review.values import at, comparable, digest, has_unknown, is_hidden, listed, shown

_HIDDEN = "unknown, as is whether it is set"
TABLES = Path(__file__).parent / "watched"
_KEYS = {"id", "concern", "severity", "what", "why", "scale"}
_OPTIONAL = {
    "controls",
    "relative",
    "protects",
    "each",
    "split",
    "also",
    "identity",
    "paths",
    "companions",
    "when",
    "inherits",
    "unless_target_of",
}


@dataclass(frozen=True)
class Watch:
    """One watched setting of a resource type.

    The first of `paths` (JMESPath into the inputs) that finds something is the value; else one of `companions`: (type,
    its property that names the resource, path), settings that AWS keeps apart and Pulumi makes a resource of its own.
    `when` (JMESPath) must hold, and the resource not be what `unless_target_of` (type, property) points to. What
    `protects` by being there is weaker once it is gone. With `identity`, another value of one rank is a change too;
    with `each`, every element of a list is judged by itself, and with `split` (names that lead to a list in it) each
    value of that list. `also` (type, property, control) names a further control
    where a resource of that type points here. With `inherits` (JMESPath, properties), what the resource does not set
    is as one of the same type sets it for which the JMESPath holds and the properties are the same.
    """

    type: str
    topic: Topic
    scale: Scale
    paths: tuple[str, ...] = ()
    companions: tuple[tuple[str, str, str], ...] = ()
    when: str = ""
    unless_target_of: tuple[str, str] | None = None
    protects: bool = False
    identity: bool = False
    each: bool = False
    split: tuple[str, ...] = ()
    also: tuple[str, str, str] | None = None
    judges_unknown: bool = False
    inherits: tuple[str, tuple[str, ...]] | None = None


@cache
def watches() -> tuple[Watch, ...]:
    """Every watched setting; raises ValueError naming table, type and id where a row is not one."""
    return tuple(
        _watch(path.name, kind, row)
        for path in sorted(TABLES.glob("*.yaml"))
        for kind, rows in yaml.safe_load(path.read_text(encoding="utf-8")).items()
        for row in rows
    )


def _watch(table: str, kind: str, row: Mapping[str, Any]) -> Watch:
    place = f"{table}: {kind} {row.get('id')}"
    if not set(row) >= _KEYS or set(row) - _KEYS - _OPTIONAL:
        raise ValueError(
            f"{place} has the keys {sorted(row)}; it needs {sorted(_KEYS)} and may have {sorted(_OPTIONAL)}"
        )
    if row["concern"] not in CONCERNS or row["severity"] not in SEVERITIES:
        raise ValueError(f"{place}: {row['concern']} is not a concern or {row['severity']} not a severity")
    unless, also, inherits = row.get("unless_target_of"), row.get("also"), row.get("inherits")
    return Watch(
        type=kind,
        topic=Topic(
            id=row["id"],
            concern=row["concern"],
            severity=row["severity"],
            what=row["what"],
            why=row["why"],
            controls=tuple(row.get("controls", ())),
            relative=row.get("relative", False),
        ),
        scale=make_scale(row["scale"]),
        paths=tuple(row.get("paths", ())),
        companions=tuple((kind, prop, path) for kind, prop, path in row.get("companions", ())),
        when=row.get("when", ""),
        unless_target_of=None if unless is None else (unless[0], unless[1]),
        protects=row.get("protects", False),
        identity=row.get("identity", False),
        each=row.get("each", False),
        split=tuple(row.get("split", ())),
        also=None if also is None else (also[0], also[1], also[2]),
        judges_unknown=row["scale"] in ("present", "absent", "any") or "rank" in row["scale"],
        inherits=None if inherits is None else (inherits[0], tuple(inherits[1:])),
    )


def watched_types() -> frozenset[str]:
    """The types that the tables know, companions among them."""
    return frozenset(
        kind for watch in watches() for kind in (watch.type, *(companion[0] for companion in watch.companions))
    )


@cache
def _ties(kind: str) -> frozenset[tuple[str, str]]:
    """The properties by which resources of a type that only sets something of another name that other, and its type."""
    if any(watch.type == kind for watch in watches()):
        return frozenset()
    found = {(prop, watch.type) for watch in watches() for each, prop, _ in watch.companions if each == kind}
    return frozenset(found)


def is_claimed(graph: Graph, urn: str) -> bool:
    """Whether what a resource sets is seen: it is a setting of a resource in the graph, or stands for itself."""
    resource = graph.resources[urn]
    ties = _ties(resource.type)
    return not ties or any(graph.referred(resource, prop, kind) for prop, kind in ties)


def watched_facets(graph: Graph) -> Iterator[Facet]:
    """The facets that the tables find in a graph."""
    for watch in watches():
        for resource in graph.of(watch.type):
            if _applies(graph, watch, resource):
                path, value, source = _value(graph, watch, resource)
                items = [value]
                if watch.each:
                    items = [part for item in listed(value) for part in _parts(item, watch.split)]
                controls = _further_controls(graph, watch, resource)
                general = _inherited_from(graph, watch, resource)
                for item in items:
                    facet = _facet(watch, resource, item, path=path, source=source, controls=controls)
                    yield facet if general is None else replace(facet, inherits=replace(facet, resource=general).key)


def _parts(item: Any, names: tuple[str, ...]) -> list[Any]:
    """The element once for each value of the list that `names` lead to; as it is, where there is none."""
    if not names or not isinstance(item, Mapping) or names[0] not in item:
        return [item]
    name, rest = names[0], names[1:]
    inner = _parts(item[name], rest) if rest else [[value] for value in listed(item[name])]
    return [{**item, name: each} for each in inner]


def _inherited_from(graph: Graph, watch: Watch, resource: Resource) -> Resource | None:
    """The resource whose setting holds where this one is not there."""
    if watch.inherits is None:
        return None
    condition, props = watch.inherits
    for each in graph.of(watch.type):
        if each.urn == resource.urn or not jmespath.search(condition, dict(each.inputs)):
            continue
        if all(_same(each, resource, prop) for prop in props):
            return each
    return None


def _same(one: Resource, other: Resource, prop: str) -> bool:
    """Whether a property of two resources is the same, or comes from the same resource."""
    origins = one.property_dependencies.get(prop), other.property_dependencies.get(prop)
    return one.inputs.get(prop) == other.inputs.get(prop) or (bool(origins[0]) and origins[0] == origins[1])


def _further_controls(graph: Graph, watch: Watch, resource: Resource) -> tuple[str, ...]:
    if watch.also is None:
        return ()
    kind, prop, control = watch.also
    return (control,) if graph.pointing(resource, prop, kind) else ()


def _applies(graph: Graph, watch: Watch, resource: Resource) -> bool:
    if watch.when and not jmespath.search(watch.when, dict(resource.inputs)):
        return False
    if watch.unless_target_of is None:
        return True
    kind, prop = watch.unless_target_of
    return not graph.pointing(resource, prop, kind)


def _facet(
    watch: Watch, resource: Resource, value: Any, *, path: str, source: Resource | None, controls: tuple[str, ...]
) -> Facet:
    top = path.partition(".")[0].partition("[")[0]
    hidden = top in {name.partition(".")[0].partition("[")[0] for name in (source or resource).secret_inputs}
    text = SECRET if hidden else shown(value)
    is_known = value != _HIDDEN and (watch.judges_unknown or not has_unknown(value))
    rank = watch.scale(value) if is_known else None
    return Facet(
        topic=watch.topic,
        resource=resource,
        path=path,
        rank=rank - 1 if watch.protects and rank is not None else rank,
        shown=text,
        detail=json.dumps(comparable(value), sort_keys=True) if watch.each else "",
        identity=digest(value) if watch.identity or rank is None else None,
        source=source,
        controls=controls,
        protects=watch.protects,
    )


def _value(graph: Graph, watch: Watch, resource: Resource) -> tuple[str, Any, Resource | None]:
    """Where the value is, the value, and the companion that sets it."""
    for path in watch.paths:
        value = at(resource.inputs, path)
        if value is not None and value != []:
            return path, value, None
        if is_hidden(resource.inputs, path):
            return path, _HIDDEN, None
    silent = None
    for kind, prop, path in watch.companions:
        for companion in graph.pointing(resource, prop, kind):
            value = at(companion.inputs, path)
            if value is not None and value != []:
                return path, value, companion
            if is_hidden(companion.inputs, path):
                return path, _HIDDEN, companion
            silent = companion
    return watch.paths[0] if watch.paths else watch.companions[0][2], None, silent
