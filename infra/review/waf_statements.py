"""Firewall statements taken apart: what can be measured as weaker or stronger, and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infra.review.values import shown

_WINDOW = 300
# What a body that is too large to inspect counts as, for a rule that stops what it matches.
_OVERSIZE = {"MATCH": 0.0, "CONTINUE": 1.0, "NO_MATCH": 2.0}
_ABOVE = frozenset({"GT", "GE"})
_MEASURED = frozenset(
    {
        "limit",
        "evaluationWindowSec",
        "scopeDownStatement",
        "size",
        "oversizeHandling",
        "textTransformations",
        "ruleActionOverrides",
        "excludedRules",
    }
)


def measures(statement: Mapping[str, Any]) -> Iterator[tuple[str, float, str]]:
    """Measures of a statement that stops what it matches: (name, rank, for people); a higher rank stops less."""
    rate = statement.get("rateBasedStatement")
    if isinstance(rate, Mapping):
        window = float(rate.get("evaluationWindowSec") or _WINDOW)
        limit = float(rate.get("limit") or 0)
        yield "rate", limit / window, f"{limit:g} requests in {window:g} s"
        yield _scope(rate)
    size = statement.get("sizeConstraintStatement")
    if isinstance(size, Mapping):
        sign = 1.0 if size.get("comparisonOperator") in _ABOVE else -1.0
        number = float(size.get("size") or 0)
        yield "size", sign * number, f"{size.get('comparisonOperator')} {number:.0f} bytes"
    group = statement.get("managedRuleGroupStatement")
    if isinstance(group, Mapping):
        yield _scope(group)
    for name, value in statement.items():
        if not isinstance(value, Mapping):
            continue
        oversize = _oversize(value)
        if oversize in _OVERSIZE:
            yield f"{name}.oversize", _OVERSIZE[oversize], f"a body that is too large: {oversize}"
        transformations = value.get("textTransformations")
        if isinstance(transformations, list):
            kinds = sorted({str(each.get("type")) for each in transformations} - {"NONE"})
            yield f"{name}.transformations", -float(len(kinds)), f"decoded by {', '.join(kinds) or 'nothing'}"


def _oversize(value: Mapping[str, Any]) -> str:
    field = value.get("fieldToMatch") or {}
    parts = list(field.values()) if isinstance(field, Mapping) else []
    return next((str(part["oversizeHandling"]) for part in parts if part and "oversizeHandling" in part), "")


def _scope(statement: Mapping[str, Any]) -> tuple[str, float, str]:
    scope = statement.get("scopeDownStatement")
    return "scope", 1.0 if scope else 0.0, f"requests that match {shown(scope)}" if scope else "every request"


def remainder(statement: Any) -> Any:
    """The statement without what is measured, or neutral: another remainder matches other requests."""
    if isinstance(statement, list):
        return [remainder(each) for each in statement]
    if not isinstance(statement, Mapping):
        return statement
    return {key: remainder(value) for key, value in statement.items() if key not in _MEASURED}
