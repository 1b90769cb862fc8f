"""The written reasons: which findings are accepted, and what prowler cannot judge here.

Not prowler's own mutelist: that knows neither a date of expiry, nor a name that stays when a resource is made again.
"""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ops.audit.findings import Finding
from ops.audit.ownership import Owned
from ops.errors import OpsError

MUTES = Path(__file__).with_name("mutes.yaml")
Reason = Annotated[str, Field(min_length=30)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]


class _Entry(BaseModel):
    """A reason, for which stacks it holds, and the checks that it relies on: where one fails, the entry is void."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stacks: Names = ("*",)
    reason: Reason
    relies_on: tuple[str, ...] = ()

    def is_for(self, stack: str) -> bool:
        """Whether it is about that stack."""
        return bool({stack, "*"} & set(self.stacks))


class Mute(_Entry):
    """A finding that stays: of which check, on which resources (name or TYPE::NAME, with `*`), why, and until when.

    `because` of a decision of ours, of what an emulator does otherwise than AWS, or of what prowler mistakes.
    """

    check: str
    resources: Names
    because: Literal["decision", "emulator", "prowler"]
    expires: date

    def covers(self, finding: Finding, owned: Owned) -> bool:
        """Whether it is about that finding on that resource."""
        names = (owned.name, f"{owned.type}::{owned.name}")
        return self.check == finding.check and any(
            fnmatchcase(name, pattern) for name in names for pattern in self.resources
        )


class Unjudged(_Entry):
    """What prowler cannot judge on the emulators, and who does instead or why nobody needs to.

    `at` is the place in prowler (`ec2_service._describe_vpn_endpoints`), a check, `service:NAME` for one that judged
    nothing of what is deployed, or `type:TYPE` for one that no service judges, with `*`. `checks` pass for want of an
    answer, so their passes do not count.
    """

    at: str
    checks: tuple[str, ...] = ()

    def covers(self, place: str) -> bool:
        """Whether it is about that place."""
        return fnmatchcase(place, self.at)


class Mutes(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    muted: tuple[Mute, ...]
    not_judged: tuple[Unjudged, ...]


def read_mutes(path: Path = MUTES) -> Mutes:
    """The file of mutes. Raises OpsError naming the entry that is wrong."""
    try:
        return Mutes.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise OpsError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise OpsError(f"{path.name}: {place}: {first['msg']}, not {first['input']!r}") from error
