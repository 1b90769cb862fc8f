"""Policy documents as they stand in properties: as objects or as JSON text, whole or with unknown parts.

A statement with unknown parts is judged in every way it may turn out, with the widest and the narrowest value in each
of their places (infra/policies/completions.py): where the answers differ, it cannot be decided yet.
"""

import fnmatch
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.policies.answers import FINE, Answer, every, fails_if, some, undecidable
from infra.policies.arns import names_owner
from infra.policies.completions import LIMITING_KEYS, completions
from infra.policies.graph import read
from infra.policies.rule import Condition

# Operators that end in IfExists tie a statement to nothing: they let a request pass that lacks the key.
_LIMITING_OPERATORS = ("stringequals", "stringequalsignorecase", "stringlike", "arnequals", "arnlike")


@dataclass(frozen=True)
class PolicyStatement:
    """One statement of a document; every element is a list, in IAM's spelling."""

    sid: str
    allows: bool
    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    resources: tuple[str, ...]
    not_resources: tuple[str, ...]
    principals: Mapping[str, tuple[str, ...]]
    not_principals: bool
    conditions: Mapping[str, Mapping[str, tuple[str, ...]]]

    @property
    def label(self) -> str:
        """How the statement is called in a finding."""
        return f"statement {self.sid or 'without a Sid'}"

    @property
    def for_anyone(self) -> bool:
        """Whether its principal is everybody."""
        return self.not_principals or any("*" in values for values in self.principals.values())

    @property
    def is_limited(self) -> bool:
        """Whether a condition ties it to some account, organisation, network, resource or role."""
        return any(
            key in LIMITING_KEYS and bool(values) and all(names_owner(each) for each in values)
            for operator, keys in self.conditions.items()
            if operator in _LIMITING_OPERATORS
            for key, values in keys.items()
        )

    def may(self, action: str) -> bool:
        """Whether its actions include that one."""
        if self.not_actions:
            return not any(matches(pattern, action) for pattern in self.not_actions)
        return any(matches(pattern, action) for pattern in self.actions)


StatementCondition = Callable[[PolicyStatement], Answer]
Possibilities = tuple[PolicyStatement, ...]
"""The ways a statement may turn out; one where it is known."""


def matches(pattern: str, action: str) -> bool:
    """Whether an action's name fits a pattern with `*` and `?`, in either case of letters."""
    return fnmatch.fnmatchcase(action.lower(), pattern.lower().replace("[", "[[]"))


@dataclass(frozen=True)
class Document:
    """The statements that are there, and whether these are all."""

    statements: tuple[Possibilities, ...]
    complete: bool

    def missing(self, path: str) -> list[Answer]:
        """What to add to the answers on its statements."""
        return [] if self.complete else [undecidable(f"{path} is not known yet")]


def parse(value: Any) -> Document:
    """The document in a property; a text that is no JSON object has no known statement and is not complete."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return Document(statements=(), complete=False)
    if not isinstance(value, Mapping):
        return Document(statements=(), complete=value is None)
    found = value.get("Statement", [])
    if isinstance(found, Mapping):
        found = [found]
    if not isinstance(found, list | tuple):
        return Document(statements=(), complete=False)
    known = [each for each in found if isinstance(each, Mapping)]
    statements = tuple(tuple(_statement(way) for way in completions(each)) for each in known)
    return Document(statements=statements, complete=len(known) == len(found))


def judged(possibilities: Possibilities, condition: StatementCondition) -> Answer:
    """The answer on a statement, if it is the same however the statement turns out."""
    answers = [condition(each) for each in possibilities]
    if len({each.verdict for each in answers}) == 1:
        return answers[0]
    return undecidable(f"parts of {possibilities[0].label} are not known yet")


def each_statement(path: str, condition: StatementCondition) -> Condition:
    """Every statement of the document at `path` meets the condition."""

    def check(properties: Mapping[str, Any]) -> Answer:
        document = parse(read(properties, path))
        return every([*(judged(each, condition) for each in document.statements), *document.missing(path)])

    return check


def any_statement(path: str, wanted: Callable[[PolicyStatement], bool], *, otherwise: str) -> Condition:
    """Some statement of the document at `path` is as wanted."""

    def check(properties: Mapping[str, Any]) -> Answer:
        document = parse(read(properties, path))
        answers = [judged(each, lambda way: fails_if(not wanted(way), otherwise)) for each in document.statements]
        return some([*answers, *document.missing(path)], otherwise=otherwise)

    return check


def denies_plain_transport(
    *actions: str, whole: Callable[[Sequence[str]], bool] = bool
) -> Callable[[PolicyStatement], bool]:
    """Whether a statement denies everybody these actions without TLS, under no further condition.

    `whole` says of its resources whether they are all of what the policy is of; where that is one thing, any will do.
    """
    without_tls = {"bool": {"aws:securetransport": ("false",)}}

    def wanted(statement: PolicyStatement) -> bool:
        denies = not statement.allows and statement.for_anyone and all(statement.may(each) for each in actions)
        everywhere = not statement.not_resources and whole(statement.resources)
        return denies and everywhere and statement.conditions == without_tls

    return wanted


def no_allow_for_anyone(statement: PolicyStatement) -> Answer:
    """What the statement allows, it allows to somebody in particular."""
    is_open = statement.allows and statement.for_anyone and not statement.is_limited
    return fails_if(is_open, f"{statement.label} allows everybody")


def no_allow_for_anyone_of(*actions: str) -> StatementCondition:
    """None of these actions is allowed to everybody."""

    def condition(statement: PolicyStatement) -> Answer:
        return no_allow_for_anyone(statement) if any(statement.may(action) for action in actions) else FINE

    return condition


def _statement(value: Mapping[str, Any]) -> PolicyStatement:
    principal = value.get("Principal", {})
    conditions = value.get("Condition") or {}
    return PolicyStatement(
        sid=str(value.get("Sid", "")),
        allows=value.get("Effect") == "Allow",
        actions=_texts(value.get("Action")),
        not_actions=_texts(value.get("NotAction")),
        resources=_texts(value.get("Resource")),
        not_resources=_texts(value.get("NotResource")),
        principals=(
            {kind: _texts(each) for kind, each in principal.items()}
            if isinstance(principal, Mapping)
            else {"AWS": _texts(principal)}
        ),
        not_principals="NotPrincipal" in value,
        conditions={
            operator.lower(): {key.lower(): _texts(each) for key, each in keys.items()}
            for operator, keys in (conditions.items() if isinstance(conditions, Mapping) else ())
            if isinstance(keys, Mapping)
        },
    )


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    values: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    # A switch in a condition may stand as a JSON boolean.
    return tuple(str(each).lower() if isinstance(each, bool) else str(each) for each in values)
