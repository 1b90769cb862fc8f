"""Judges the firewall: rules removed, weakened, put to count or moved behind what lets in, and its address lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from infra.review.diff import Change
from infra.review.facets import Facet
from infra.review.graph import Graph, Resource
from infra.review.model import NOTHING, Direction, Finding, Severity, Topic
from infra.review.opening_rules import Network, network
from infra.review.openings import contained
from infra.review.values import digest, has_unknown, listed, plain, shown
from infra.review.waf_statements import from_aws, measures, remainder

ACL = "aws:wafv2/webAcl:WebAcl"
IP_SET = "aws:wafv2/ipSet:IpSet"
# From what stops a request to what ends the evaluation in its favour; no rule at all is 0.
_ACTIONS = {"block": -1.0, "captcha": -0.9, "challenge": -0.8, "count": -0.1, "allow": 1.0}
_STOPS = frozenset({"block", "captcha", "challenge"})


def _topic(name: str, severity: Severity, what: str, why: str) -> Topic:
    return Topic(f"waf-{name}", "exposure", severity, what, why, relative=True)


RULE = _topic("rule", "high", "Rule of the firewall", "what it stopped is let through")
OVERRIDE = _topic("override", "medium", "Overridden rule of a managed group", "what it stopped is let through")
STATEMENT = _topic("statement", "medium", "What a rule matches", "it stops other requests than before")
MEASURE = _topic("measure", "medium", "Limit of a rule", "it stops fewer requests")
ORDER_ALLOW = _topic("order", "high", "Order of rules", "what the first lets in, the second never sees")
ORDER_RATE = _topic("order-rate", "low", "Order of rules", "what the first stops is not counted by the rate rule")
ORDER_LABEL = _topic(
    "order-label", "high", "Order of rules", "a rule on a label sees labels of the rules before it only"
)


def facets(graph: Graph) -> Iterator[Facet]:
    """The facets of every web ACL's rules."""
    for acl in graph.of(ACL):
        rules = _rules(acl)
        for rule in rules:
            yield from _rule_facets(acl, rule)
        yield from _order_facets(acl, rules)
        yield from _hidden_rules(acl)


def _written(acl: Resource) -> list[Any]:
    """The rules as they are written, those in AWS's JSON among them."""
    return [*listed(plain(acl.inputs.get("rules"))), *listed(from_aws(plain(acl.inputs.get("ruleJson"))))]


def _rules(acl: Resource) -> list[dict[str, Any]]:
    """The rules that are shown, by their numbers."""
    return sorted((rule for rule in _written(acl) if _is_shown(rule)), key=lambda rule: rule.get("priority") or 0)


def _is_shown(rule: Any) -> bool:
    """Whether a preview shows what a rule does; to which list of addresses it refers, it need not."""
    if not isinstance(rule, dict):
        return False
    members = (rule.get(key) for key in ("priority", "action", "overrideAction", "statement", "ruleLabels"))
    return not any(has_unknown(_without_references(each)) for each in members)


def _without_references(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_references(item) for key, item in value.items() if key != "arn"}
    return [_without_references(item) for item in value] if isinstance(value, list) else value


def _hidden_rules(acl: Resource) -> Iterator[Facet]:
    """One facet per rule, or list of them, that is known only once it is made."""
    for rule in _written(acl):
        if not _is_shown(rule):
            name = str(rule.get("name")) if isinstance(rule, dict) else str(rule)
            path = f"rules[{name}]"
            yield Facet(RULE, acl, path, None, f"{name}: unknown", detail=name, identity=digest(rule), protects=True)


