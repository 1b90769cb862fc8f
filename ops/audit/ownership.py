"""Which findings are about the stack: what it declares, what its VPC was born with, and what is tagged as its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from local.records import ResourceRecord
from ops.audit.findings import Finding

# An id that AWS makes and gives to one resource alone, such as sg-017dad86ca738bc8d.
_UNIQUE_ID = re.compile(r"^[a-z]+-[0-9a-f]{8,}$")
_VPC = "aws:ec2/vpc:Vpc"
_BORN_WITH_VPC = {
    "defaultNetworkAclId": "default-network-acl",
    "defaultSecurityGroupId": "default-security-group",
    "mainRouteTableId": "main-route-table",
}


@dataclass(frozen=True)
class Owned:
    """A resource of the stack: the logical name and Pulumi type of what is declared.

    What a VPC was born with is `VPC/default-network-acl` and the like; what the stack's group or another service made,
    tagged as the stack's, has prowler's own type for both.
    """

    name: str
    type: str


class StackResources:
    """Finds the stack's resource that a finding is about."""

    def __init__(self, records: Iterable[ResourceRecord], *, tags: Mapping[str, str]) -> None:
        self._tags = frozenset(f"{key}:{value}" for key, value in tags.items())
        self._by_id: dict[str, Owned] = {}
        records = list(records)
        for record in (each for each in records if each.custom):
            owned = Owned(name=record.name, type=record.type)
            for key in (record.outputs.get("arn"), record.id):
                if isinstance(key, str) and (key.startswith("arn:") or _UNIQUE_ID.match(key)):
                    self._by_id.setdefault(key, owned)
        for record in (each for each in records if each.type == _VPC):
            for output, part in _BORN_WITH_VPC.items():
                if isinstance(key := record.outputs.get(output), str):
                    self._by_id.setdefault(key, Owned(name=f"{record.name}/{part}", type=_VPC))

    def owner(self, finding: Finding) -> Owned | None:
        """The stack's resource, or None where the finding is about the account or about somebody else's resource."""
        uid = finding.uid.removesuffix(":*")  # a log group's ARN as CloudWatch Logs writes it
        for key in (uid, uid.rpartition("/")[2]):
            if key in self._by_id:
                return self._by_id[key]
        if self._tags and self._tags <= finding.tags:
            return Owned(name=finding.resource_type, type=finding.resource_type)
        return None
