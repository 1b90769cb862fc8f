"""Policy documents as grants, and what of one set of grants another set does not cover."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from infra.review import conditions
from infra.review.conditions import Condition
from infra.review.graph import UNKNOWN
from infra.review.iam_actions import everything, expand, glob
from infra.review.values import comparable, listed, plain

ANYONE = ("*", "*")
_NOBODY = ("", "")


@dataclass(frozen=True)
class Pattern:
    """A resource or principal pattern, or, with `negated`, everything but the given patterns."""

    texts: frozenset[str]
    negated: bool = False

    def within(self, other: Pattern) -> bool:
        """Whether everything that this matches is matched by `other`. Says no where that is not certain."""
        if other.negated and self.negated:
            return all(any(_matches(one, wider) for wider in self.texts) for one in other.texts)
        if other.negated:
            return all(_disjoint(one, excluded) for one in self.texts for excluded in other.texts)
        if self.negated:
            return "*" in other.texts
        return all(any(_matches(one, wider) for wider in other.texts) for one in self.texts)

    def __str__(self) -> str:
        text = ", ".join(sorted(self.texts))
        return f"everything but {text}" if self.negated else text


@dataclass(frozen=True)
class Grant:
    """One effect of one statement on one resource for one principal; `actions` are expanded, in lower case.

    `stated` are all the actions of the statement and `written` how it names them, where `actions` are only those in
    question.
    """

    effect: str
    principal: tuple[str, str]
    actions: frozenset[str]
    resource: Pattern
    conditions: frozenset[Condition]
    excepted_principal: bool = False
    stated: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    written: str = field(default="", compare=False)

    @property
    def is_allow(self) -> bool:
        return self.effect == "Allow"


@dataclass(frozen=True)
class Reading:
    """What a document says as far as it is shown; `unknown` is the text of each part that is not."""

    grants: tuple[Grant, ...] = ()
    unknown: tuple[str, ...] = ()


def read(document: Any, *, resource: str = "*", principal: tuple[str, str] = _NOBODY) -> Reading:
    """The grants of a document, and the statements of it, or itself, that are unknown.

    `resource` and `principal` are what a policy speaks of that names none: a trust policy's role, an identity policy's
    bearer.
    """
    document = plain(document)
    if document in (None, "", {}):
        return Reading()
    if not isinstance(document, Mapping):
        return Reading(unknown=(str(document),))
    found: list[Grant] = []
    unknown: list[str] = []
    for statement in listed(document.get("Statement")):
        if isinstance(statement, Mapping) and _is_readable(statement):
            found += _grants_of(statement, resource=resource, principal=principal)
        else:
            unknown.append(json.dumps(comparable(statement), sort_keys=True))
    return Reading(grants=tuple(found), unknown=tuple(unknown))


def _is_readable(statement: Mapping[str, Any]) -> bool:
    """Whether a statement shows what it does, to which actions, and when; an unknown resource is a name like others."""
    names = [each for key in ("Action", "NotAction", "NotResource") for each in listed(statement.get(key))]
    return (
        statement.get("Effect", "Allow") in ("Allow", "Deny")
        and UNKNOWN not in names
        and conditions.is_readable(statement.get("Condition"))
    )


def _grants_of(statement: Mapping[str, Any], *, resource: str, principal: tuple[str, str]) -> Iterator[Grant]:
    if "NotAction" in statement:
        excluded = frozenset().union(*(expand(str(each)) for each in listed(statement["NotAction"])))
        actions = everything() - excluded
        written = f"everything but {', '.join(sorted(str(each) for each in listed(statement['NotAction'])))}"
    else:
        actions = frozenset().union(*(expand(str(each)) for each in listed(statement.get("Action"))))
        written = ", ".join(sorted(str(each) for each in listed(statement.get("Action"))))
    if "NotResource" in statement:
        resources = [Pattern(frozenset(str(each) for each in listed(statement["NotResource"])), negated=True)]
    else:
        resources = [Pattern(frozenset({str(each)})) for each in listed(statement.get("Resource", resource))]
    excepted = "NotPrincipal" in statement
    who = _principals(statement.get("NotPrincipal" if excepted else "Principal")) or [principal]
    tests = conditions.parse(statement.get("Condition"))
    for one in who:
        for each in resources:
            yield Grant(
                effect=str(statement.get("Effect", "Allow")),
                principal=one,
                actions=actions,
                resource=each,
                conditions=tests,
                excepted_principal=excepted,
                stated=actions,
                written=written,
            )


def _principals(raw: Any) -> list[tuple[str, str]]:
    if raw is None:
        return []
    if not isinstance(raw, Mapping):
        return [ANYONE if str(raw) == "*" else ("AWS", str(raw))]
    return [
        ANYONE if kind == "AWS" and str(each) == "*" else (str(kind), str(each))
        for kind, values in raw.items()
        for each in listed(values)
    ]


def uncovered(wanted: Iterable[Grant], given: Sequence[Grant]) -> list[Grant]:
    """What of `wanted` no grant of the same effect in `given` covers, with only the actions that are not."""
    left = []
    for grant in wanted:
        actions = grant.actions
        for other in given:
            if actions and _covers(other, grant):
                actions = actions - other.actions
        if actions:
            left.append(replace(grant, actions=actions))
    return left


def _covers(wider: Grant, grant: Grant) -> bool:
    """Whether `wider` does for every one of its own actions what `grant` does."""
    return (
        wider.effect == grant.effect
        and _principal_within(grant, wider)
        and grant.resource.within(wider.resource)
        and conditions.imply(grant.conditions, wider.conditions)
    )


def _principal_within(grant: Grant, wider: Grant) -> bool:
    if grant.excepted_principal or wider.excepted_principal:
        return grant.excepted_principal == wider.excepted_principal and grant.principal == wider.principal
    if wider.principal in (ANYONE, grant.principal):
        return True
    if grant.principal[0] != "AWS" or wider.principal[0] != "AWS":
        return False
    account = account_of(wider.principal[1])
    return is_account(wider.principal[1]) and account == account_of(grant.principal[1])


def is_account(principal: str) -> bool:
    """Whether a principal is an account as a whole, whose own policies decide who of it may."""
    account = account_of(principal)
    return account != "" and (principal == account or principal.endswith(":root"))


def is_own(principal: str, accounts: frozenset[str]) -> bool:
    """Whether a principal is of one of the accounts; a reference to a resource of the stack is."""
    is_reference = principal.startswith("<") and principal != UNKNOWN
    return is_reference or account_of(principal) in accounts


def account_of(principal: str) -> str:
    """The account of a principal's ARN, or the account itself; empty where it cannot be told."""
    parts = principal.split(":")
    if len(parts) >= 6 and parts[0] == "arn":
        return parts[4]
    return principal if principal.isdigit() or principal == "<account>" else ""


def _matches(one: str, wider: str) -> bool:
    return one == wider or glob(wider).fullmatch(one) is not None


def _disjoint(one: str, other: str) -> bool:
    """Whether no text can match both, told by what stands before the first wildcard."""
    start, other_start = (text.split("*")[0].split("?")[0] for text in (one, other))
    return not start.startswith(other_start) and not other_start.startswith(start)
