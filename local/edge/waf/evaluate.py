"""A web ACL compiled once, and its verdict on a request: rules in order of priority, then the default action."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local.edge.deployed import WebAcl
from local.edge.waf.inspected import Inspected
from local.edge.waf.managed import GROUPS
from local.edge.waf.members import members, required, single
from local.edge.waf.rate import Check, RateCounters
from local.edge.waf.statements import Scope, compile_statement
from local.errors import LocalError

BODY_LIMITS = {"KB_16": 16_384, "KB_32": 32_768, "KB_48": 49_152, "KB_64": 65_536}
CONTENT_TYPES = {"TEXT_PLAIN": "text/plain", "TEXT_HTML": "text/html", "APPLICATION_JSON": "application/json"}
RULE_MEMBERS = (
    "Name",
    "Priority",
    "Statement",
    "Action",
    "OverrideAction",
    "RuleLabels",
    "VisibilityConfig",
    "CaptchaConfig",
    "ChallengeConfig",
)
NOT_EMULATED = ("PreProcessFirewallManagerRuleGroups", "PostProcessFirewallManagerRuleGroups", "MonetizationConfig")
GROUP_MEMBERS = (
    *("VendorName", "Name", "Version", "ExcludedRules", "ScopeDownStatement", "RuleActionOverrides"),
    "ManagedRuleGroupConfigs",
)
COMMON_BOTS = [{"AWSManagedRulesBotControlRuleSet": {"InspectionLevel": "COMMON"}}]

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class CustomResponse:
    """What a block action answers in place of the gateway response."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True)
class Action:
    """A rule's action: `kind` is allow, block or count; `insert` are headers for the target's request."""

    kind: str
    insert: Headers = ()
    response: CustomResponse | None = None


@dataclass(frozen=True)
class Verdict:
    """The web ACL's decision; `rule` names the rule that made it, None for the default action."""

    allowed: bool
    insert: Headers
    response: CustomResponse | None
    rule: str | None


@dataclass(frozen=True)
class _Rule:
    """One rule ready to run: a check with an action, or a group of rules."""

    name: str
    check: Check
    action: Action | None
    labels: tuple[str, ...]
    group: tuple["_Rule", ...] = ()
    group_counts: bool = False


class Firewall:
    """One web ACL; raises LocalError for anything in it that would not be evaluated as AWS WAF does."""

    def __init__(self, acl: WebAcl, *, account: str, counters: RateCounters) -> None:
        definition = acl.definition
        self.arn: str = definition["ARN"]
        name = definition["Name"]
        for refused in NOT_EMULATED:
            if definition.get(refused):
                raise LocalError(f"web ACL {name}: {refused} is not emulated; leave it out")
        self._acl = acl
        self._bodies = definition.get("CustomResponseBodies") or {}
        prefix = definition.get("LabelNamespace") or f"awswaf:{account}:webacl:{name}:"
        scope = Scope(prefix, acl.ip_sets, acl.regex_sets, counters)
        self._rules = self._compile(definition.get("Rules") or (), scope=scope, bodies=self._bodies, group=False)
        self._default = self._action(definition["DefaultAction"], where=f"web ACL {name} default", bodies=self._bodies)
        self.body_limit = _body_limit(definition.get("AssociationConfig") or {}, where=f"web ACL {name}")

    def evaluate(self, inspected: Inspected) -> Verdict:
        """Decide on one request."""
        insert: list[tuple[bytes, bytes]] = []
        for rule in self._rules:
            found = self._run(rule, inspected, insert)
            if found is not None:
                name, action = found
                return Verdict(action.kind == "allow", (*insert, *action.insert), action.response, name)
        return Verdict(self._default.kind == "allow", (*insert, *self._default.insert), self._default.response, None)

    def _run(self, rule: _Rule, inspected: Inspected, insert: list[tuple[bytes, bytes]]) -> tuple[str, Action] | None:
        """Run one rule; answers the action that ends the evaluation, if any. Counting goes on."""
        if not rule.check(inspected):
            return None
        inspected.labels.update(rule.labels)
        for member in rule.group:
            found = self._run(member, inspected, insert)
            if found is not None:
                return None if rule.group_counts else (f"{rule.name}/{found[0]}", found[1])
        if rule.action is None:
            return None
        if rule.action.kind == "count":
            insert.extend(rule.action.insert)
            return None
        return rule.name, rule.action

    def _compile(
        self, rules: Sequence[Mapping[str, Any]], *, scope: Scope, bodies: Mapping[str, Any], group: bool
    ) -> tuple[_Rule, ...]:
        priorities = [int(rule["Priority"]) for rule in rules]
        if len(set(priorities)) != len(priorities):
            raise LocalError(f"{scope.label_prefix} rules: two have one priority; give each its own")
        ordered = sorted(rules, key=lambda rule: int(rule["Priority"]))
        return tuple(self._rule(rule, scope=scope, bodies=bodies, group=group) for rule in ordered)

    def _rule(self, spec: Mapping[str, Any], *, scope: Scope, bodies: Mapping[str, Any], group: bool) -> _Rule:
        name = spec["Name"]
        where = f"WAF rule {name}"
        known = members(spec, known=RULE_MEMBERS, where=where)
        kind, options = single(required(known, "Statement", where=where), where=f"{where} statement")
        labels = tuple(f"{scope.label_prefix}{label['Name']}" for label in known.get("RuleLabels") or ())
        if kind in ("ManagedRuleGroupStatement", "RuleGroupReferenceStatement"):
            if group:
                raise LocalError(f"{where}: a rule group cannot hold {kind}; put it into the web ACL")
            override, _ = single(required(known, "OverrideAction", where=where), where=f"{where} OverrideAction")
            check, inner = self._group(kind, options, name=name, scope=scope)
            return _Rule(name, check, None, labels, group=inner, group_counts=override == "Count")
        action = self._action(required(known, "Action", where=where), where=where, bodies=bodies)
        check = compile_statement(known["Statement"], scope=scope, rule=name)
        return _Rule(name, check, action, labels)

    def _group(
        self, kind: str, options: Mapping[str, Any], *, name: str, scope: Scope
    ) -> tuple[Check, tuple[_Rule, ...]]:
        where = f"WAF rule {name} statement {kind}"
        known = members(options, known=(*GROUP_MEMBERS, "ARN"), where=where)
        if known.get("ManagedRuleGroupConfigs") not in (None, [], COMMON_BOTS):
            raise LocalError(f"{where}: ManagedRuleGroupConfigs is not emulated but for Bot Control's level COMMON")
        bodies: Mapping[str, Any] = {}
        if kind == "ManagedRuleGroupStatement":
            group = GROUPS.get(known.get("Name", "")) if known.get("VendorName") == "AWS" else None
            if group is None:
                raise LocalError(
                    f"{where}: {known.get('Name')} has no stand-in here; known: {', '.join(sorted(GROUPS))}"
                )
            rules: Sequence[Mapping[str, Any]] = group.rules
            inner = Scope(group.prefix, group.ip_sets, {}, scope.counters)
        else:
            found = self._acl.rule_groups[required(known, "ARN", where=where)]
            rules, bodies = found.get("Rules") or (), found.get("CustomResponseBodies") or {}
            inner = Scope(found["LabelNamespace"], scope.ip_sets, scope.regex_sets, scope.counters)
        overridden = _overridden(rules, known, where=where)
        narrowing = known.get("ScopeDownStatement")
        check = compile_statement(narrowing, scope=scope, rule=name, top=False) if narrowing else _always
        return check, self._compile(overridden, scope=inner, bodies=bodies or self._bodies, group=True)

    def _action(self, spec: Mapping[str, Any], *, where: str, bodies: Mapping[str, Any]) -> Action:
        kind, options = single(spec, where=f"{where} action")
        if kind == "Block":
            response = options.get("CustomResponse")
            return Action("block", response=_custom_response(response, bodies, where=where) if response else None)
        if kind in ("Allow", "Count"):
            handling = options.get("CustomRequestHandling") or {}
            insert = tuple(
                (f"x-amzn-waf-{item['Name']}".lower().encode("latin-1"), item["Value"].encode("latin-1"))
                for item in handling.get("InsertHeaders") or ()
            )
            return Action(kind.lower(), insert=insert)
        raise LocalError(f"{where}: action {kind} needs a browser and is not emulated; use Allow, Block or Count")


