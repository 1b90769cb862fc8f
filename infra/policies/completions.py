"""The ways in which a policy statement with unknown parts may turn out."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from infra.policies.graph import UNKNOWN

# What ties a statement for anyone to one account, organisation, network, resource or role.
LIMITING_KEYS = (
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalorgid",
    "aws:resourceaccount",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceorgid",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "kms:calleraccount",
)
_SOMETHING = "something"
_ROOT = "arn:aws:iam::000000000000:root"
_ROLE = "arn:aws:iam::000000000000:role/something"
# Everything, what no rule has an opinion on, and what one has a reason to pass.
_ACTIONS = ("*", "something:Something", "ecr:GetAuthorizationToken")
_RESOURCES = ("*", "arn:aws:something:::something")
_VALUES = ("*", "false", _SOMETHING)
_PRINCIPALS: dict[str, tuple[Any, ...]] = {
    "AWS": ("*", _ROOT, _ROLE),
    "Service": ("*", "something.amazonaws.com"),
}
_ANY_PRINCIPAL = ("*", {"AWS": _ROOT}, {"AWS": _ROLE}, {"Service": "something.amazonaws.com"})
# No condition at all, and each of the conditions that a rule asks for.
_LIMITED = {"StringEquals": dict.fromkeys((*LIMITING_KEYS, "iam:passedtoservice", "cloudwatch:namespace"), _SOMETHING)}
_WITHOUT_TLS = {"Bool": {"aws:SecureTransport": "false"}}
_OTHER_KEY = {"StringNotEquals": {"s3:x-amz-server-side-encryption-aws-kms-key-id": _SOMETHING}}
_ANY_CONDITION: tuple[dict[str, dict[str, str]], ...] = ({}, _LIMITED, _WITHOUT_TLS, _OTHER_KEY)
_ELEMENTS = {
    "Effect": ("Allow", "Deny"),
    "Action": _ACTIONS,
    "NotAction": _ACTIONS,
    "Resource": _RESOURCES,
    "NotResource": _RESOURCES,
    "Principal": _ANY_PRINCIPAL,
    "NotPrincipal": _ANY_PRINCIPAL,
    "Condition": _ANY_CONDITION,
}


def completions(statement: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The statement as it stands where all of it is known, else with each choice of values in the unknown places."""
    ways = {element: list(_ways(element, statement[element])) for element in _ELEMENTS if element in statement}
    for choice in itertools.product(*ways.values()):
        yield {**statement, **dict(zip(ways, choice, strict=True))}


def _ways(element: str, value: Any) -> Iterator[Any]:
    if value == UNKNOWN:
        yield from _ELEMENTS[element]
    elif element in ("Principal", "NotPrincipal") and isinstance(value, Mapping):
        yield from _of_each(value, lambda kind: _PRINCIPALS.get(kind, ("*", _SOMETHING)))
    elif element == "Condition" and isinstance(value, Mapping):
        yield from _conditions(value)
    else:
        yield from _of_items(value, _ELEMENTS[element])


def _conditions(value: Mapping[str, Any]) -> Iterator[Any]:
    operators = {operator: list(_keys(keys)) for operator, keys in value.items()}
    for choice in itertools.product(*operators.values()):
        yield dict(zip(operators, choice, strict=True))


def _keys(keys: Any) -> Iterator[Any]:
    """What one operator compares; all unknown values of it turn out alike, lest there be too many ways."""
    if keys == UNKNOWN:
        yield from ({}, *(each for condition in _ANY_CONDITION for each in condition.values()))
    elif not any(UNKNOWN in _listed(each) for each in keys.values()):
        yield keys
    else:
        for choice in _VALUES:
            yield {key: [choice if item == UNKNOWN else item for item in _listed(each)] for key, each in keys.items()}


def _of_each(value: Mapping[str, Any], choices: Any) -> Iterator[Any]:
    """The mapping with every choice of values in the unknown places of its lists."""
    ways = {key: list(_of_items(items, choices(key))) for key, items in value.items()}
    for choice in itertools.product(*ways.values()):
        yield dict(zip(ways, choice, strict=True))


def _of_items(value: Any, choices: tuple[Any, ...]) -> Iterator[Any]:
    """One text or a list of them; all unknown items of a list turn out alike."""
    items = _listed(value)
    if UNKNOWN not in items:
        yield value
        return
    for choice in choices:
        yield [choice if each == UNKNOWN else each for each in items]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
