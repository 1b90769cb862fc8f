"""The rules of the web ACL, in their order: who may come, how often, how much, and what looks like an attack."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.settings import FirewallSettings

Rule = aws.wafv2.WebAclRuleArgsDict

RATE_WINDOW_SECONDS = 300
# Looked up by a vulnerable log4j wherever it is logged, a model's answer included; no prompt needs it to be verbatim.
HOSTILE_TEXT = "${jndi:"
_DECODED: Any = [{"priority": 0, "type": "URL_DECODE"}, {"priority": 1, "type": "HTML_ENTITY_DECODE"}]


@dataclass(frozen=True)
class ManagedGroup:
    """A rule group of AWS's: the rules in it that count and do not block, and the labels of those that read bodies."""

    name: str
    counted: tuple[str, ...] = ()
    body_labels: tuple[str, ...] = ()


# AWS's groups inspect a body as a whole and know no fields, and a prompt may be code, SQL or a path. So their rules on
# bodies count, and three rules of our own do what they cannot: `scripts-outside-prompts` and `sql-outside-prompts`
# inspect the fields that carry no prompt, `body-outside-prompts` blocks what was counted where no prompt is expected.
REPUTATION = ManagedGroup("AWSManagedRulesAmazonIpReputationList")
KNOWN_BAD_INPUTS = ManagedGroup(
    "AWSManagedRulesKnownBadInputsRuleSet",
    counted=("JavaDeserializationRCE_BODY",),
    body_labels=("awswaf:managed:aws:known-bad-inputs:JavaDeserializationRCE_Body",),
)
COMMON = ManagedGroup(
    "AWSManagedRulesCommonRuleSet",
    # Our own size rule takes the place of this group's, which has 8 KB.
    counted=(
        "SizeRestrictions_BODY",
        "CrossSiteScripting_BODY",
        "GenericLFI_BODY",
        "GenericRFI_BODY",
        "EC2MetaDataSSRF_BODY",
    ),
    body_labels=tuple(
        f"awswaf:managed:aws:core-rule-set:{each}_Body"
        for each in ("CrossSiteScripting", "GenericLFI", "GenericRFI", "EC2MetaDataSSRF")
    ),
)
# Callers of an API are programs, and many of them run at hosting providers: that alone is no reason to refuse them.
ANONYMOUS_IP = ManagedGroup("AWSManagedRulesAnonymousIpList", counted=("HostingProviderIPList",))
BOTS = ManagedGroup(
    "AWSManagedRulesBotControlRuleSet",
    counted=("CategoryHttpLibrary", "CategoryAI", "SignalNonBrowserUserAgent", "SignalKnownBotDataCenter"),
)


def managed_groups(firewall: FirewallSettings) -> list[ManagedGroup]:
    """The groups of a stack, those that look at the address alone first, and the one that costs by the request last."""
    return [
        REPUTATION,
        *([ANONYMOUS_IP] if firewall.anonymous_ip else []),
        KNOWN_BAD_INPUTS,
        COMMON,
        *([BOTS] if firewall.bots else []),
    ]


def own_rules(
    *,
    firewall: FirewallSettings,
    blocked_arn: pulumi.Input[str],
    allowed_arn: pulumi.Input[str],
    plain_fields: Sequence[str],
) -> list[Rule]:
    """The stack's own rules, the cheapest first; `plain_fields` are JSON pointers to what carries no prompt."""
    return [
        _block("blocked-addresses", 0, {"ip_set_reference_statement": {"arn": blocked_arn}}),
        _block(
            "outside-allowed-addresses",
            1,
            {"not_statement": {"statement": {"ip_set_reference_statement": {"arn": allowed_arn}}}},
        ),
        _rate_limited(
            "rate-per-address",
            2,
            {
                "aggregate_key_type": "IP",
                "limit": firewall.requests_per_5_minutes,
                "evaluation_window_sec": RATE_WINDOW_SECONDS,
            },
        ),
        _block(
            "body-size",
            3,
            {
                "size_constraint_statement": {
                    # What is too large to be inspected is too large.
                    "field_to_match": {"body": {"oversize_handling": "MATCH"}},
                    "comparison_operator": "GT",
                    "size": firewall.body_limit_kb * 1024,
                    "text_transformations": [{"priority": 0, "type": "NONE"}],
                }
            },
            response={"response_code": 413, "custom_response_body_key": "too-large"},
        ),
        _block(
            "hostile-body",
            4,
            {
                "byte_match_statement": {
                    "field_to_match": {"body": {"oversize_handling": "CONTINUE"}},
                    "search_string": HOSTILE_TEXT,
                    "positional_constraint": "CONTAINS",
                    # JSON and URLs spell the same text in other ways.
                    "text_transformations": [
                        {"priority": 0, "type": "JS_DECODE"},
                        {"priority": 1, "type": "URL_DECODE"},
                        {"priority": 2, "type": "LOWERCASE"},
                    ],
                }
            },
        ),
        # A token that is used from many addresses; without one a request gets no further than the authorizer.
        _rate_limited("rate-per-token", 5, _per_header("authorization", firewall)),
        _block(
            "scripts-outside-prompts",
            6,
            {"xss_match_statement": {"field_to_match": _fields(plain_fields), "text_transformations": _DECODED}},
        ),
        _block(
            "sql-outside-prompts",
            7,
            {
                "sqli_match_statement": {
                    "field_to_match": _fields(plain_fields),
                    "text_transformations": _DECODED,
                    "sensitivity_level": "HIGH",
                }
            },
        ),
        # The other header that a token may come in; one rule counts by both together or not at all.
        _rate_limited("rate-per-key", 8, _per_header("x-api-key", firewall)),
    ]


