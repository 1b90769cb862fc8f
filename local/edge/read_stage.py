"""Reads what acts without a new deployment: the stage, usage plans and their keys, the web ACL and its sets."""

from collections.abc import Iterator, Mapping
from typing import Any

from local.edge.deployed import ApiKey, Plan, Quota, Stage, Throttle, WebAcl
from local.edge.read_api import Client, pages
from local.errors import LocalError


def read_stage(client: Client, *, api_id: str, stage_name: str) -> Stage:
    """Read the stage's own settings; raises LocalError where something it names is missing."""
    gateway = client("apigateway")
    stage = gateway.get_stage(restApiId=api_id, stageName=stage_name)
    log = stage.get("accessLogSettings") or {}
    return Stage(
        deployment_id=stage["deploymentId"],
        variables=stage.get("variables") or {},
        log_format=log.get("format"),
        log_destination=log.get("destinationArn"),
        throttles={
            name.replace("~1", "/"): throttle
            for name, settings in (stage.get("methodSettings") or {}).items()
            if (throttle := _throttle(settings.get("throttlingRateLimit"), settings.get("throttlingBurstLimit")))
        },
        keys=_keys(gateway, api_id=api_id, stage_name=stage_name),
        web_acl=_web_acl(client, stage, api_id=api_id, stage_name=stage_name),
        flushed=stage.get("lastUpdatedDate"),  # see local/authorizer_caches.py
    )


def _keys(gateway: Any, *, api_id: str, stage_name: str) -> dict[str, ApiKey]:
    """Map each key's value to the key, for the keys that a usage plan admits to this stage."""
    plans = [
        _plan(item, stage)
        for item in pages(gateway, "get_usage_plans")
        for stage in item.get("apiStages") or []
        if stage.get("apiId") == api_id and stage.get("stage") == stage_name
    ]
    if not plans:
        return {}
    every = {item["id"]: item for item in pages(gateway, "get_api_keys", includeValues=True)}
    keys: dict[str, ApiKey] = {}
    for plan in plans:
        for member in pages(gateway, "get_usage_plan_keys", usagePlanId=plan.id):
            key = every.get(member["id"])
            if key is None:
                continue
            if key["value"] in keys:
                raise LocalError(f"API key {key['id']}: in two usage plans of stage {stage_name}; keep it in one")
            keys[key["value"]] = ApiKey(id=key["id"], enabled=bool(key.get("enabled")), plan=plan)
    return keys


def _plan(item: Mapping[str, Any], stage: Mapping[str, Any]) -> Plan:
    quota = item.get("quota") or {}
    if quota and quota.get("period") not in ("DAY", "WEEK", "MONTH"):
        raise LocalError(f"usage plan {item['id']}: quota period {quota.get('period')} must be DAY, WEEK or MONTH")
    return Plan(
        id=item["id"],
        throttle=_plan_throttle(item.get("throttle")),
        quota=Quota(limit=int(quota["limit"]), period=quota["period"], offset=int(quota.get("offset") or 0))
        if quota
        else None,
        methods={
            name.replace("~1", "/"): throttle
            for name, raw in (stage.get("throttle") or {}).items()
            if (throttle := _plan_throttle(raw))
        },
    )


def _plan_throttle(raw: Mapping[str, Any] | None) -> Throttle | None:
    return _throttle(raw.get("rateLimit"), raw.get("burstLimit")) if raw else None


def _throttle(rate: float | None, burst: int | None) -> Throttle | None:
    """The bucket of two limits; one that is absent or negative, which means none, takes the other's number."""
    given = [float(limit) for limit in (rate, burst) if limit is not None and limit >= 0]
    return Throttle(rate=given[0], burst=int(given[-1])) if given else None


def _web_acl(client: Client, stage: Mapping[str, Any], *, api_id: str, stage_name: str) -> WebAcl | None:
    """The stage's web ACL; raises LocalError where the stage names one that the WAF does not answer."""
    meta = client("apigateway").meta
    arn = f"arn:{meta.partition}:apigateway:{meta.region_name}::/restapis/{api_id}/stages/{stage_name}"
    waf = client("wafv2")
    definition = waf.get_web_acl_for_resource(ResourceArn=arn).get("WebACL")
    if not definition:
        if stage.get("webAclArn"):
            raise LocalError(f"stage {stage_name}: web ACL {stage['webAclArn']} is named but not associated with {arn}")
        return None
    groups = {
        reference: waf.get_rule_group(ARN=reference)["RuleGroup"]
        for reference in _references(definition, "RuleGroupReferenceStatement")
    }
    rules = [definition, *groups.values()]
    ip_sets = {
        ref: _set(waf.get_ip_set, ref)["IPSet"]
        for rule in rules
        for ref in _references(rule, "IPSetReferenceStatement")
    }
    regex_sets = {
        ref: _set(waf.get_regex_pattern_set, ref)["RegexPatternSet"]
        for rule in rules
        for ref in _references(rule, "RegexPatternSetReferenceStatement")
    }
    return WebAcl(definition=definition, ip_sets=ip_sets, regex_sets=regex_sets, rule_groups=groups)


def _references(node: Any, kind: str) -> Iterator[str]:
    """Every ARN that statements of one kind name, anywhere below `node`."""
    if isinstance(node, dict):
        if isinstance(found := node.get(kind), dict) and "ARN" in found:
            yield found["ARN"]
        for value in node.values():
            yield from _references(value, kind)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value, kind)


def _set(call: Any, arn: str) -> dict[str, Any]:
    """Fetch an IP or regex pattern set by its ARN, `…:regional/ipset/NAME/ID`."""
    scope, _, name, identity = arn.split(":", 5)[5].split("/")
    answer: dict[str, Any] = call(Name=name, Id=identity, Scope="CLOUDFRONT" if scope == "global" else "REGIONAL")
    return answer
