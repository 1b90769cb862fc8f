"""Changes of prod's graph, each with exactly the findings it must give; neutral ones give none."""

# ruff: noqa: E501  (a table reads by the line)

import json
from typing import Any

import pytest

from infra.review.review import review
from tests.infra.review.patching import Patch, add, drop, edit, find, patched, put

ACL = "firewall-acl"
DOMAIN = "x-domain"
TRUST = {"truststoreUri": "s3://trust/clients.pem", "truststoreVersion": "1"}
Expected = set[tuple[str, str, str]]


def rules(change: Any) -> Patch:
    """Change the firewall's rules, by name."""

    def patch(inputs: dict[str, Any]) -> None:
        change({rule["name"]: rule for rule in inputs["rules"]})

    return edit(ACL, patch)


def rule(name: str, **members: Any) -> Patch:
    return rules(lambda found: found[name].update(members))


def statement(name: str, kind: str, **members: Any) -> Patch:
    return rules(lambda found: found[name]["statement"][kind].update(members))


def without_rule(name: str) -> Patch:
    return edit(ACL, lambda inputs: inputs.update(rules=[each for each in inputs["rules"] if each["name"] != name]))


def new_rule(name: str, action: str, priority: int, **members: Any) -> Patch:
    added = {
        "name": name,
        "priority": priority,
        "action": {action: {}},
        "statement": {"geoMatchStatement": {"countryCodes": ["IE"]}},
        "visibilityConfig": {"cloudwatchMetricsEnabled": True, "metricName": name, "sampledRequestsEnabled": False},
        **members,
    }
    return edit(ACL, lambda inputs: inputs["rules"].append(added))


def priorities(**wanted: int) -> Patch:
    return rules(lambda found: [found[name.replace("_", "-")].update(priority=value) for name, value in wanted.items()])


def protect(name: str, value: bool) -> Patch:
    return lambda document: find(document, name).update(protect=value)


def renamed(kind: str, old: str, new: str) -> Patch:
    """Another name with an alias for the old one, everywhere it is referred to."""

    def patch(document: dict[str, Any]) -> None:
        resource = next(each for each in document["resources"] if each["name"] == old and each["type"] == kind)
        urn = resource["urn"]
        new_urn = urn.rpartition("::")[0] + f"::{new}"
        text = json.dumps(document).replace(f"<{old}.", f"<{new}.").replace(f'"{urn}"', f'"{new_urn}"')
        document.clear()
        document.update(json.loads(text))
        for each in document["resources"]:
            if each["urn"] == new_urn:
                each.update(name=new, aliases=[urn])

    return patch


GROUP_RULE = "AWSManagedRulesCommonRuleSet"
ingress = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
labelled = new_rule("label-it", "count", 20, ruleLabels=[{"name": "team:x"}])
on_label = new_rule("on-label", "block", 21, statement={"labelMatchStatement": {"scope": "LABEL", "key": "team:x"}})

