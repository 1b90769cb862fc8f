"""How one resource type is made through the AWS API: the vocabulary of the tables in this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from local.mapping import Convert
from local.wire import Unknown

Inputs = Mapping[str, Any]


class Call(Protocol):
    """Calls an API operation by its API name; raises local.provider.ApiError."""

    def __call__(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Made:
    """A resource as far as it is made: what follow-up calls and derived outputs are computed from."""

    call: Call
    region: str
    account: str
    partition: str
    inputs: Inputs
    answer: Mapping[str, Any]
    id: str

    def arn(self, service: str, resource: str, *, region: bool = True, account: bool = True) -> str:
        """An ARN of this stack's partition, region and account."""
        place = f"{self.region if region else ''}:{self.account if account else ''}"
        return f"arn:{self.partition}:{service}:{place}:{resource}"


@dataclass(frozen=True)
class Follow:
    """A call after creation that carries `inputs`; sent when one of them is set, or always when `inputs` is empty."""

    inputs: tuple[str, ...]
    send: Callable[[Made], object]


@dataclass(frozen=True)
class Autoname:
    """The property that Pulumi names by itself when the program does not, and the service's limit on its length."""

    property: str
    limit: int = 255
    lower: bool = False


@dataclass(frozen=True)
class TypeSpec:
    """One row of the table.

    `operation` creates; `id` is a JMESPath into its answer or, with braces, a template over the inputs. Inputs reach
    the operation by name (local.mapping), after `reshape`, with `rename` and `convert`; those in `follow` go by further
    calls, and `steering` ones only tell Pulumi's provider how to go about it. `fixed` adds parameters that depend on
    the region alone; `tag_as` puts tags into EC2's tag specifications of that resource type.

    `read` is the operation, its parameters as a template over `{id}` and the inputs, and the JMESPath of the state in
    its answer; without it the state is `state` in the creation's answer. Outputs come from the state: by equal name, by
    JMESPath (`outputs`), or computed (`derive`). `instead` has another row for when an input is set that another
    operation takes.
    """

    service: str
    operation: str
    id: str
    rename: Mapping[str, str] = field(default_factory=dict)
    convert: Mapping[str, Convert] = field(default_factory=dict)
    reshape: Callable[[Inputs], Inputs] | None = None
    steering: frozenset[str] = frozenset()
    fixed: Callable[[str], Mapping[str, Any]] | None = None
    tag_as: str = ""
    follow: tuple[Follow, ...] = ()
    autoname: Autoname | None = None
    state: str = "@"
    read: tuple[str, Mapping[str, Any], str] | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    derive: Callable[[Made], Mapping[str, Any]] | None = None
    instead: Mapping[str, TypeSpec] = field(default_factory=dict)

    def for_inputs(self, inputs: Inputs) -> TypeSpec:
        """This row, or the one that stands in its place when a certain input is set."""
        return next((spec for name, spec in self.instead.items() if name in inputs), self)

    def sent(self, inputs: Inputs) -> dict[str, Any]:
        """The inputs that the creating operation carries."""
        elsewhere = {name for step in self.follow for name in step.inputs} | self.steering | {"region"}
        if self.tag_as:
            elsewhere |= {"tags"}
        return {name: value for name, value in inputs.items() if name not in elsewhere}


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """`template` with `{name}` filled in at any depth."""
    if isinstance(template, Mapping):
        return {key: fill(item, values) for key, item in template.items()}
    if isinstance(template, list):
        return [fill(item, values) for item in template]
    return template.format_map(values) if isinstance(template, str) else template


def nest(member: str, *, keep: tuple[str, ...] = ("bucket",)) -> Callable[[Inputs], Inputs]:
    """A reshape that puts all inputs but `keep` under one member of the API's input."""

    def reshape(inputs: Inputs) -> Inputs:
        inner = {name: value for name, value in inputs.items() if name not in keep}
        return {**{name: inputs[name] for name in keep if name in inputs}, member: inner}

    return reshape


def drop_empty(value: Any) -> Any:
    """`value` without None, empty strings and empty lists, at any depth; for APIs that refuse those."""
    if isinstance(value, Mapping):
        cleaned = {key: drop_empty(item) for key, item in value.items()}
        return {key: item for key, item in cleaned.items() if item not in (None, "", [])}
    if isinstance(value, list):
        return [drop_empty(item) for item in value]
    return value


def text(value: Any) -> str:
    """A value as the attribute APIs want it: lower-case booleans, decimal numbers."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def attributes(names: Mapping[str, str], inputs: Inputs) -> list[dict[str, str]]:
    """Key/Value attributes for those of `names` (input -> attribute key) that are set."""
    return [{"Key": key, "Value": text(inputs[name])} for name, key in names.items() if name in inputs]


def known(value: Any) -> bool:
    """Whether a value is not the unknown itself (its parts may be)."""
    return not isinstance(value, Unknown)
