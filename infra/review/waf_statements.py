"""Firewall statements taken apart: what can be measured as weaker or stronger, and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infra.review.values import digest, shown

_WINDOW = 300
# What a body that is too large to inspect counts as, for a rule that stops what it matches.
_OVERSIZE = {"MATCH": 0.0, "CONTINUE": 1.0, "NO_MATCH": 2.0}
_ABOVE = frozenset({"GT", "GE"})
# The members of a statement that are measured, or judged as overrides; of those within another, nothing is.
_MEASURED: Mapping[str, frozenset[str]] = {
    "rateBasedStatement": frozenset({"limit", "evaluationWindowSec", "scopeDownStatement"}),
    "sizeConstraintStatement": frozenset({"size"}),
    "managedRuleGroupStatement": frozenset({"scopeDownStatement", "ruleActionOverrides", "excludedRules"}),
    "ruleGroupReferenceStatement": frozenset({"ruleActionOverrides", "excludedRules"}),
}
# Keys of AWS's JSON whose spelling here is not the same with a small first letter.
_SPELLING = {
    "ARN": "arn",
    "IPSetReferenceStatement": "ipSetReferenceStatement",
    "IPSetForwardedIPConfig": "ipSetForwardedIpConfig",
    "ForwardedIPConfig": "forwardedIpConfig",
    "CloudWatchMetricsEnabled": "cloudwatchMetricsEnabled",
    "JA3Fingerprint": "ja3Fingerprint",
    "JA4Fingerprint": "ja4Fingerprint",
}


def measures(statement: Mapping[str, Any]) -> Iterator[tuple[str, float, str, str]]:
    """Measures of a statement that stops what it matches; a higher rank stops less.

    Each is (name, rank, for people, what tells it from another of that rank).
    """
    for name, rank, text in _numbers(statement):
        yield name, rank, text, text
    for kind in ("rateBasedStatement", "managedRuleGroupStatement"):
        parent = statement.get(kind)
        if isinstance(parent, Mapping):
            scope = parent.get("scopeDownStatement")
            text = f"requests that match {shown(scope)}" if scope else "every request"
            yield "scope", 1.0 if scope else 0.0, text, digest(scope)


def _numbers(statement: Mapping[str, Any]) -> Iterator[tuple[str, float, str]]:
    rate = statement.get("rateBasedStatement")
    if isinstance(rate, Mapping):
        window = float(rate.get("evaluationWindowSec") or _WINDOW)
        limit = float(rate.get("limit") or 0)
        yield "rate", limit / window, f"{limit:g} requests in {window:g} s"
    size = statement.get("sizeConstraintStatement")
    if isinstance(size, Mapping):
        sign = 1.0 if size.get("comparisonOperator") in _ABOVE else -1.0
        number = float(size.get("size") or 0)
        yield "size", sign * number, f"{size.get('comparisonOperator')} {number:.0f} bytes"
    for name, value in statement.items():
        if not isinstance(value, Mapping):
            continue
        oversize = _oversize(value)
        if oversize in _OVERSIZE:
            yield f"{name}.oversize", _OVERSIZE[oversize], f"a body that is too large: {oversize}"
        transformations = value.get("textTransformations")
        if isinstance(transformations, list):
            kinds = sorted({str(each.get("type")) for each in transformations if isinstance(each, Mapping)} - {"NONE"})
            yield f"{name}.transformations", -float(len(kinds)), f"decoded by {', '.join(kinds) or 'nothing'}"


def _oversize(value: Mapping[str, Any]) -> str:
    field = value.get("fieldToMatch") or {}
    parts = [part for part in field.values() if isinstance(part, Mapping)] if isinstance(field, Mapping) else []
    return next((str(part["oversizeHandling"]) for part in parts if "oversizeHandling" in part), "")


def remainder(statement: Mapping[str, Any]) -> dict[str, Any]:
    """The statement without what is measured: another remainder matches other requests."""
    return {
        kind: _remainder(value, _MEASURED.get(kind, frozenset())) if isinstance(value, Mapping) else value
        for kind, value in statement.items()
    }


def _remainder(value: Mapping[str, Any], measured: frozenset[str]) -> dict[str, Any]:
    rest = {key: item for key, item in value.items() if key not in measured and key != "textTransformations"}
    field = rest.get("fieldToMatch")
    if isinstance(field, Mapping):
        rest["fieldToMatch"] = {
            name: {key: item for key, item in part.items() if key != "oversizeHandling"}
            if isinstance(part, Mapping)
            else part
            for name, part in field.items()
        }
    return rest


def from_aws(value: Any) -> Any:
    """Rules in the JSON of AWS's API, in the spelling of the provider's inputs."""
    if isinstance(value, Mapping):
        return {_SPELLING.get(key, key[:1].lower() + key[1:]): from_aws(item) for key, item in value.items()}
    return [from_aws(item) for item in value] if isinstance(value, list) else value
