"""Changes of a previewed graph, made by hand: what a test says happened between base and head."""

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

from infra.review.graph import Graph, from_local

Document = dict[str, Any]
Patch = Callable[[Document], None]


def graph(document: Document) -> Graph:
    """The graph of a document with references."""
    return from_local(document, kind="references")


def patched(document: Document, *patches: Patch) -> Graph:
    """The graph of a copy of the document, changed."""
    changed = _copied(document)
    for patch in patches:
        patch(changed)
        changed = _copied(changed)  # a later patch changes nothing that an earlier one put in
    return graph(changed)


def _copied(document: Document) -> Document:
    """Through JSON, which is several times faster than copy.deepcopy."""
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]


def find(document: Document, name: str, kind: str = "aws:") -> dict[str, Any]:
    """The one resource of that name whose type starts so."""
    (found,) = [each for each in document["resources"] if each["name"] == name and each["type"].startswith(kind)]
    return found  # type: ignore[no-any-return]


def put(name: str, path: str, value: Any) -> Patch:
    """Set an input; `path` is dotted, numbers are indices. None takes it away."""

    def patch(document: Document) -> None:
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        place: Any = find(document, name)["inputs"]
        for part in way:
            place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
        if value is None:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)

    return patch


def edit(name: str, change: Callable[[dict[str, Any]], object]) -> Patch:
    """Change a resource's inputs by a function."""
    return lambda document: change(find(document, name)["inputs"]) and None


def drop(*names: str) -> Patch:
    """Take resources away."""

    def patch(document: Document) -> None:
        for name in names:
            document["resources"].remove(find(document, name))

    return patch


def add(kind: str, name: str, inputs: Mapping[str, Any], *, refers: Mapping[str, str] | None = None) -> Patch:
    """Add a resource; `refers` says which property comes from which resource."""

    def patch(document: Document) -> None:
        urns = {each["name"]: each["urn"] for each in document["resources"] if each["type"].startswith("aws:")}
        document["resources"].append(
            {
                "urn": f"urn:pulumi:prod::modelkeep::{kind}::{name}",
                "type": kind,
                "name": name,
                "parent": "",
                "inputs": {
                    **copy.deepcopy(dict(inputs)),
                    **{prop: f"<{target}.id>" for prop, target in (refers or {}).items()},
                },
                "dependencies": [],
                "property_dependencies": {prop: [urns[target]] for prop, target in (refers or {}).items()},
                "protect": False,
                "secret_inputs": [],
                "aliases": [],
            }
        )

    return patch


def statements(name: str, change: Callable[[list[dict[str, Any]]], object], key: str = "policy") -> Patch:
    """Change the statements of a policy document, whether it is text or an object."""

    def patch(document: Document) -> None:
        inputs = find(document, name)["inputs"]
        is_text = isinstance(inputs[key], str)
        policy = json.loads(inputs[key]) if is_text else inputs[key]
        change(policy["Statement"])
        inputs[key] = json.dumps(policy) if is_text else policy

    return patch


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    """An Allow statement; `more` are further members, e.g. Condition."""
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}
