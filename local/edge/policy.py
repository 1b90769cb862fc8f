"""IAM policy documents, of a resource policy and of an authorizer's answer: parsed strictly, evaluated as IAM does."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from local.errors import LocalError

# Keys that a request from the internet to a regional API does not carry.
ABSENT_KEYS = frozenset(
    {"aws:sourcevpc", "aws:sourcevpce", "aws:vpcsourceip", "aws:principalorgid", "aws:principalarn"}
)
KNOWN_KEYS = ABSENT_KEYS | {"aws:sourceip", "aws:securetransport", "aws:useragent", "aws:referer"}
STATEMENT_MEMBERS = frozenset(
    {"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)


class Decision(Enum):
    """What a policy says: an explicit deny wins over an allow, and silence is neither."""

    ALLOW = "allow"
    DENY = "deny"
    NEITHER = "neither"


Test = Callable[[str, str], bool]


def _in_network(value: str, expected: str) -> bool:
    address, network = ipaddress.ip_address(value), ipaddress.ip_network(expected, strict=False)
    return address.version == network.version and address in network


# Operator -> (test, negated). A negated operator also holds where the key is absent.
OPERATORS: Mapping[str, tuple[Test, bool]] = {
    "StringEquals": (lambda value, expected: value == expected, False),
    "StringNotEquals": (lambda value, expected: value == expected, True),
    "StringEqualsIgnoreCase": (lambda value, expected: value.lower() == expected.lower(), False),
    "StringNotEqualsIgnoreCase": (lambda value, expected: value.lower() == expected.lower(), True),
    "StringLike": (lambda value, expected: wildcard(expected).fullmatch(value) is not None, False),
    "StringNotLike": (lambda value, expected: wildcard(expected).fullmatch(value) is not None, True),
    "Bool": (lambda value, expected: value.lower() == expected.lower(), False),
    "IpAddress": (_in_network, False),
    "NotIpAddress": (_in_network, True),
}


def wildcard(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """Compile an IAM pattern, where `*` is any text and `?` any one character."""
    body = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.compile(body, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


@dataclass(frozen=True)
class Condition:
    """One operator on one key, holding where any of the expected values does."""

    operator: str
    if_exists: bool
    key: str
    expected: tuple[str, ...]

    def holds(self, keys: Mapping[str, str]) -> bool:
        """Evaluate against the request's condition keys, named in lower case."""
        value = keys.get(self.key)
        if self.operator == "Null":
            return (value is None) == (self.expected[0].lower() == "true")
        test, negated = OPERATORS[self.operator]
        if value is None:
            return negated or self.if_exists
        return any(test(value, expected) for expected in self.expected) != negated


@dataclass(frozen=True)
class Statement:
    """One statement; patterns are compiled, `Not…` forms are flags."""

    deny: bool
    principal: bool
    actions: tuple[re.Pattern[str], ...]
    not_actions: bool
    resources: tuple[re.Pattern[str], ...]
    not_resources: bool
    conditions: tuple[Condition, ...]

    def applies(self, action: str, resource: str, keys: Mapping[str, str]) -> bool:
        """Whether the statement speaks about this request."""
        return (
            self.principal
            and any(p.fullmatch(action) for p in self.actions) != self.not_actions
            and any(p.fullmatch(resource) for p in self.resources) != self.not_resources
            and all(condition.holds(keys) for condition in self.conditions)
        )


@dataclass(frozen=True)
class Policy:
    """A parsed policy document."""

    statements: tuple[Statement, ...]

    def evaluate(self, *, resource: str, keys: Mapping[str, str], action: str = "execute-api:Invoke") -> Decision:
        """Decide on one request; `resource` is its ARN, `keys` its condition keys in lower case."""
        decision = Decision.NEITHER
        for statement in self.statements:
            if statement.applies(action, resource, keys):
                if statement.deny:
                    return Decision.DENY
                decision = Decision.ALLOW
        return decision


def parse_policy(document: Any, *, where: str, root: str) -> Policy:
    """Read a policy document; `root` is the API's ARN, which the short form `execute-api:/…` stands for.

    Raises LocalError, naming `where`, for anything that IAM knows and this does not: nothing is skipped.
    """
    statements = document.get("Statement") if isinstance(document, dict) else None
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise LocalError(f"{where}: a policy document needs a list of statements")
    return Policy(
        tuple(_statement(item, where=f"{where} statement {n}", root=root) for n, item in enumerate(statements))
    )


def _statement(item: Any, *, where: str, root: str) -> Statement:
    if not isinstance(item, dict) or item.get("Effect") not in ("Allow", "Deny"):
        raise LocalError(f"{where}: Effect must be Allow or Deny")
    if unknown := sorted(set(item) - STATEMENT_MEMBERS):
        raise LocalError(f"{where}: {unknown[0]} is not evaluated here; write the statement without it")
    not_actions, not_resources = "NotAction" in item, "NotResource" in item
    actions = _texts(item.get("NotAction" if not_actions else "Action"), where=f"{where} Action")
    resources = _texts(item.get("NotResource" if not_resources else "Resource"), where=f"{where} Resource")
    return Statement(
        deny=item["Effect"] == "Deny",
        principal=_anonymous(item.get("Principal", "*")),
        actions=tuple(wildcard(action, ignore_case=True) for action in actions),
        not_actions=not_actions,
        resources=tuple(wildcard(_expand(resource, root)) for resource in resources),
        not_resources=not_resources,
        conditions=tuple(_conditions(item.get("Condition") or {}, where=where)),
    )


def _expand(resource: str, root: str) -> str:
    return root + resource.removeprefix("execute-api:") if resource.startswith("execute-api:/") else resource


def _texts(value: Any, *, where: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, str) for item in values):
        raise LocalError(f"{where}: must be a string or a list of strings")
    return values


def _anonymous(principal: Any) -> bool:
    """Whether the statement's principal covers a caller without AWS credentials, as all of ours are."""
    if isinstance(principal, dict):
        aws = principal.get("AWS", [])
        return "*" in (aws if isinstance(aws, list) else [aws])
    return bool(principal == "*")


def _conditions(block: Any, *, where: str) -> list[Condition]:
    if not isinstance(block, dict):
        raise LocalError(f"{where}: Condition must be an object")
    found = []
    for name, tests in block.items():
        operator = name.removesuffix("IfExists")
        if operator not in OPERATORS and operator != "Null":
            raise LocalError(
                f"{where}: condition operator {name} is not evaluated here; use one of {sorted(OPERATORS)}"
            )
        for key, expected in tests.items():
            if key.lower() not in KNOWN_KEYS:
                raise LocalError(f"{where}: condition key {key} is not evaluated here; use one of {sorted(KNOWN_KEYS)}")
            values = tuple(str(item) for item in (expected if isinstance(expected, list) else [expected]))
            if not values:
                raise LocalError(f"{where}: condition {name} on {key} has no values; give at least one")
            if operator.endswith("IpAddress"):
                _check_networks(values, where=f"{where} {key}")
            found.append(Condition(operator, operator != name, key.lower(), values))
    return found


def _check_networks(values: tuple[str, ...], *, where: str) -> None:
    for value in values:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError as error:
            raise LocalError(f"{where}: {value} is not an address range; write it as CIDR") from error