# what, what is there before, the change, exactly these findings: (direction, topic, resource)
CASES: list[tuple[str, list[Patch], Patch, Expected]] = [
    # Exposure: the firewall.
    ("a rule removed", [], without_rule("hostile-body"), {("wider", "waf-rule", ACL), ("narrower", "fixed-cost", "modelkeep-prod")}),
    ("a rule put to count", [], rule("hostile-body", action={"count": {}}), {("wider", "waf-rule", ACL)}),
    ("a managed group put to count", [], rule(GROUP_RULE, overrideAction={"count": {}}), {("wider", "waf-rule", ACL)}),
    ("a rule that lets in", [], new_rule("friends", "allow", 99), {("wider", "waf-rule", ACL), ("wider", "fixed-cost", "modelkeep-prod")}),
    ("a rule that stops", [], new_rule("foes", "block", 99), {("narrower", "waf-rule", ACL), ("wider", "fixed-cost", "modelkeep-prod")}),
    ("a rule of a group put to count", [], statement(GROUP_RULE, "managedRuleGroupStatement", ruleActionOverrides=[*[{"actionToUse": {"count": {}}, "name": name} for name in ("SizeRestrictions_BODY", "CrossSiteScripting_BODY", "GenericLFI_BODY", "GenericRFI_BODY", "EC2MetaDataSSRF_BODY")], {"actionToUse": {"count": {}}, "name": "NoUserAgent_HEADER"}]), {("wider", "waf-override", ACL)}),
    ("a rule of a group back to block", [], statement(GROUP_RULE, "managedRuleGroupStatement", ruleActionOverrides=[{"actionToUse": {"count": {}}, "name": name} for name in ("SizeRestrictions_BODY", "CrossSiteScripting_BODY", "GenericLFI_BODY", "GenericRFI_BODY")]), {("narrower", "waf-override", ACL)}),
    ("another version of a group", [], statement(GROUP_RULE, "managedRuleGroupStatement", version="Version_1.0"), {("changed", "waf-statement", ACL)}),
    ("a group for part of the requests", [], statement(GROUP_RULE, "managedRuleGroupStatement", scopeDownStatement={"geoMatchStatement": {"countryCodes": ["IE"]}}), {("wider", "waf-measure", ACL)}),
    ("a higher rate", [], statement("rate-per-address", "rateBasedStatement", limit=60000), {("wider", "waf-measure", ACL)}),
    ("a lower rate", [], statement("rate-per-address", "rateBasedStatement", limit=300), {("narrower", "waf-measure", ACL)}),
    ("a shorter window", [], statement("rate-per-address", "rateBasedStatement", evaluationWindowSec=60), {("wider", "waf-measure", ACL)}),
    ("a rate by another key", [], statement("rate-per-address", "rateBasedStatement", aggregateKeyType="FORWARDED_IP"), {("changed", "waf-statement", ACL)}),
    ("a larger body", [], statement("body-size", "sizeConstraintStatement", size=131072), {("wider", "waf-measure", ACL)}),
    ("bodies too large to inspect let through", [], statement("body-size", "sizeConstraintStatement", fieldToMatch={"body": {"oversizeHandling": "NO_MATCH"}}), {("wider", "waf-measure", ACL)}),
    ("a text decoded less", [], statement("hostile-body", "byteMatchStatement", textTransformations=[{"priority": 0, "type": "LOWERCASE"}]), {("wider", "waf-measure", ACL)}),
    ("another text looked for", [], statement("hostile-body", "byteMatchStatement", searchString="nothing"), {("changed", "waf-statement", ACL)}),
    ("an allow moved before the blocks", [new_rule("friends", "allow", 99)], priorities(friends=-1), {("wider", "waf-order", ACL)}),
    ("an allow moved behind the blocks", [new_rule("friends", "allow", -1)], priorities(friends=99), {("narrower", "waf-order", ACL)}),
    ("a rate rule moved behind a block", [], priorities(rate_per_address=3, body_size=2), {("wider", "waf-order-rate", ACL)}),
    ("a rule on a label before the label", [labelled, on_label], priorities(label_it=22), {("wider", "waf-order-label", ACL)}),
    ("the default put to block", [], put(ACL, "defaultAction", {"block": {}}), {("narrower", "acl-default", ACL)}),
    ("less of a body inspected", [], put(ACL, "associationConfig.requestBodies.0.apiGateway.defaultSizeInspectionLimit", "KB_16"), {("wider", "acl-body-limit", ACL)}),
    ("samples of requests", [], put(ACL, "visibilityConfig.sampledRequestsEnabled", True), {("wider", "acl-samples", ACL)}),
    ("the token no longer left out of the log", [], put("firewall-logging", "redactedFields", [{"queryString": {}}]), {("wider", "acl-redaction", ACL)}),
    ("another header protected", [], edit(ACL, lambda inputs: inputs["dataProtectionConfig"]["dataProtections"][2]["field"]["fieldKeys"].append("x-other")), {("narrower", "acl-data-protection", ACL)}),
    ("a header no longer protected", [], edit(ACL, lambda inputs: inputs["dataProtectionConfig"]["dataProtections"][2]["field"]["fieldKeys"].pop()), {("wider", "acl-data-protection", ACL)}),
    ("bodies no longer protected", [], edit(ACL, lambda inputs: inputs["dataProtectionConfig"]["dataProtections"].pop(0)), {("wider", "acl-data-protection", ACL)}),
    ("more addresses let in", [put("firewall-allowed", "addresses", ["203.0.113.0/24"])], put("firewall-allowed", "addresses", ["203.0.113.0/24", "198.51.100.0/24"]), {("wider", "address-list", "firewall-allowed")}),
    ("fewer addresses let in", [], put("firewall-allowed", "addresses", ["203.0.113.0/24"]), {("narrower", "address-list", "firewall-allowed")}),
    ("fewer addresses kept out", [], put("firewall-blocked", "addresses", []), {("wider", "address-list", "firewall-blocked")}),
    ("other addresses kept out", [], put("firewall-blocked", "addresses", ["198.51.100.0/24"]), {("wider", "address-list", "firewall-blocked"), ("narrower", "address-list", "firewall-blocked")}),
    ("a higher rate by token", [], statement("rate-per-token", "rateBasedStatement", limit=60000), {("wider", "waf-measure", ACL)}),
    ("a rate by something else than the token", [], statement("rate-per-token", "rateBasedStatement", customKeys=[{"header": {"name": "x-api-key", "textTransformations": [{"priority": 0, "type": "NONE"}]}}]), {("changed", "waf-statement", ACL)}),
    ("SQL in fields without prompts let through", [], rule("sql-outside-prompts", action={"count": {}}), {("wider", "waf-rule", ACL)}),
    ("fewer fields inspected for scripts", [], statement("scripts-outside-prompts", "xssMatchStatement", fieldToMatch={"jsonBody": {"matchPattern": {"includedPaths": ["/model"]}, "matchScope": "VALUE", "invalidFallbackBehavior": "NO_MATCH", "oversizeHandling": "CONTINUE"}}), {("changed", "waf-statement", ACL)}),
    ("the group against anonymous addresses gone", [], without_rule("AWSManagedRulesAnonymousIpList"), {("wider", "waf-rule", ACL), ("narrower", "fixed-cost", "modelkeep-prod")}),
    # Exposure: the gateway.
    ("a route of a plan without its throttle", [], edit("gateway-stage-plan-bronze", lambda inputs: inputs["apiStages"][0]["throttles"].pop(0)), {("wider", "plan-route", "gateway-stage-plan-bronze")}),
    ("another version of the trusted CAs", [add("aws:apigateway/domainName:DomainName", DOMAIN, {"domainName": "m.example.com", "securityPolicy": "TLS_1_2", "mutualTlsAuthentication": {**TRUST}})], put(DOMAIN, "mutualTlsAuthentication.truststoreVersion", "2"), {("changed", "domain-trusted-authorities", DOMAIN)}),
    ("client certificates no longer asked for", [add("aws:apigateway/domainName:DomainName", DOMAIN, {"domainName": "m.example.com", "securityPolicy": "TLS_1_2", "mutualTlsAuthentication": {**TRUST}})], put(DOMAIN, "mutualTlsAuthentication", None), {("wider", "domain-client-certificates", DOMAIN)}),
    ("a name that leads elsewhere", [add("aws:route53/record:Record", "name", {"name": "m.example.com", "type": "A", "zoneId": "Z1", "aliases": [{"name": "a", "zoneId": "Z2"}]})], put("name", "aliases", [{"name": "b", "zoneId": "Z2"}]), {("changed", "record-target", "name")}),
    ("a method without a key", [], put("gateway-post-embeddings", "apiKeyRequired", False), {("wider", "method-key", "gateway-post-embeddings")}),
    ("a method without validation", [], put("gateway-post-embeddings", "requestValidatorId", None), {("wider", "method-validator", "gateway-post-embeddings")}),
    ("a new method that anyone may call", [], add("aws:apigateway/method:Method", "open", {"httpMethod": "GET", "authorization": "NONE"}), {("wider", topic, "open") for topic in ("method", "method-authorization", "method-key", "method-validator")}),
    ("keys from the caller", [], put("gateway-api", "apiKeySource", "HEADER"), {("wider", "api-key-source", "gateway-api")}),
    ("an older TLS policy of the API", [], put("gateway-api", "securityPolicy", "TLS_1_0"), {("wider", "api-tls", "gateway-api")}),
    ("an answer kept for longer", [], put("gateway-authorizer", "authorizerResultTtlInSeconds", 3600), {("wider", "authorizer-cache", "gateway-authorizer")}),
    ("an answer for every address", [], put("gateway-authorizer", "identitySource", "method.request.header.Authorization"), {("wider", "authorizer-identity", "gateway-authorizer")}),
    ("a higher throttle", [], put("gateway-stage-plan-bronze", "throttleSettings", {"rateLimit": 50, "burstLimit": 100}), {("wider", "plan-rate", "gateway-stage-plan-bronze"), ("wider", "plan-burst", "gateway-stage-plan-bronze")}),
    ("no throttle", [], put("gateway-stage-plan-bronze", "throttleSettings", None), {("wider", "plan-rate", "gateway-stage-plan-bronze"), ("wider", "plan-burst", "gateway-stage-plan-bronze")}),
    ("a higher quota", [], put("gateway-stage-plan-gold", "quotaSettings.limit", 3000000), {("wider", "plan-quota", "gateway-stage-plan-gold")}),
    ("the stage's throttle off", [], put("gateway-stage-settings", "settings.throttlingRateLimit", -1), {("wider", "stage-rate", "gateway-stage-settings")}),
    ("bodies in a log", [], put("gateway-stage-settings", "settings.dataTraceEnabled", True), {("wider", "data-trace", "gateway-stage-settings")}),
    ("another web ACL", [], put("gateway-stage-firewall", "webAclArn", "<other.arn>"), {("changed", "stage-firewall", "gateway-stage")}),
    ("a public balancer", [], put("balancer-alb", "internal", False), {("wider", "balancer-internal", "balancer-alb"), ("changed", "replaced", "balancer-alb")}),
    # Exposure: the network.
    ("a port for a private block", [], add(ingress, "x", {"cidrIpv4": "10.0.0.0/8", "ipProtocol": "tcp", "fromPort": 443, "toPort": 443}, refers={"securityGroupId": "balancer-group"}), {("wider", "opening", "balancer-group")}),
    ("more ports for the balancer", [], put("fleet-instance-balancer-in", "toPort", 9000), {("wider", "opening", "fleet-instance-group")}),
    ("every protocol", [], put("fleet-instance-balancer-in", "ipProtocol", "-1"), {("wider", "opening", "fleet-instance-group")}),
    ("a port closed", [], drop("fleet-instance-s3-out"), {("narrower", "opening", "fleet-instance-group")}),
    ("a way out to the internet", [], put("network-routes", "routes", [{"cidrBlock": "0.0.0.0/0", "gatewayId": "igw-1"}]), {("wider", "route", "network-routes")}),
    ("another security group on the instances", [], put("fleet-instance-template", "vpcSecurityGroupIds", ["<fleet-instance-group.id>", "<other.id>"]), {("wider", "security-groups", "fleet-instance-template")}),
    # Protection.
    ("what errors quote no longer masked", [], drop("gateway-stage-execution-masking"), {("wider", "log-masking", "gateway-stage-execution-masking")}),
    ("less masked", [], put("gateway-stage-execution-masking", "policyDocument", "{}"), {("changed", "log-masking", "gateway-stage-execution-masking")}),
    ("errors of the gateway not logged", [], put("gateway-stage-settings", "settings.loggingLevel", "OFF"), {("wider", "execution-log", "gateway-stage-settings")}),
    ("a canary that calls no longer", [], put("canary-schedule", "state", "DISABLED"), {("wider", "schedule-state", "canary-schedule")}),
    ("a canary's schedule gone", [], drop("canary-schedule"), {("wider", "schedule", "canary-schedule")}),
    ("a canary that calls less often", [], put("canary-schedule", "scheduleExpression", "rate(1 hour)"), {("changed", "schedule-rate", "canary-schedule")}),
    ("a metric of an alarm gone", [], drop("observability-first-token-count"), {("wider", "log-metric", "observability-first-token-count")}),
    ("other lines counted", [], put("observability-throttled-count", "pattern", "{ $.status = 500 }"), {("changed", "log-metric-pattern", "observability-throttled-count")}),
    ("a secret under AWS's own key", [], put("canary-token", "kmsKeyId", None), {("wider", "secret-key", "canary-token")}),
    ("a secret that is gone at once", [], put("canary-token", "recoveryWindowInDays", 0), {("wider", "secret-recovery", "canary-token")}),
    ("logs for fewer days", [], put("fleet-instance-logs", "retentionInDays", 30), {("wider", "log-retention", "fleet-instance-logs")}),
    ("logs for ever", [], put("fleet-instance-logs", "retentionInDays", None), {("narrower", "log-retention", "fleet-instance-logs")}),
    ("another key", [], put("fleet-instance-logs", "kmsKeyId", "<storage-data-key.arn>"), {("changed", "log-encryption", "fleet-instance-logs")}),
    ("AWS's own key", [], put("consumers-tokens", "serverSideEncryption.kmsKeyArn", None), {("wider", "table-encryption-key", "consumers-tokens")}),
    ("an older TLS policy of the balancer", [], put("balancer-https", "sslPolicy", "ELBSecurityPolicy-2016-08"), {("wider", "listener-tls", "balancer-https")}),
    ("a newer TLS policy", [], put("balancer-https", "sslPolicy", "ELBSecurityPolicy-TLS13-1-3-2021-06"), {("narrower", "listener-tls", "balancer-https")}),
    ("an alarm lost", [], drop("observability-latency"), {("wider", "alarm", "observability-latency")}),
    ("an alarm that goes off later", [], put("observability-server-errors", "threshold", 500), {("wider", "alarm-threshold-above", "observability-server-errors")}),
    ("an alarm that nobody hears", [], put("observability-server-errors", "alarmActions", []), {("wider", "alarm-actions", "observability-server-errors")}),
    ("old versions for fewer days", [], put("storage-models-lifecycle", "rules.0.noncurrentVersionExpiration.noncurrentDays", 1), {("wider", "bucket-old-versions", "storage-models")}),
    ("a refresh that does not roll back", [], put("fleet-group", "instanceRefresh.preferences.autoRollback", False), {("wider", "group-rollback", "fleet-group")}),
    ("a template that is not pinned", [], put("fleet-group", "mixedInstancesPolicy.launchTemplate.launchTemplateSpecification.version", "$Latest"), {("wider", "group-template-version", "fleet-group")}),
    ("another boot script", [], put("fleet-instance-template", "userData", "IyEvYmluL3No"), {("changed", "boot-script", "fleet-instance-template")}),
    ("another machine image", [], put("fleet-instance-template", "imageId", "ami-1"), {("changed", "machine-image", "fleet-instance-template")}),
    ("containers reach the role", [], put("fleet-instance-template", "metadataOptions.httpPutResponseHopLimit", 2), {("wider", "metadata-hops", "fleet-instance-template")}),
    # State.
    ("a table deleted", [], drop("consumers-tokens"), {("wider", "deleted", "consumers-tokens")}),
    ("a table with another key", [], put("consumers-tokens", "hashKey", "other"), {("changed", "replaced", "consumers-tokens")}),
    ("a bucket with another name", [], put("storage-data", "bucket", "other"), {("changed", "replaced", "storage-data")}),
    ("a stage with another name", [], put("gateway-stage", "stageName", "v2"), {("changed", "replaced", "gateway-stage")}),
    ("the protection by Pulumi lost", [protect("storage-models", True)], protect("storage-models", False), {("wider", "unprotected", "storage-models")}),
    ("a secret that is none any more", [], lambda document: find(document, "certificate-imported").update(secret_inputs=[]), {("wider", "secret-shown", "certificate-imported")}),
    # Cost.
    ("twice the fleet by day", [], put("fleet-office-hours", "maxSize", 24), {("wider", "fleet-cost", "fleet-group")}),
    ("a smaller fleet", [], put("fleet-group", "maxSize", 6), {("narrower", "fleet-cost", "fleet-group")}),
    ("types without a price", [], edit("fleet-group", lambda inputs: inputs["mixedInstancesPolicy"]["launchTemplate"].update(overrides=[{"instanceType": "p5.48xlarge"}, {"instanceType": "g5.4xlarge"}])), {("unknown", "fleet-cost", "fleet-group")}),
    ("a key more", [], add("aws:kms/key:Key", "another", {"enableKeyRotation": True, "policy": {"Statement": []}}), {("narrower", "deleted", "another"), ("wider", "fixed-cost", "modelkeep-prod")}),
    # Neutral.
    ("tags", [], put("storage-data", "tags.team", "x"), set()),
    ("a description", [], put("functions-authorizer", "description", "other"), set()),
    ("another text in a gateway response", [], put("gateway-access-denied", "responseTemplates", {"application/json": "{}"}), set()),
    ("numbers of rules with the same order", [], priorities(blocked_addresses=-5, outside_allowed_addresses=-4), set()),
    ("two blocks the other way round", [], priorities(blocked_addresses=1, outside_allowed_addresses=0), set()),
    ("the order of subnets", [], edit("balancer-alb", lambda inputs: inputs["subnets"].reverse()), set()),
    ("the order of addresses, in halves", [], put("firewall-allowed", "addresses", ["128.0.0.0/2", "192.0.0.0/2", "0.0.0.0/1"]), set()),
    ("a boolean as text", [], put("fleet-instance-template", "ebsOptimized", True), set()),
    ("a log format with other white space", [], edit("gateway-stage", lambda inputs: inputs["accessLogSettings"].update(format=json.dumps(json.loads(inputs["accessLogSettings"]["format"]), indent=2))), set()),
    ("a bucket renamed with an alias", [], renamed("aws:s3/bucket:Bucket", "storage-data", "training-data"), set()),
    ("a table renamed with an alias", [], renamed("aws:dynamodb/table:Table", "consumers-tokens", "tokens"), set()),
    ("a dashboard", [], put("observability-dashboard", "dashboardBody", "{}"), set()),
    ("an instance rule that is there already, wider", [put("fleet-instance-balancer-in", "toPort", 9000)], add(ingress, "x", {"referencedSecurityGroupId": "<balancer-group.id>", "ipProtocol": "tcp", "fromPort": 8500, "toPort": 8600}, refers={"securityGroupId": "fleet-instance-group"}), set()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "before", "change", "expected"), CASES, ids=[case[0] for case in CASES])
