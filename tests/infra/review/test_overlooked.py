"""What a review must not overlook: what is elsewhere, what a preview does not show, and what decides who may call."""

# ruff: noqa: E501  (a table reads by the line)

import json
from typing import Any

import pytest

from infra.review.review import review
from tests.infra.review.patching import Patch, add, allow, drop, edit, find, patched, put
from tests.infra.review.patching import statements as policy
from tests.infra.review.test_changes import ACL, ingress, rule, statement

Expected = set[tuple[str, str, str, str]]
acl_rule = "aws:ec2/networkAclRule:NetworkAclRule"
settings = "aws:apigateway/methodSettings:MethodSettings"
EVERYTHING = {"networkAclId": "<network-vpc.defaultNetworkAclId>", "protocol": "-1", "cidrBlock": "0.0.0.0/0"}
own_list = add("aws:ec2/managedPrefixList:ManagedPrefixList", "list", {"entries": [{"cidr": "10.0.0.0/8"}]})
through_list = add(
    ingress, "through-list", {"ipProtocol": "-1"}, refers={"securityGroupId": "balancer-group", "prefixListId": "list"}
)


def scope(count: int) -> Patch:
    """The rate rule counts requests for so many paths, the text of which is long."""
    paths = [
        {"byteMatchStatement": {"searchString": f"/v1/{str(number) * 60}", "fieldToMatch": {"uriPath": {}}}}
        for number in range(count)
    ]
    return statement(
        "rate-per-address", "rateBasedStatement", scopeDownStatement={"orStatement": {"statements": paths}}
    )


def nested(*, size: int = 100, decoded: str = "NONE") -> Patch:
    """A rule whose statement is made of others."""
    parts = [
        {"sizeConstraintStatement": {"comparisonOperator": "GT", "size": size, "fieldToMatch": {"body": {}}}},
        {"byteMatchStatement": {"searchString": "x", "textTransformations": [{"priority": 0, "type": decoded}]}},
    ]
    return rule("hostile-body", statement={"andStatement": {"statements": parts}})


def as_json(action: str) -> Patch:
    """The firewall's rules as AWS writes them."""
    geo = {"GeoMatchStatement": {"CountryCodes": ["IE"]}}
    one = {"Name": "r", "Priority": 0, "Action": {action: {}}, "Statement": geo, "VisibilityConfig": {}}

    def patch(inputs: dict[str, Any]) -> None:
        inputs.pop("rules", None)
        inputs["ruleJson"] = json.dumps([one])

    return edit(ACL, patch)


def override(rate: int, burst: int) -> dict[str, Any]:
    limits = {"throttlingRateLimit": rate, "throttlingBurstLimit": burst}
    return {
        "methodPath": "v1~1chat~1completions/POST",
        "restApi": "<gateway-api.id>",
        "settings": {**limits, "loggingLevel": "ERROR", "metricsEnabled": True},
    }


def for_anyone(**members: Any) -> Patch:
    return policy("storage-data-policy", lambda found: found.append(allow("s3:GetObject", Principal="*", **members)))


def provider(**members: Any) -> Patch:
    """Change the provider that deploys."""
    return lambda document: find(document, "aws", "pulumi:providers:")["inputs"].update(members)


