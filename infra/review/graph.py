"""A preview as plain data, read from a file of `modelkeep local preview --json` or of `pulumi preview --json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from infra.review.model import WrongInputError

UNKNOWN = "<unknown>"
SECRET = "<secret>"  # noqa: S105  (a marker, not a secret)
Kind = Literal["references", "unknowns", "pulumi"]
"""How values that only AWS gives are shown: by reference to their source, as unknown, or as AWS gave them."""

# The markers of Pulumi's own JSON (pkg/backend/display/json.go, sdk/go/common/resource/properties.go).
_PULUMI_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_PULUMI_SECRET = "[secret]"  # noqa: S105  (a marker, not a secret)
_PULUMI_SIGNATURE = "4dabf18193072939515e22adb298388d"
_PULUMI_SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105  (a marker, not a secret)
_GONE = ("delete", "delete-replaced", "discard-replaced", "remove-pending-replace")


@dataclass(frozen=True)
class Resource:
    """One resource of a preview; `inputs` are plain, with `<unknown>` and `<secret>` in place of such values."""

    urn: str
    type: str
    name: str
    parent: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    protect: bool = False
    aliases: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    property_dependencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    secret_inputs: frozenset[str] = frozenset()
    replaced_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Every resource of one stack as one preview has it, by URN; `is_partial` where it may be only the changed ones."""

    stack: str
    kind: Kind
    resources: Mapping[str, Resource] = field(repr=False)
    is_partial: bool = False

    @cached_property
    def by_type(self) -> Mapping[str, Sequence[Resource]]:
        """The resources of each type, in the order of their URNs."""
        found: dict[str, list[Resource]] = {}
        for urn in sorted(self.resources):
            found.setdefault(self.resources[urn].type, []).append(self.resources[urn])
        return found

    @cached_property
    def by_name(self) -> Mapping[str, Sequence[Resource]]:
        """The resources that a reference like `<name.arn>` may mean."""
        found: dict[str, list[Resource]] = {}
        for each in self.resources.values():
            found.setdefault(each.name, []).append(each)
        return found

    def of(self, *types: str) -> list[Resource]:
        """The resources of these types."""
        return [each for kind in types for each in self.by_type.get(kind, ())]

    def referred(self, resource: Resource, prop: str, *types: str) -> list[Resource]:
        """The resources of `types` that a property's value comes from or names."""
        found = {
            urn: self.resources[urn]
            for urn in resource.property_dependencies.get(prop, ())
            if urn in self.resources and self.resources[urn].type in types
        }
        texts = _strings(resource.inputs.get(prop))
        for each in self.of(*types):
            own = {str(each.inputs[key]) for key in ("name", "bucket", "arn", "id") if key in each.inputs} - {UNKNOWN}
            if any(text.startswith(f"<{each.name}.") or text in own for text in texts):
                found[each.urn] = each
        return list(found.values())

    def pointing(self, target: Resource, prop: str, *types: str) -> list[Resource]:
        """The resources of `types` whose property comes from or names `target`."""
        return [each for each in self.of(*types) if target in self.referred(each, prop, target.type)]

    def unclaimed(self, kind: str, prop: str, *types: str) -> list[Resource]:
        """The resources of `kind` whose property names none of `types` in this graph: they are about one elsewhere."""
        return [each for each in self.of(kind) if not self.referred(each, prop, *types)]


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _strings(item)]
    return [text for item in value for text in _strings(item)] if isinstance(value, list | tuple) else []