def _always(inspected: Inspected) -> bool:
    return inspected is not None


def _overridden(
    rules: Sequence[Mapping[str, Any]], options: Mapping[str, Any], *, where: str
) -> list[Mapping[str, Any]]:
    """The group's rules with the actions that the web ACL gives them; an excluded rule counts."""
    overrides = {item["Name"]: item["ActionToUse"] for item in options.get("RuleActionOverrides") or ()}
    overrides |= {item["Name"]: {"Count": {}} for item in options.get("ExcludedRules") or ()}
    if unknown := sorted(set(overrides) - {rule["Name"] for rule in rules}):
        names = ", ".join(rule["Name"] for rule in rules)
        raise LocalError(f"{where}: override for {unknown[0]}, which the group does not have; it has {names}")
    return [{**rule, "Action": overrides.get(rule["Name"], rule["Action"])} for rule in rules]


def _custom_response(spec: Mapping[str, Any], bodies: Mapping[str, Any], *, where: str) -> CustomResponse:
    known = members(spec, known=("ResponseCode", "CustomResponseBodyKey", "ResponseHeaders"), where=f"{where} response")
    headers = [
        (item["Name"].lower().encode("latin-1"), item["Value"].encode("latin-1"))
        for item in known.get("ResponseHeaders") or ()
    ]
    content = b""
    if key := known.get("CustomResponseBodyKey"):
        if key not in bodies or bodies[key].get("ContentType") not in CONTENT_TYPES:
            raise LocalError(f"{where}: custom response body {key} does not exist; add it to CustomResponseBodies")
        content = bodies[key]["Content"].encode("utf-8")
        headers.append((b"content-type", CONTENT_TYPES[bodies[key]["ContentType"]].encode("ascii")))
    return CustomResponse(int(known["ResponseCode"]), tuple(headers), content)


def _body_limit(config: Mapping[str, Any], *, where: str) -> int:
    """How much of a body is inspected, in bytes: 16 KB for API Gateway unless the web ACL raises it."""
    name = ((config.get("RequestBody") or {}).get("API_GATEWAY") or {}).get("DefaultSizeInspectionLimit") or "KB_16"
    if name not in BODY_LIMITS:
        raise LocalError(f"{where}: body inspection limit {name} must be one of {', '.join(BODY_LIMITS)}")
    return BODY_LIMITS[name]
