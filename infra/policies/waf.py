"""Rules for web ACLs: that they have rules which block, that they are watched, and that their logs hold no token."""

from infra.policies.answers import Answer, fails_if, undecidable
from infra.policies.graph import UNKNOWN, read
from infra.policies.rule import (
    Properties,
    Rule,
    Severity,
    any_item,
    companion,
    each_item,
    either,
    has_items,
    is_not_set,
    is_not_true,
    is_one_of,
    is_set,
    is_true,
    on,
    unless,
)

ACL = ("aws:wafv2/webAcl:WebAcl",)
LOGGING = ("aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration",)


_STOPS = either(*(is_set(f"action.{each}") for each in ("block", "captcha", "challenge")))
_OWN_RULES_BLOCK = each_item("rules", unless(is_set("overrideAction"), _STOPS))
_GROUPS_BLOCK = each_item("rules", is_not_set("overrideAction.count"))
_WHOLE_BODY = any_item("associationConfig.requestBodies", is_one_of("apiGateway.defaultSizeInspectionLimit", "KB_64"))


def _is_the_token(properties: Properties) -> Answer:
    keys = read(properties, "field.fieldKeys") or []
    if "authorization" not in keys and UNKNOWN in (keys, *keys):
        return undecidable("field.fieldKeys are not known yet")
    return fails_if("authorization" not in keys, "field.fieldKeys do not name authorization")


RULES = (
    Rule(
        id="waf-has-rules",
        severity=Severity.MEDIUM,
        types=ACL,
        check=on(either(has_items("rules", 1), is_set("ruleJson"))),
        reason="WAF.10 checks that a web ACL has a rule or rule group: an empty one inspects nothing",
        remedy="give the web ACL rules",
        control="WAF.10",
    ),
    Rule(
        id="waf-logged",
        severity=Severity.LOW,
        types=ACL,
        check=companion(LOGGING, "resourceArn", has_items("logDestinationConfigs", 1)),
        scope="graph",
        reason="WAF.11 checks that a web ACL logs: which rule refused what",
        remedy="give the web ACL a WebAclLoggingConfiguration",
        control="WAF.11",
    ),
    Rule(
        id="waf-measured",
        severity=Severity.MEDIUM,
        types=ACL,
        check=on(
            is_true("visibilityConfig.cloudwatchMetricsEnabled"),
            each_item("rules", is_true("visibilityConfig.cloudwatchMetricsEnabled")),
        ),
        reason="WAF.12 checks that every rule has CloudWatch metrics, without which a rule that goes wrong is not seen",
        remedy="set cloudwatchMetricsEnabled in every visibilityConfig",
        control="WAF.12",
    ),
    Rule(
        id="waf-limits-rate",
        severity=Severity.HIGH,
        types=ACL,
        check=on(any_item("rules", is_set("statement.rateBasedStatement"), is_set("action.block"))),
        reason="a rate rule is what stops one address from guessing tokens or flooding the stage",
        remedy="add a rule with a rateBasedStatement and the action block",
    ),
    Rule(
        id="waf-limits-size",
        severity=Severity.MEDIUM,
        types=ACL,
        check=on(any_item("rules", is_set("statement.sizeConstraintStatement"), is_set("action.block"))),
        reason="what is longer than WAF inspects passes uninspected unless a rule blocks it",
        remedy="add a rule with a sizeConstraintStatement on the body and the action block",
    ),
    Rule(
        id="waf-inspects-bodies",
        severity=Severity.MEDIUM,
        types=ACL,
        check=on(_WHOLE_BODY),
        reason="by default WAF inspects 16 KB of a body on API Gateway, and prompts are longer",
        remedy="set associationConfig.requestBodies to apiGateway KB_64",
    ),
    Rule(
        id="waf-managed-groups",
        severity=Severity.MEDIUM,
        types=ACL,
        check=on(any_item("rules", is_set("statement.managedRuleGroupStatement")), _GROUPS_BLOCK),
        reason="AWS's managed groups know of attacks that nobody here has heard of; a group set to count blocks none",
        remedy="add managed rule groups with overrideAction none; let single rules count where prompts match them",
    ),
    Rule(
        id="waf-own-rules-block",
        severity=Severity.HIGH,
        types=ACL,
        check=on(_OWN_RULES_BLOCK),
        reason="a rule that counts lets through what it was written to refuse, and one that allows ends the "
        "inspection, so that no later rule sees the request; what no rule blocks passes by the default action",
        remedy="set the rule's action to block, captcha or challenge",
    ),
    Rule(
        id="waf-log-redacted",
        severity=Severity.HIGH,
        types=LOGGING,
        check=on(any_item("redactedFields", is_one_of("singleHeader.name", "authorization"))),
        reason="the firewall's log would hold every caller's token",
        remedy="redact singleHeader authorization",
    ),
    Rule(
        id="waf-no-samples",
        severity=Severity.MEDIUM,
        types=ACL,
        check=on(
            is_not_true("visibilityConfig.sampledRequestsEnabled"),
            each_item("rules", is_not_true("visibilityConfig.sampledRequestsEnabled")),
        ),
        reason="samples keep headers of requests, tokens among them, for everybody who may read the web ACL",
        remedy="set sampledRequestsEnabled false in every visibilityConfig",
    ),
    Rule(
        id="waf-body-protected",
        severity=Severity.HIGH,
        types=ACL,
        check=on(
            any_item("dataProtectionConfig.dataProtections", is_one_of("field.fieldType", "BODY")),
            each_item(
                "dataProtectionConfig.dataProtections", is_not_set("excludeRuleMatchDetails"), is_set("field.fieldType")
            ),
        ),
        reason="what a rule matched in a body is part of a prompt and would stand in the log",
        remedy="protect the field BODY in dataProtectionConfig",
    ),
    Rule(
        id="waf-token-protected",
        severity=Severity.HIGH,
        types=ACL,
        check=on(
            any_item(
                "dataProtectionConfig.dataProtections",
                is_one_of("field.fieldType", "SINGLE_HEADER"),
                _is_the_token,
                is_not_true("excludeRateBasedDetails"),
                is_not_true("excludeRuleMatchDetails"),
            )
        ),
        reason="a rate rule that counts by token writes it into the log as its key, which redaction leaves there",
        remedy="protect the header authorization in dataProtectionConfig, rate details and match details included",
    ),
)
