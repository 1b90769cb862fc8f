"""The resources of a stack as rules see them: plain properties, and which resources each property's value comes from.

The shape is that of `modelkeep local preview --json`: an unknown value is the text `<unknown>`, a secret `<secret>`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

UNKNOWN = "<unknown>"
SECRET = "<secret>"  # noqa: S105  (a marker, not a secret)
STACK = "pulumi:pulumi:Stack"

# Where a resource's own name stands, for programs that refer to it by a literal.
_NAMES = ("id", "arn", "bucket", "name", "stageName")


def type_of(urn: str) -> str:
    """The type token in a URN, without those of its parents."""
    return urn.split("::")[2].rpartition("$")[2]


def short(resource_type: str) -> str:
    """The last part of a type token, such as `BucketPolicy`."""
    return resource_type.rpartition(":")[2]


def read(properties: Any, path: str) -> Any:
    """The value at a dotted path (list indices are numbers), None where there is none, UNKNOWN below an unknown."""
    value = properties
    for part in path.split("."):
        if value == UNKNOWN:
            return UNKNOWN
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list | tuple) and part.isdigit():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


@dataclass(frozen=True)
class Resource:
    """One resource; `sources` are by property the URNs of the resources that its value comes from."""

    urn: str
    type: str
    name: str
    properties: Mapping[str, Any] = field(repr=False)
    sources: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)

    def comes_from(self, prop: str, resource_type: str) -> bool:
        """Whether a top-level property's value comes from a resource of that type."""
        return any(type_of(urn) == resource_type for urn in self.sources.get(prop, ()))


@dataclass(frozen=True)
class Links:
    """The resources that certainly refer to another, and whether there may be more."""

    certain: list[Resource]
    possible: bool


@dataclass(frozen=True)
class Graph:
    """All resources of a stack and its configuration, secrets masked."""

    resources: tuple[Resource, ...]
    configuration: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def of(self, types: Iterable[str]) -> list[Resource]:
        """The resources of any of these types."""
        wanted = set(types)
        return [each for each in self.resources if each.type in wanted]

    def referring(self, types: Iterable[str], prop: str, target: Resource) -> Links:
        """The resources of `types` whose property `prop` is the target's id, ARN or name."""
        certain, possible = [], False
        for each in self.of(types):
            sources = [urn for urn in each.sources.get(prop, ()) if type_of(urn) == target.type]
            if target.urn in sources:
                certain.append(each)
                continue
            value = read(each.properties, prop)
            # With a source of that type it is another's; without one an unknown could be anybody's.
            possible = possible or (not sources and value == UNKNOWN)
            if not sources and value not in (None, UNKNOWN) and value in _names(target):
                certain.append(each)
        return Links(certain=certain, possible=possible)


def _names(resource: Resource) -> set[str]:
    values = (resource.properties.get(name) for name in _NAMES)
    return {value for value in values if isinstance(value, str) and value != UNKNOWN}


def from_preview(preview: Mapping[str, Any], *, configuration: Mapping[str, Any] | None = None) -> Graph:
    """The graph of `modelkeep local preview --json`; raises KeyError for JSON of another shape."""
    return Graph(
        resources=tuple(
            Resource(
                urn=each["urn"],
                type=each["type"],
                name=each["name"],
                properties=each["inputs"],
                sources={prop: frozenset(urns) for prop, urns in each["property_dependencies"].items()},
            )
            for each in preview["resources"]
        ),
        configuration=configuration or {},
    )
