"""How each service changes the tags of what exists; the shapes come from botocore's models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from botocore.model import ListShape

from local.errors import LocalError
from local.mapping import normal, operation_model, to_parameters
from local.types.lifecycles.vocabulary import Changed

_TAGS = {"tags", "tagslist", "tagstoadd", "resourcetags"}
_KEYS = {"tagkeys", "tagstoremove", "resourcetagkeys"}


@dataclass(frozen=True)
class Tagging:
    """Two operations that name the resource by its id or an output; `more` are parameters that are always the same."""

    tag: str = "TagResource"
    untag: str = "UntagResource"
    by: Literal["id", "arn", "name"] = "arn"
    more: Mapping[str, Any] = field(default_factory=dict)


_SERVICES: Mapping[str, Tagging] = {
    "acm": Tagging("AddTagsToCertificate", "RemoveTagsFromCertificate"),
    "apigateway": Tagging(),
    "apigatewayv2": Tagging(),
    "batch": Tagging(),
    "budgets": Tagging(),
    "cloudtrail": Tagging("AddTags", "RemoveTags"),
    "cloudwatch": Tagging(),
    "dynamodb": Tagging(),
    "ec2": Tagging("CreateTags", "DeleteTags", by="id"),
    "ecr": Tagging(),
    "elbv2": Tagging("AddTags", "RemoveTags"),
    "events": Tagging(),
    "firehose": Tagging("TagDeliveryStream", "UntagDeliveryStream", by="name"),
    "glue": Tagging(),
    "kms": Tagging(by="id"),
    "lambda": Tagging(),
    "logs": Tagging(),
    "secretsmanager": Tagging(by="id"),
    "sns": Tagging(),
    "sqs": Tagging("TagQueue", "UntagQueue", by="id"),
    "ssm": Tagging("AddTagsToResource", "RemoveTagsFromResource", by="id", more={"ResourceType": "Parameter"}),
    "synthetics": Tagging(),
    "wafv2": Tagging(),
}
_TYPES: Mapping[str, Tagging] = {
    "aws:iam/instanceProfile:InstanceProfile": Tagging("TagInstanceProfile", "UntagInstanceProfile", by="id"),
    "aws:iam/policy:Policy": Tagging("TagPolicy", "UntagPolicy", by="id"),
    "aws:iam/role:Role": Tagging("TagRole", "UntagRole", by="id"),
    "aws:iam/serviceLinkedRole:ServiceLinkedRole": Tagging("TagRole", "UntagRole", by="name"),
}


def tagging(token: str, service: str) -> Tagging | None:
    """How the tags of a type are changed; None where they cannot be."""
    return _TYPES.get(token) or _SERVICES.get(service)


def change_tags(way: Tagging, changed: Changed) -> None:
    """Set the tags that are new or have another value, and take away those that are gone; raises LocalError."""
    old, new = changed.old.get("tags") or {}, changed.inputs.get("tags") or {}
    gone = {key: value for key, value in old.items() if key not in new}
    fresh = {key: value for key, value in new.items() if old.get(key) != value}
    identity = changed.id if way.by == "id" else str(changed.answer[way.by])
    for operation, tags in ((way.untag, gone), (way.tag, fresh)):
        if tags:
            changed.call(changed.service, operation, **_parameters(changed.service, operation, way, identity, tags))


def _parameters(service: str, operation: str, way: Tagging, identity: str, tags: Mapping[str, str]) -> dict[str, Any]:
    shape = operation_model(service, operation).input_shape
    by_form = {normal(name): name for name in shape.members}
    keys = next((by_form[form] for form in sorted(_KEYS) if form in by_form), None)
    resource = next(
        name for name in shape.required_members if normal(name) not in _TAGS | _KEYS | set(map(normal, way.more))
    )
    named: Any = [identity] if isinstance(shape.members[resource], ListShape) else identity
    if keys is not None:
        return {resource: named, keys: sorted(tags), **way.more}
    member = next(by_form[form] for form in sorted(_TAGS) if form in by_form)
    parameters, problems = to_parameters(service=service, operation=operation, inputs={member: dict(tags)})
    if problems:
        raise LocalError(f"{service}:{operation}: {problems[0].path} {problems[0].reason}")
    return {resource: named, **parameters, **way.more}