def _rule_facets(acl: Resource, rule: Mapping[str, Any]) -> Iterator[Facet]:
    name, action = str(rule.get("name")), _action(rule)
    path = f"rules[{name}]"
    text = f"{name}: {action}"
    whole = (RULE.id, acl.urn, name)
    gone: Severity | None = "low" if action == "count" else None
    yield Facet(RULE, acl, path, _ACTIONS[action], text, detail=name, severity_if_gone=gone, protects=True)
    statement = rule.get("statement") or {}
    group = statement.get("managedRuleGroupStatement") or statement.get("ruleGroupReferenceStatement") or {}
    overrides = {
        str(each.get("name")): next(iter(each.get("actionToUse") or {"count": {}}))
        for each in group.get("ruleActionOverrides") or []
    }
    overrides |= {str(each.get("name")): "count" for each in group.get("excludedRules") or []}
    for inner, used in overrides.items():
        rank = 1.0 + _ACTIONS[used] if used in _ACTIONS else None
        shown_as = f"{name}/{inner}: {used}"
        yield Facet(OVERRIDE, acl, f"{path}.{inner}", rank, shown_as, detail=f"{name}/{inner}", needs=(whole,))
    sign = 1.0 if action in _STOPS else -1.0
    for key, rank, text, identity in measures(statement):
        shown_as = f"{name}: {text}"
        detail = f"{name}/{key}/{sign:g}"  # a limit says the opposite of a rule that lets in
        yield _pinned(Facet(MEASURE, acl, f"{path}.{key}", sign * rank, shown_as, detail=detail, identity=identity))
    rest = digest(remainder(statement))
    yield Facet(STATEMENT, acl, f"{path}.statement", 0.0, f"{name}: {shown(statement)}", detail=name, identity=rest)


def _pinned(facet: Facet) -> Facet:
    """A facet that says something only where it is there before and after: a removed rule has no limit to compare."""
    return replace(facet, needs=(facet.key,))


def _action(rule: Mapping[str, Any]) -> str:
    """What a rule does with what it matches; a group that is not overridden stops."""
    if "overrideAction" in rule:
        return "count" if "count" in (rule["overrideAction"] or {}) else "block"
    found = next(iter(rule.get("action") or {"count": {}}), "count")
    return found if found in _ACTIONS else "count"


def _order_facets(acl: Resource, rules: Sequence[Mapping[str, Any]]) -> Iterator[Facet]:
    """A facet for every pair whose order matters: the weaker order is a rank above the other."""
    for index, first in enumerate(rules):
        for second in rules[index + 1 :]:
            yield from _pair(acl, first, second)


def _pair(acl: Resource, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Facet]:
    actions = _action(first), _action(second)
    names = str(first.get("name")), str(second.get("name"))
    text, detail = f"{names[0]} before {names[1]}", "/".join(sorted(names))
    if "allow" in actions and _STOPS & {*actions}:
        yield _pinned(Facet(ORDER_ALLOW, acl, "rules", 1.0 if actions[0] == "allow" else 0.0, text, detail=detail))
    rates = ["rateBasedStatement" in (each.get("statement") or {}) for each in (first, second)]
    if any(rates) and not all(rates) and _STOPS & {actions[rates.index(False)]}:
        yield _pinned(Facet(ORDER_RATE, acl, "rules", 1.0 if rates[1] else 0.0, text, detail=detail))
    for consumer, producer, weak in ((second, first, 0.0), (first, second, 1.0)):
        if _waits_for(consumer, producer):
            yield _pinned(Facet(ORDER_LABEL, acl, "rules", weak, text, detail=detail))


def _waits_for(consumer: Mapping[str, Any], producer: Mapping[str, Any]) -> bool:
    """Whether a rule looks at a label that the other gives."""
    wanted = [str(each.get("key")) for each in _found(consumer.get("statement"), "labelMatchStatement")]
    given = [str(each.get("name")) for each in producer.get("ruleLabels") or []]
    group = (producer.get("statement") or {}).get("managedRuleGroupStatement")
    if group and any(key.startswith("awswaf:managed:") for key in wanted):
        return True
    return any(label == key or label.startswith(f"{key}:") or key.endswith(label) for key in wanted for label in given)


