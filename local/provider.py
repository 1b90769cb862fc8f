"""What the local engine asks of providers; the shape is Pulumi's own provider protocol.

`check` fills in what the program left out and refuses what cannot work, `diff` says what a change asks for, `create`,
`read`, `update` and `delete` talk to the API, `invoke` answers data sources. A provider without a caller can only check
and compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from local.errors import LocalError
from local.records import Difference, NotEmulated
from local.types.spec import Autoname

NAME_DIGITS = 7  # how many hexadecimal digits Pulumi's names end in


@dataclass(frozen=True)
class Subject:
    """The resource that a provider is asked about; another `seed` gives other automatic names."""

    urn: str
    type: str
    name: str
    seed: str = ""


class Provider(Protocol):
    """What the engine asks of a provider of resources; every method raises LocalError."""

    def check(
        self, subject: Subject, inputs: Mapping[str, Any], old_inputs: Mapping[str, Any] | None = None
    ) -> dict[str, Any]: ...

    def not_emulated(self, subject: Subject, inputs: Mapping[str, Any]) -> list[NotEmulated]: ...

    def planned(
        self, subject: Subject, inputs: Mapping[str, Any], old_outputs: Mapping[str, Any] | None = None
    ) -> dict[str, Any]: ...

    def create(self, subject: Subject, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]: ...

    def read(self, subject: Subject, resource_id: str, inputs: Mapping[str, Any]) -> dict[str, Any]: ...

    def diff(
        self,
        subject: Subject,
        resource_id: str,
        old_inputs: Mapping[str, Any],
        old_outputs: Mapping[str, Any],
        new_inputs: Mapping[str, Any],
    ) -> Difference: ...

    def update(
        self,
        subject: Subject,
        resource_id: str,
        old_inputs: Mapping[str, Any],
        old_outputs: Mapping[str, Any],
        new_inputs: Mapping[str, Any],
    ) -> dict[str, Any]: ...

    def delete(
        self, subject: Subject, resource_id: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> None: ...

    def invoke(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]: ...


def automatic_name(subject: Subject, rule: Autoname) -> str:
    """The name that Pulumi gives: the resource's own, a hyphen and seven hexadecimal digits.

    The digits come from the URN and the seed, so the same program gives the same names and two previews can be
    compared. Raises LocalError when the service does not allow a name that long, as Pulumi's provider does.
    """
    digits = hashlib.sha256(f"{subject.urn}{subject.seed}".encode()).hexdigest()[:NAME_DIGITS]
    name = f"{subject.name}-{digits}"
    if len(name) > rule.limit:
        raise LocalError(
            f"{subject.type} {subject.name}: its automatic {rule.property} {name} is {len(name)} characters long and "
            f"{rule.limit} are allowed; shorten the resource's name or set {rule.property}"
        )
    return name.lower() if rule.lower else name