def managed_rules(groups: Sequence[ManagedGroup], *, first_priority: int) -> list[Rule]:
    """AWS's groups in this order."""
    return [_managed(group, priority=first_priority + index) for index, group in enumerate(groups)]


def _managed(group: ManagedGroup, *, priority: int) -> Rule:
    statement: aws.wafv2.WebAclRuleStatementManagedRuleGroupStatementArgsDict = {
        "vendor_name": "AWS",
        "name": group.name,
        "rule_action_overrides": [{"name": rule, "action_to_use": {"count": {}}} for rule in group.counted],
    }
    if group is BOTS:
        statement["managed_rule_group_configs"] = [
            {"aws_managed_rules_bot_control_rule_set": {"inspection_level": "COMMON"}}
        ]
    return {
        "name": group.name,
        "priority": priority,
        "override_action": {"none": {}},
        "statement": {"managed_rule_group_statement": statement},
        "visibility_config": visibility(group.name),
    }


def counted_rule(groups: Sequence[ManagedGroup], *, prompt_paths: Sequence[str], priority: int) -> Rule:
    """Block what the groups' rules on bodies have counted, unless it goes to a path whose body carries a prompt."""
    labels = [label for group in groups for label in group.body_labels]
    return _block(
        "body-outside-prompts",
        priority,
        {
            "and_statement": {
                "statements": [
                    {
                        "or_statement": {
                            "statements": [
                                {"label_match_statement": {"scope": "LABEL", "key": label}} for label in labels
                            ]
                        }
                    },
                    {"not_statement": {"statement": _one_of_paths(prompt_paths)}},
                ]
            }
        },
    )


def visibility(metric: str) -> aws.wafv2.WebAclRuleVisibilityConfigArgsDict:
    """Metrics and no samples: those keep requests' headers, tokens among them, for three hours."""
    return {"cloudwatch_metrics_enabled": True, "metric_name": metric, "sampled_requests_enabled": False}


def _one_of_paths(paths: Sequence[str]) -> aws.wafv2.WebAclRuleStatementArgsDict:
    return {
        "regex_match_statement": {
            "regex_string": f"^({'|'.join(paths)})$",
            "field_to_match": {"uri_path": {}},
            "text_transformations": [{"priority": 0, "type": "NONE"}],
        }
    }


def _fields(pointers: Sequence[str]) -> Any:
    """Some fields of a JSON body; what is no JSON is the request validator's to refuse, by a message that says so.

    Its type is Any since the SDK has a type of its own for each statement's field.
    """
    return {
        "json_body": {
            "match_pattern": {"included_paths": list(pointers)},
            "match_scope": "VALUE",
            "invalid_fallback_behavior": "NO_MATCH",
            "oversize_handling": "CONTINUE",
        }
    }


def _block(name: str, priority: int, statement: aws.wafv2.WebAclRuleStatementArgsDict, *, response: Any = None) -> Rule:
    """A rule that blocks; without a response of its own, by the gateway's WAF_FILTERED, which has the request's id."""
    return {
        "name": name,
        "priority": priority,
        "statement": statement,
        "action": {"block": {"custom_response": response} if response is not None else {}},
        "visibility_config": visibility(name),
    }


def _per_header(header: str, firewall: FirewallSettings) -> Any:
    """Counts requests by the value of a header; those without it are not counted."""
    key = {"header": {"name": header, "text_transformations": [{"priority": 0, "type": "NONE"}]}}
    return {
        "aggregate_key_type": "CUSTOM_KEYS",
        "custom_keys": [key],
        "limit": firewall.requests_per_5_minutes_per_token or firewall.requests_per_5_minutes,
        "evaluation_window_sec": RATE_WINDOW_SECONDS,
    }


def _rate_limited(name: str, priority: int, rate: Any) -> Rule:
    return _block(
        name,
        priority,
        {"rate_based_statement": rate},
        response={
            "response_code": 429,
            "custom_response_body_key": name,
            "response_headers": [{"name": "Retry-After", "value": "60"}],
        },
    )
