"""How long the state bucket keeps old versions: what makes a lifecycle weaker, and the same one without that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

KEEP_OLD_VERSIONS_DAYS = 90
OWN_ID = "old-versions"
_ABORT_AFTER_DAYS = 7
Rule = Mapping[str, Any]


def weaknesses(rules: Sequence[Rule]) -> list[str]:
    """What is weaker than it should be, in words: old versions go too soon or never, current ones go, uploads stay.

    Only rules that are enabled count. Keeping old versions longer is no weakness.
    """
    return [*_too_soon(rules), *_missing(rules)]


def strengthened(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """The rules, in which nothing goes too soon, and the own one for what is missing; it shortens no other's days."""
    kept = [stronger for each in rules if each.get("ID") != OWN_ID and (stronger := _kept_longer(each))]
    found = [each for each in rules if each.get("ID") == OWN_ID and _is_enabled(each)]
    days = max([KEEP_OLD_VERSIONS_DAYS, *(_noncurrent_days(each) or 0 for each in found)])
    own: dict[str, Any] = {"ID": OWN_ID, "Status": "Enabled", "Filter": {"Prefix": ""}}
    if not any(_is_for_all(each) and _noncurrent_days(each) for each in kept):
        own["NoncurrentVersionExpiration"] = {"NoncurrentDays": days}
    if not any(_aborts_uploads(each) for each in kept):
        own["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": _ABORT_AFTER_DAYS}
    return [*kept, own] if len(own) > len(("ID", "Status", "Filter")) else kept


def _too_soon(rules: Sequence[Rule]) -> Iterator[str]:
    for each in filter(_is_enabled, rules):
        days = _noncurrent_days(each)
        if days is not None and days < KEEP_OLD_VERSIONS_DAYS:
            yield f"rule {each.get('ID', 'without an ID')} deletes old versions after {days} days"
        if _ends_current(each):
            yield f"rule {each.get('ID', 'without an ID')} ends current versions"


def _missing(rules: Sequence[Rule]) -> Iterator[str]:
    if not any(_is_for_all(each) and _noncurrent_days(each) for each in rules):
        yield "old versions are kept for ever"
    if not any(_aborts_uploads(each) for each in rules):
        yield "parts of broken uploads are kept for ever"


def _kept_longer(rule: Rule) -> dict[str, Any] | None:
    """The rule without what is weaker in it; None where nothing else was in it."""
    stronger = dict(rule)
    if not _is_enabled(rule):
        return stronger
    days = _noncurrent_days(rule)
    if days is not None and days < KEEP_OLD_VERSIONS_DAYS:
        longer = {**rule["NoncurrentVersionExpiration"], "NoncurrentDays": KEEP_OLD_VERSIONS_DAYS}
        stronger["NoncurrentVersionExpiration"] = longer
    if _ends_current(rule):
        del stronger["Expiration"]
    return stronger if stronger.keys() - {"ID", "Status", "Filter", "Prefix"} else None


def _is_enabled(rule: Rule) -> bool:
    return rule.get("Status") == "Enabled"


def _noncurrent_days(rule: Rule) -> int | None:
    days = rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays")
    return None if days is None else int(days)


def _ends_current(rule: Rule) -> bool:
    return bool({"Days", "Date"} & rule.get("Expiration", {}).keys())


def _is_for_all(rule: Rule) -> bool:
    """Whether it is enabled for every object: by no filter, an empty one, or an empty prefix."""
    narrowing = [value for value in (*rule.get("Filter", {}).values(), rule.get("Prefix")) if value]
    return _is_enabled(rule) and not narrowing


def _aborts_uploads(rule: Rule) -> bool:
    return _is_for_all(rule) and "AbortIncompleteMultipartUpload" in rule