# what, what is there before, the change, exactly these findings: (severity, direction, topic, resource)
CASES: list[tuple[str, list[Patch], Patch, Expected]] = [
    ("anyone let into the VPC's default group", [], add(ingress, "x", {"cidrIpv4": "0.0.0.0/0", "ipProtocol": "-1", "securityGroupId": "<network-vpc.defaultSecurityGroupId>"}), {("high", "wider", "opening", "x")}),
    ("anyone let into a group of elsewhere", [], add(ingress, "x", {"cidrIpv4": "0.0.0.0/0", "ipProtocol": "-1", "securityGroupId": "sg-0123"}), {("high", "wider", "opening", "x")}),
    ("a rule of the VPC's own ACL", [], add(acl_rule, "x", {**EVERYTHING, "ruleNumber": 100, "ruleAction": "allow"}), {("high", "wider", "opening", "x")}),
    ("a refusal of the VPC's own ACL lost", [add(acl_rule, "x", {**EVERYTHING, "ruleNumber": 100, "ruleAction": "allow"}), add(acl_rule, "y", {**EVERYTHING, "ruleNumber": 90, "ruleAction": "deny"})], drop("y"), {("high", "wider", "opening", "x")}),
    ("rules of a group that are not known", [], put("fleet-instance-group", "ingress", "<unknown>"), {("high", "unknown", "opening", "fleet-instance-group")}),
    ("rules of a group that are known by now", [put("fleet-instance-group", "ingress", "<unknown>")], put("fleet-instance-group", "ingress", [{"cidrBlocks": ["10.0.0.0/8"], "protocol": "tcp", "fromPort": 1, "toPort": 2}]), {("low", "unknown", "opening", "fleet-instance-group")}),
    ("addresses of a rule that are not known", [], put("fleet-instance-group", "ingress", [{"cidrBlocks": "<unknown>", "protocol": "tcp", "fromPort": 1, "toPort": 2}]), {("high", "unknown", "opening", "fleet-instance-group")}),
    ("a group that is not known", [], add(ingress, "x", {"referencedSecurityGroupId": "<unknown>", "ipProtocol": "tcp", "fromPort": 1, "toPort": 2}, refers={"securityGroupId": "balancer-group"}), {("low", "wider", "opening", "balancer-group")}),
    ("a prefix list of elsewhere", [], add(ingress, "x", {"prefixListId": "pl-0123", "ipProtocol": "-1"}, refers={"securityGroupId": "fleet-instance-group"}), {("medium", "wider", "opening", "fleet-instance-group")}),
    ("an entry more in a prefix list of the stack", [own_list, through_list], edit("list", lambda inputs: inputs["entries"].append({"cidr": "0.0.0.0/0"})), {("high", "wider", "opening", "balancer-group")}),
    ("an entry of its own in a prefix list of the stack", [own_list, through_list], add("aws:ec2/managedPrefixListEntry:ManagedPrefixListEntry", "entry", {"cidr": "0.0.0.0/0"}, refers={"prefixListId": "list"}), {("high", "wider", "opening", "balancer-group")}),
    ("addresses let in that are not known", [put("firewall-allowed", "addresses", ["10.1.0.0/24"])], put("firewall-allowed", "addresses", "<unknown>"), {("high", "unknown", "address-list", "firewall-allowed")}),
    ("a path fewer of those that a rate counts", [scope(3)], scope(2), {("medium", "changed", "waf-measure", ACL)}),
    ("a larger body, within another statement", [nested(size=100)], nested(size=10**9), {("medium", "changed", "waf-statement", ACL)}),
    ("a text decoded less, within another statement", [nested(decoded="URL_DECODE")], nested(decoded="NONE"), {("medium", "changed", "waf-statement", ACL)}),
    ("a rule put to count, in JSON", [as_json("Block")], as_json("Count"), {("high", "wider", "waf-rule", ACL)}),
    ("a rule in JSON that is not known", [as_json("Block")], put(ACL, "ruleJson", "<unknown>"), {("high", "unknown", "waf-rule", ACL), ("high", "wider", "waf-rule", ACL)}),
    ("a method that is throttled less than the stage", [], add(settings, "x", override(10000, 5000), refers={"stageName": "gateway-stage"}), {("medium", "wider", "stage-rate", "x"), ("medium", "wider", "stage-burst", "x")}),
    ("a method that is throttled more than the stage", [], add(settings, "x", override(1, 1), refers={"stageName": "gateway-stage"}), {("none", "narrower", "stage-rate", "x"), ("none", "narrower", "stage-burst", "x")}),
    ("a limit that is not known", [], statement("rate-per-address", "rateBasedStatement", limit="<unknown>"), {("high", "unknown", "waf-rule", ACL)}),
    ("an action that is not known", [], rule("hostile-body", action="<unknown>"), {("high", "unknown", "waf-rule", ACL)}),
    ("a default that is not known", [], put(ACL, "defaultAction", "<unknown>"), {("high", "unknown", "acl-default", ACL)}),
    ("a verification that is not known", [], put("gateway-post-embeddings-integration", "tlsConfig", "<unknown>"), {("high", "unknown", "integration-verify", "gateway-post-embeddings-integration")}),
    ("a metadata service that is not known", [], put("fleet-instance-template", "metadataOptions", "<unknown>"), {("high", "unknown", "metadata-tokens", "fleet-instance-template"), ("medium", "unknown", "metadata-hops", "fleet-instance-template")}),
    ("security groups that are not known", [], put("network-monitoring", "securityGroupIds", "<unknown>"), {("low", "wider", "security-groups", "network-monitoring"), ("none", "narrower", "security-groups", "network-monitoring")}),
    # Policies that a preview shows in part.
    ("a statement whose effect is not known", [], policy("fleet-instance-policy", lambda found: found.append({"Effect": "<unknown>", "Action": "*", "Resource": "*"})), {("high", "unknown", "unknown-policy", "fleet-instance-role")}),
    ("a statement whose actions are not known", [], policy("fleet-instance-policy", lambda found: found.append({"Effect": "Allow", "Action": "<unknown>", "Resource": "*"})), {("high", "unknown", "unknown-policy", "fleet-instance-role")}),
    ("a condition that is not known, lost", [for_anyone(Condition="<unknown>")], policy("storage-data-policy", lambda found: found[-1].pop("Condition")), {("high", "unknown", "unknown-policy", "storage-data"), ("high", "wider", "public-policy", "storage-data")}),
    ("denies under conditions that are not known", [], policy("storage-data-policy", lambda found: [each.update(Condition="<unknown>") for each in found]), {("high", "unknown", "unknown-policy", "storage-data")}),
    ("a deny under a condition that is not known", [], policy("storage-data-policy", lambda found: found[0].update(Condition={"Bool": "<unknown>"})), {("high", "unknown", "unknown-policy", "storage-data"), ("high", "wider", "deny-lost", "storage-data")}),
    # What decides who may call, and where calls go.
    ("other code of the authorizer", [], put("functions-authorizer", "code", {"archive": {"lambdas/authorizer.py": "sha256:00"}}), {("medium", "changed", "function-code", "functions-authorizer")}),
    ("another handler of the authorizer", [], put("functions-authorizer", "handler", "other.handler"), {("medium", "changed", "function-handler", "functions-authorizer")}),
    ("a layer of elsewhere", [], put("functions-authorizer", "layers", ["arn:aws:lambda:eu-west-1:999999999999:layer:x:1"]), {("high", "wider", "function-layer", "functions-authorizer")}),
    ("calls sent to other targets", [], put("balancer-https", "defaultActions.0.targetGroupArn", "arn:aws:elasticloadbalancing:eu-west-1:999999999999:targetgroup/x/1"), {("medium", "changed", "listener-target", "balancer-https")}),
    ("a rule of the listener", [], add("aws:lb/listenerRule:ListenerRule", "x", {"priority": 1, "actions": [{"type": "forward", "targetGroupArn": "<other.arn>"}]}), {("medium", "wider", "listener-rule", "x")}),
    ("health asked for without TLS", [], put("balancer-targets", "healthCheck.protocol", "HTTP"), {("medium", "wider", "target-health", "balancer-targets")}),
    ("another region", [], provider(region="us-east-1"), {("medium", "changed", "provider-region", "aws"), ("none", "narrower", "fixed-cost", "modelkeep-prod"), ("low", "changed", "fleet-cost", "fleet-group"), ("none", "narrower", "training-cost", "training-on-demand"), ("none", "narrower", "training-cost", "training-spot")}),
    ("another role of the deployment", [], provider(assumeRoles=[{"roleArn": "arn:aws:iam::999999999999:role/x"}]), {("medium", "changed", "provider-identity", "aws")}),
    ("any account taken", [provider(allowedAccountIds=["222222222222"])], provider(allowedAccountIds=[]), {("high", "wider", "provider-account", "aws")}),
    # Protection.
    ("a lock that some may lift", [put("audit-trail-lock", "rule.defaultRetention.mode", "COMPLIANCE")], put("audit-trail-lock", "rule.defaultRetention.mode", "GOVERNANCE"), {("high", "wider", "bucket-object-lock-mode", "audit-trail")}),
    ("a lock for a day in place of years", [put("audit-trail-lock", "rule.defaultRetention", {"mode": "GOVERNANCE", "years": 7})], put("audit-trail-lock", "rule.defaultRetention", {"mode": "GOVERNANCE", "days": 1}), {("medium", "wider", "bucket-object-lock-days", "audit-trail")}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "before", "change", "expected"), CASES, ids=[case[0] for case in CASES])