def test_a_change_gives_exactly_its_findings(
    prod: dict[str, Any], name: str, before: list[Patch], change: Patch, expected: Expected
) -> None:
    base, head = patched(prod, *before), patched(prod, *before, change)
    findings = review(base, head, base="a", head="b").findings
    assert {(each.direction, each.topic, each.resource) for each in findings} == expected
    assert all((each.severity == "none") is (each.direction == "narrower") for each in findings)


def test_the_table_is_as_long_as_it_must_be() -> None:
    assert len(CASES) >= 80


def test_a_replaced_network_takes_what_hangs_on_it_along(prod: dict[str, Any]) -> None:
    found = review(patched(prod), patched(prod, put("network-vpc", "cidrBlock", "10.41.0.0/16")), base="a", head="b")
    replaced = {each.resource for each in found.findings if each.topic == "replaced"}
    assert replaced == {"network-vpc", "balancer-link"}
    operations = {each.name: each.operation for each in found.changed}
    assert {operations[name] for name in ("network-compute-0", "network-endpoints", "balancer-targets")} == {"replace"}


def test_an_address_list_whose_use_is_not_known_has_no_direction(prod: dict[str, Any]) -> None:
    def unknown(inputs: dict[str, Any]) -> None:
        text = json.dumps(inputs["rules"]).replace("<firewall-allowed.arn>", "<unknown>")
        inputs["rules"] = json.loads(text)

    base = patched(prod, edit(ACL, unknown))
    head = patched(prod, edit(ACL, unknown), put("firewall-allowed", "addresses", ["203.0.113.0/24"]))
    (found,) = review(base, head, base="a", head="b").findings
    assert (found.direction, found.severity) == ("changed", "high")
