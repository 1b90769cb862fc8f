"""Pure builders of policy documents; the owners of resources state the grants on them with these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi

Conditions = Mapping[str, Mapping[str, pulumi.Input[str] | Sequence[pulumi.Input[str]]]]
Principals = Mapping[str, pulumi.Input[str] | Sequence[pulumi.Input[str]]]
ANYONE: Principals = {"AWS": "*"}


@dataclass(frozen=True)
class Statement:
    """One statement of a policy; without principals in a role's policy, with them in a resource's."""

    sid: str
    actions: Sequence[str]
    resources: Sequence[pulumi.Input[str]]
    effect: Literal["Allow", "Deny"] = "Allow"
    principals: Principals | None = None
    conditions: Conditions = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The statement in IAM's own spelling."""
        return {
            "Sid": self.sid,
            "Effect": self.effect,
            **({"Principal": dict(self.principals)} if self.principals is not None else {}),
            "Action": list(self.actions),
            **({"Resource": list(self.resources)} if self.resources else {}),
            **({"Condition": {test: dict(keys) for test, keys in self.conditions.items()}} if self.conditions else {}),
        }


def document(statements: Sequence[Statement]) -> Any:
    """A policy document as an object, so that a preview shows what is known of it.

    Its type is Any since the SDK types the same document with names of its own, which it translates to these.
    """
    return {"Version": "2012-10-17", "Statement": [each.to_dict() for each in statements]}


def document_text(statements: Sequence[Statement]) -> pulumi.Output[str]:
    """A policy document as JSON text, for the properties that take nothing else."""
    return pulumi.Output.json_dumps(document(statements))


def assume_role(service: str, *, conditions: Conditions | None = None) -> Any:
    """The trust policy of a role that one AWS service takes on, e.g. `ec2.amazonaws.com`."""
    return document(
        [
            Statement(
                sid="Assume",
                actions=["sts:AssumeRole"],
                resources=[],
                principals={"Service": service},
                conditions=conditions or {},
            )
        ]
    )


def same_account(account_id: pulumi.Input[str]) -> Conditions:
    """A service acts for this account only, never as somebody else's confused deputy."""
    return {"StringEquals": {"aws:SourceAccount": account_id}}
