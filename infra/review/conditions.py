"""Conditions of policy statements: which of two is the stricter."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from infra.review.iam_actions import glob

_NEGATIVE = (
    "StringNotEquals",
    "StringNotLike",
    "StringNotEqualsIgnoreCase",
    "ArnNotEquals",
    "ArnNotLike",
    "NotIpAddress",
    "NumericNotEquals",
    "DateNotEquals",
)
_LIKE = {"StringLike", "ArnLike"}
_SAME = {"ArnEquals": "ArnLike", "ArnNotEquals": "ArnNotLike"}
_BELOW = {"NumericLessThan", "NumericLessThanEquals", "DateLessThan", "DateLessThanEquals"}
_ABOVE = {"NumericGreaterThan", "NumericGreaterThanEquals", "DateGreaterThan", "DateGreaterThanEquals"}


@dataclass(frozen=True, order=True)
class Condition:
    """One test of a statement, e.g. StringEquals aws:SourceAccount; `if_exists` lets a request without the key pass.

    Keys are equal in any case; `spelling` is how this one is written.
    """

    operator: str
    key: str
    values: tuple[str, ...]
    quantifier: str = ""
    if_exists: bool = False
    spelling: str = field(default="", compare=False)

    def __str__(self) -> str:
        quantifier = f"{self.quantifier}:" if self.quantifier else ""
        suffix = "IfExists" if self.if_exists else ""
        return f"{self.spelling or self.key} {quantifier}{self.operator}{suffix} {' or '.join(self.values)}"


def parse(raw: Any) -> frozenset[Condition]:
    """The tests in a statement's Condition; all of them must hold. `is_readable` says whether it is one."""
    found = set()
    for operator, tests in (raw or {}).items():
        quantifier, _, name = operator.rpartition(":")
        if_exists = name.endswith("IfExists")
        for key, values in (tests or {}).items():
            texts = sorted({_text(value) for value in (values if isinstance(values, list) else [values])})
            found.add(Condition(name.removesuffix("IfExists"), key.lower(), tuple(texts), quantifier, if_exists, key))
    return frozenset(found)


def is_readable(raw: Any) -> bool:
    """Whether a Condition shows its tests; one that is known only once it is made does not."""
    if raw is None:
        return True
    return isinstance(raw, Mapping) and all(tests is None or isinstance(tests, Mapping) for tests in raw.values())


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def imply(strict: Iterable[Condition], lax: Iterable[Condition]) -> bool:
    """Whether every request that passes `strict` passes `lax`. Says no where that is not certain."""
    stricts = list(strict)
    return all(any(_implies(each, wanted) for each in stricts) for wanted in lax)


def _implies(strict: Condition, lax: Condition) -> bool:
    strict, lax = _canonical(strict), _canonical(lax)
    if strict.key != lax.key or strict.quantifier != lax.quantifier or (strict.if_exists and not lax.if_exists):
        return False
    same = strict.operator == lax.operator
    if same and strict.values == lax.values:
        return True
    if lax.operator in _NEGATIVE:
        return same and set(lax.values) <= set(strict.values)  # the lax one excludes fewer things
    if lax.operator in _BELOW | _ABOVE:
        return same and _within(strict, lax)
    if strict.operator in _NEGATIVE:
        return False
    return _values_within(strict, lax, same=same)


def _canonical(condition: Condition) -> Condition:
    """The test under one name of those that say the same: likeness without wildcards is equality."""
    operator = _SAME.get(condition.operator, condition.operator)
    if operator in ("StringLike", "StringNotLike") and not any(set(value) & {"*", "?"} for value in condition.values):
        operator = operator.replace("Like", "Equals")
    return replace(condition, operator=operator)


def _values_within(strict: Condition, lax: Condition, *, same: bool) -> bool:
    """Whether each value that the strict test takes is one that the lax test takes."""
    if lax.operator == "IpAddress" and same:
        return all(any(_inside(value, other) for other in lax.values) for value in strict.values)
    if lax.operator in _LIKE and (same or strict.operator.endswith(("Equals", "Like"))):
        return all(any(glob(other).fullmatch(value) for other in lax.values) for value in strict.values)
    return same and set(strict.values) <= set(lax.values)


def _within(strict: Condition, lax: Condition) -> bool:
    """Whether the strict bound lies on the strict side; dates in ISO form sort like numbers."""
    if len(strict.values) != 1 or len(lax.values) != 1:
        return False
    one, other = strict.values[0], lax.values[0]
    try:
        return float(one) <= float(other) if lax.operator in _BELOW else float(one) >= float(other)
    except ValueError:
        if not (one[:4].isdigit() and other[:4].isdigit()):
            return False
        return one <= other if lax.operator in _BELOW else one >= other


def _inside(one: str, other: str) -> bool:
    try:
        network, wider = ipaddress.ip_network(one, strict=False), ipaddress.ip_network(other, strict=False)
    except ValueError:
        return one == other
    if isinstance(network, ipaddress.IPv4Network) and isinstance(wider, ipaddress.IPv4Network):
        return network.subnet_of(wider)
    if isinstance(network, ipaddress.IPv6Network) and isinstance(wider, ipaddress.IPv6Network):
        return network.subnet_of(wider)
    return False


def shown(conditions: Iterable[Condition]) -> str:
    """Tests for people; empty where there are none."""
    return " and ".join(str(each) for each in sorted(conditions))
