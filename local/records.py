"""What a run of the program leaves behind: one record per resource, the stack's outputs, what was not emulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from local.archives import describe
from local.wire import Archive, Asset, Path, Unknown, replace_secrets, show_path

SECRET_SHOWN = "<secret>"  # noqa: S105 - a marker, not a secret
UNKNOWN_SHOWN = "<unknown>"

Operation = Literal["same", "create", "update", "replace", "delete"]
OPERATIONS: tuple[Operation, ...] = ("create", "update", "replace", "delete", "same")


@dataclass(frozen=True)
class ResourceRecord:
    """One registered resource. Values are plain; `secret_inputs` and `secret_outputs` are the paths that are secret.

    `seed` is what its automatic names are made with. `delete_pending` marks one that is replaced and still has to be
    deleted, `half_made` one whose creation failed after its first call.
    """

    urn: str
    type: str
    name: str
    parent: str
    custom: bool
    provider: str
    id: str
    inputs: Mapping[str, Any] = field(repr=False)
    outputs: Mapping[str, Any] = field(repr=False)
    secret_inputs: frozenset[Path]
    secret_outputs: frozenset[Path]
    dependencies: tuple[str, ...]
    property_dependencies: Mapping[str, tuple[str, ...]]
    aliases: tuple[str, ...] = ()
    protect: bool = False
    retain_on_delete: bool = False
    external: bool = False
    deleted_with: str = ""
    seed: str = ""
    delete_pending: bool = False
    half_made: bool = False


@dataclass(frozen=True)
class NotEmulated:
    """Something the program asked for and the emulators do not take; `property` is empty for a whole resource."""

    urn: str
    type: str
    property: str
    reason: str


@dataclass(frozen=True)
class Difference:
    """What a provider says of new inputs: which top-level inputs change, and which of them replace the resource.

    Nothing changed means the resource stays as it is. A replacement is made before the old one is deleted, unless
    `delete_before_replace`: both would have the same name.
    """

    changed: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    delete_before_replace: bool = False


@dataclass(frozen=True)
class Step:
    """What a run does, or in a preview would do, with one resource, and which of its inputs ask for it."""

    urn: str
    type: str
    name: str
    operation: Operation
    changed: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """The outcome of one run; `outputs` are the stack's, plain, with the paths in `secret_outputs` being secret.

    `interrupted` names what an earlier run was making when it ended, so that nobody knows whether it exists.
    """

    stack: str
    resources: list[ResourceRecord]
    outputs: dict[str, Any] = field(repr=False)
    not_emulated: list[NotEmulated]
    secret_outputs: frozenset[Path] = frozenset()
    steps: tuple[Step, ...] = ()
    interrupted: tuple[str, ...] = ()

    def resource(self, resource_type: str, name: str) -> ResourceRecord:
        """The one resource of that type and name; raises KeyError."""
        for record in self.resources:
            if (record.type, record.name) == (resource_type, name):
                return record
        raise KeyError(f"{resource_type} {name}")

    def counts(self) -> dict[Operation, int]:
        """How many resources each operation was for."""
        return {operation: sum(step.operation == operation for step in self.steps) for operation in OPERATIONS}


@dataclass(frozen=True)
class Progress:
    """One resource made, changed or deleted: how many are done, of how many if known, and how long its calls took."""

    done: int
    total: int | None
    name: str
    type: str
    seconds: float
    operation: Operation = "create"


def to_json(deployment: Deployment) -> dict[str, Any]:
    """The shape of `modelkeep local preview --json`, in an order that does not change between runs.

    An unknown is "<unknown>", a secret value "<secret>", a file the SHA-256 of its content.
    """
    return {
        "stack": deployment.stack,
        "resources": [
            {
                "urn": record.urn,
                "type": record.type,
                "name": record.name,
                "parent": record.parent,
                "inputs": masked(record.inputs, record.secret_inputs),
                "dependencies": list(record.dependencies),
                "property_dependencies": {key: list(urns) for key, urns in record.property_dependencies.items()},
                "protect": record.protect,
                "aliases": list(record.aliases),
                "secret_inputs": sorted(show_path(path) for path in record.secret_inputs),
            }
            for record in sorted(deployment.resources, key=lambda record: record.urn)
        ],
        "outputs": masked(deployment.outputs, deployment.secret_outputs),
        "not_emulated": [
            {"urn": entry.urn, "type": entry.type, "property": entry.property, "reason": entry.reason}
            for entry in deployment.not_emulated
        ],
    }


def plan_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """What was done, or would be, in the order of URNs; resources that stay as they are are in it too."""
    return [
        {
            "urn": step.urn,
            "operation": step.operation,
            "changed": list(step.changed),
            "replaces": list(step.replaces),
        }
        for step in sorted(steps, key=lambda step: step.urn)
    ]


def masked(values: Mapping[str, Any], secrets: frozenset[Path]) -> Any:
    """Values for people's eyes and JSON: secrets and unknowns replaced by their markers, files by their digests."""
    return _plain(replace_secrets(values, secrets, lambda _: SECRET_SHOWN))


def _plain(value: Any) -> Any:
    if isinstance(value, Unknown):
        return UNKNOWN_SHOWN
    if isinstance(value, Asset | Archive):
        return describe(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