def test_what_is_elsewhere_or_not_shown_is_judged(
    prod: dict[str, Any], name: str, before: list[Patch], change: Patch, expected: Expected
) -> None:
    base, head = patched(prod, *before), patched(prod, *before, change)
    findings = review(base, head, base="a", head="b").findings
    assert {(each.severity, each.direction, each.topic, each.resource) for each in findings} == expected


# what the change does, and what must be listed as not judged
UNJUDGED: list[tuple[str, list[Patch], Patch, str]] = [
    ("a type without rules", [add("aws:cloudwatch/logSubscriptionFilter:LogSubscriptionFilter", "x", {"filterPattern": "", "logGroup": "y"})], drop("x"), "aws:cloudwatch/logSubscriptionFilter:LogSubscriptionFilter (x)"),
    ("a policy type without rules", [], add("aws:s3/accessPoint:AccessPoint", "x", {"policy": "{}"}), "aws:s3/accessPoint:AccessPoint (x)"),
    ("another provider's type", [], add("aws-native:iam:Role", "x", {}), "aws-native:iam:Role (x)"),
    ("a command", [], add("command:local:Command", "x", {"create": "true"}), "command:local:Command (x)"),
    ("a setting of a bucket of elsewhere", [], add("aws:s3/bucketVersioning:BucketVersioning", "x", {"bucket": "some", "versioningConfiguration": {"status": "Suspended"}}), "aws:s3/bucketVersioning:BucketVersioning (x)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "before", "change", "listed"), UNJUDGED, ids=[case[0] for case in UNJUDGED])
def test_what_is_not_judged_is_listed(
    prod: dict[str, Any], name: str, before: list[Patch], change: Patch, listed: str
) -> None:
    base, head = patched(prod, *before), patched(prod, *before, change)
    known = review(base, base, base="a", head="a").unjudged
    found = [text for text in review(base, head, base="a", head="b").unjudged if text not in known]
    assert [text.startswith(listed) for text in found] == [True]