def _found(value: Any, key: str) -> Iterator[Mapping[str, Any]]:
    """Every mapping that stands under a key, at any depth."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name == key and isinstance(item, Mapping):
                yield item
            yield from _found(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _found(item, key)


def judge_address_lists(change: Change) -> Iterator[Finding]:
    """The findings on IP sets that stay: wider for what is let in, narrower for what is kept out."""
    for before, after in change.pairs:
        if before is not None and after is not None and before.type == IP_SET:
            old, new = _addresses(before), _addresses(after)
            roles = _roles(change.before, before) | _roles(change.after, after)
            if {*_hidden(old)} != {*_hidden(new)}:
                texts = shown(old), shown(new)
                yield _list_finding(after, roles, direction="unknown", severity="high", before=texts[0], after=texts[1])
            else:
                yield from _list_findings(after, _networks(old), _networks(new), roles)


def _list_findings(
    ip_set: Resource, old: list[Network], new: list[Network], roles: frozenset[str]
) -> Iterator[Finding]:
    came = [each for each in new if not contained(each, old)]
    went = [each for each in old if not contained(each, new)]
    for moved, added in ((came, True), (went, False)):
        if not moved:
            continue
        direction: Direction = "changed"
        if roles == {"allow"}:
            direction = "wider" if added else "narrower"
        elif roles == {"block"}:
            direction = "narrower" if added else "wider"
        text = ", ".join(str(each) for each in moved)
        everywhere = any(each.prefixlen <= 8 for each in moved)
        severity: Severity = "none" if direction == "narrower" else "high" if everywhere else "medium"
        sides = (NOTHING, text) if added else (text, NOTHING)
        yield _list_finding(ip_set, roles, direction=direction, severity=severity, before=sides[0], after=sides[1])


def _list_finding(
    ip_set: Resource, roles: frozenset[str], *, direction: Direction, severity: Severity, before: str, after: str
) -> Finding:
    return Finding(
        topic="address-list",
        concern="exposure",
        direction=direction,
        severity=severity,
        urn=ip_set.urn,
        resource=ip_set.name,
        type=ip_set.type,
        path="addresses",
        what=_list_name(roles),
        before=before,
        after=after,
        why=_list_reason(roles),
    )


def _list_name(roles: frozenset[str]) -> str:
    if len(roles) != 1:
        return "Address list of the firewall"
    return "Addresses that are let in" if "allow" in roles else "Addresses that are kept out"


def _list_reason(roles: frozenset[str]) -> str:
    if roles == {"allow"}:
        return "who may call is decided by this list"
    if roles == {"block"}:
        return "who may not call is decided by this list"
    return "whether it lets in or keeps out is not known from this preview"


def _addresses(ip_set: Resource) -> list[str]:
    return [str(each) for each in listed(ip_set.inputs.get("addresses"))]


def _networks(texts: list[str]) -> list[Network]:
    return [found for text in texts if (found := network(text)) is not None]


def _hidden(texts: list[str]) -> list[str]:
    """What is known only once it is made."""
    return [text for text in texts if network(text) is None]


def _roles(graph: Graph, ip_set: Resource) -> frozenset[str]:
    """Whether being in the set lets a request in or keeps it out, over all rules that name the set."""
    roles: set[str] = set()
    for acl in graph.of(ACL):
        for rule in _rules(acl):
            inside = _polarities(rule.get("statement"), ip_set.name, 1)
            stops = _action(rule) in _STOPS
            roles |= {"block" if (sign > 0) is stops else "allow" for sign in inside}
    return frozenset(roles)


def _polarities(statement: Any, name: str, sign: int) -> set[int]:
    """The signs under which a set is named: 1 where being in it makes the rule match, -1 where it does not."""
    if not isinstance(statement, Mapping):
        return set()
    found: set[int] = set()
    for key, value in statement.items():
        if key == "ipSetReferenceStatement" and str((value or {}).get("arn", "")).startswith(f"<{name}."):
            found.add(sign)
        elif key == "notStatement":
            found |= _polarities((value or {}).get("statement"), name, -sign)
        elif isinstance(value, Mapping):
            found |= _polarities(value, name, sign)
        elif isinstance(value, list):
            for item in value:
                found |= _polarities(item, name, sign)
    return found