def read_file(path: Path) -> tuple[Graph | None, Graph]:
    """The graphs in a file: what `pulumi` would find in place and what it would leave; only the latter in ours.

    Raises WrongInputError naming the file and what it should be.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongInputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise WrongInputError(
            f"{path} is not JSON; give the output of a preview with --json, or a git revision"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("resources"), list):
        return None, from_local(content, source=str(path))
    if isinstance(content, dict) and isinstance(content.get("steps"), list):
        return from_pulumi(content, source=str(path))
    raise WrongInputError(
        f"{path} is JSON but no preview: it has neither `resources` (modelkeep local preview --json) nor "
        "`steps` (pulumi preview --json)"
    )


def from_local(content: Mapping[str, Any], *, source: str = "the preview", kind: Kind = "unknowns") -> Graph:
    """The graph of a `local preview --json` document; raises WrongInputError where a resource is not one."""
    resources = {}
    for entry in content["resources"]:
        try:
            urn = entry["urn"]
            dependencies = {key: tuple(urns) for key, urns in entry.get("property_dependencies", {}).items()}
            resources[urn] = Resource(
                urn=urn,
                type=entry["type"],
                name=entry["name"],
                parent=entry["parent"] or "",
                inputs=_named_unknowns(entry["inputs"], dependencies),
                protect=bool(entry["protect"]),
                aliases=tuple(entry.get("aliases", ())),
                dependencies=tuple(entry["dependencies"]),
                property_dependencies=dependencies,
                secret_inputs=frozenset(entry["secret_inputs"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise WrongInputError(
                f"{source} has a resource that is none: {error} is missing or of another type"
            ) from error
    return Graph(stack=str(content.get("stack", "")), kind=kind, resources=resources)


def _named_unknowns(inputs: Mapping[str, Any], dependencies: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Unknowns at the top with a single source are named after it: then a change of the source is seen."""
    named = dict(inputs)
    for key, urns in dependencies.items():
        names = sorted(f"<{urn.rpartition('::')[2]}.?>" for urn in urns)
        if named.get(key) == UNKNOWN and len(names) == 1:
            named[key] = names[0]
        elif named.get(key) == [UNKNOWN] * len(names):
            named[key] = names
    return named


def from_pulumi(content: Mapping[str, Any], *, source: str = "the preview") -> tuple[Graph, Graph]:
    """The graphs before and after the steps of a `pulumi preview --json` document."""
    before: dict[str, Resource] = {}
    after: dict[str, Resource] = {}
    for step in content["steps"]:
        try:
            operation, old, new = step["op"], step.get("oldState"), step.get("newState")
            if old is not None and operation not in ("create-replacement", "delete-replaced"):
                before[old["urn"]] = _from_state(old)
            elif old is not None:
                before.setdefault(old["urn"], _from_state(old))
            if new is not None and operation not in _GONE:
                reasons = tuple(step.get("replaceReasons") or ())
                kept = after.get(new["urn"])
                after[new["urn"]] = _from_state(new, reasons=reasons or (kept.replaced_for if kept else ()))
        except (KeyError, TypeError, AttributeError) as error:
            raise WrongInputError(f"{source} has a step that is none: {error} is missing or wrong") from error
    stack = next((urn.split("::")[0].rpartition(":")[2] for urn in [*after, *before]), "")
    is_partial = bool(before) and not any(step["op"] == "same" for step in content["steps"])
    return (
        Graph(stack=stack, kind="pulumi", resources=before, is_partial=is_partial),
        Graph(stack=stack, kind="pulumi", resources=after, is_partial=is_partial),
    )


def _from_state(state: Mapping[str, Any], *, reasons: tuple[str, ...] = ()) -> Resource:
    secrets: set[str] = set()
    inputs = {
        key: _from_pulumi_value(value, path=key, secrets=secrets)
        for key, value in (state.get("inputs") or {}).items()
        if key != "__defaults"
    }
    dependencies = state.get("propertyDependencies") or {}
    return Resource(
        urn=state["urn"],
        type=state["type"],
        name=state["urn"].rpartition("::")[2],
        parent=state.get("parent") or "",
        inputs=inputs,
        protect=bool(state.get("protect")),
        aliases=tuple(state.get("aliases") or ()),
        dependencies=tuple(state.get("dependencies") or ()),
        property_dependencies={key: tuple(urns or ()) for key, urns in dependencies.items()},
        secret_inputs=frozenset(secrets),
        replaced_for=reasons,
    )


def _from_pulumi_value(value: Any, *, path: str, secrets: set[str]) -> Any:
    if isinstance(value, dict):
        if value.get(_PULUMI_SIGNATURE) == _PULUMI_SECRET_SIGNATURE:
            secrets.add(path)
            return SECRET
        return {
            key: _from_pulumi_value(item, path=f"{path}.{key}", secrets=secrets)
            for key, item in value.items()
            if key not in ("__defaults", _PULUMI_SIGNATURE)
        }
    if isinstance(value, list):
        return [_from_pulumi_value(item, path=f"{path}[{index}]", secrets=secrets) for index, item in enumerate(value)]
    if value == _PULUMI_SECRET:
        secrets.add(path)
        return SECRET
    if isinstance(value, str) and _PULUMI_UNKNOWN in value:
        return UNKNOWN
    return value
