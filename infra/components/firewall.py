"""The web ACL before the gateway.

It sits on the stage since there it can inspect bodies of 64 KB; before a balancer it would be 8 KB.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.logs import Logs
from infra.settings import FirewallSettings
from infra.site import Site

RATE_WINDOW_SECONDS = 300
# Rules of AWS's groups that a prompt with code, paths or links in it would match; they count, and do not block.
# Our own size rule takes the place of the common group's, which has 8 KB.
COUNTED_RULES = {
    "AWSManagedRulesCommonRuleSet": (
        "SizeRestrictions_BODY",
        "CrossSiteScripting_BODY",
        "GenericLFI_BODY",
        "GenericRFI_BODY",
        "EC2MetaDataSSRF_BODY",
    ),
    "AWSManagedRulesKnownBadInputsRuleSet": ("JavaDeserializationRCE_BODY",),
    "AWSManagedRulesAmazonIpReputationList": (),
}
# Looked up by a vulnerable log4j wherever it is logged, a model's answer included; no prompt needs it to be verbatim.
HOSTILE_TEXT = "${jndi:"
EVERY_ADDRESS = ("0.0.0.0/1", "128.0.0.0/1")


def allowed_addresses(allow_cidrs: Sequence[IPv4Network]) -> list[str]:
    """The addresses that may call; every one, in the halves that an IP set takes, where none is named."""
    return [str(each) for each in allow_cidrs] or list(EVERY_ADDRESS)


def error_body(*, error_type: str, code: str, message: str) -> str:
    """An answer of the firewall's own, in OpenAI's shape of an error."""
    return json.dumps({"error": {"message": message, "type": error_type, "param": None, "code": code}})


def response_bodies(*, body_limit_kb: int) -> dict[str, str]:
    """The firewall's own answers by the key that its rules name."""
    return {
        "rate-limited": error_body(
            error_type="rate_limit_error",
            code="rate_limit_exceeded",
            message="Too many requests from this address; wait as long as Retry-After says",
        ),
        "too-large": error_body(
            error_type="invalid_request_error",
            code="request_too_large",
            message=f"The body is larger than {body_limit_kb} KB; send less at a time",
        ),
    }


@dataclass(frozen=True)
class FirewallArgs:
    """Addresses, rates and sizes, and where logs go."""

    site: Site
    firewall: FirewallSettings
    logs: Logs


class Firewall(pulumi.ComponentResource):
    """IP lists, rate, size, a hostile text, and AWS's managed groups with overrides that let prompts pass."""

    web_acl_arn: pulumi.Output[str]
    web_acl_name: pulumi.Output[str]

    def __init__(self, name: str, args: FirewallArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Firewall", name, None, opts)
        self._name, self._args = name, args
        blocked = self._ip_set("blocked", [str(each) for each in args.firewall.block_cidrs])
        allowed = self._ip_set("allowed", allowed_addresses(args.firewall.allow_cidrs))
        acl = aws.wafv2.WebAcl(
            f"{name}-acl",
            scope="REGIONAL",
            default_action={"allow": {}},
            rules=[
                *own_rules(firewall=args.firewall, blocked_arn=blocked.arn, allowed_arn=allowed.arn),
                *managed_rules(first_priority=10),
            ],
            custom_response_bodies=[
                {"key": key, "content": content, "content_type": "APPLICATION_JSON"}
                for key, content in response_bodies(body_limit_kb=args.firewall.body_limit_kb).items()
            ],
            association_config={"request_bodies": [{"api_gateway": {"default_size_inspection_limit": "KB_64"}}]},
            # What a rule matched in a body is part of a prompt, and a header's value may be a token.
            data_protection_config={
                "data_protections": [
                    {"action": "SUBSTITUTION", "field": {"field_type": "BODY"}},
                    {"action": "SUBSTITUTION", "field": {"field_type": "QUERY_STRING"}},
                    {
                        "action": "SUBSTITUTION",
                        "field": {"field_type": "SINGLE_HEADER", "field_keys": ["authorization"]},
                    },
                ]
            },
            visibility_config=_visibility(f"{name}-acl"),
            opts=ResourceOptions(parent=self),
        )
        self.web_acl_arn, self.web_acl_name = acl.arn, acl.name
        self._logging(acl)
        self.register_outputs({"web_acl_arn": self.web_acl_arn})

    def _ip_set(self, list_name: str, addresses: list[str]) -> aws.wafv2.IpSet:
        return aws.wafv2.IpSet(
            f"{self._name}-{list_name}",
            scope="REGIONAL",
            ip_address_version="IPV4",
            addresses=addresses,
            opts=ResourceOptions(parent=self),
        )

    def _logging(self, acl: aws.wafv2.WebAcl) -> None:
        # WAF delivers to log groups of this prefix only.
        group = self._args.logs.group(
            f"{self._name}-logs", parent=self, physical_name=f"aws-waf-logs-{self._args.site.name}"
        )
        aws.wafv2.WebAclLoggingConfiguration(
            f"{self._name}-logging",
            resource_arn=acl.arn,
            log_destination_configs=[group.arn],
            redacted_fields=[{"single_header": {"name": "authorization"}}, {"query_string": {}}],
            # The access log has every request; here stands what a rule found.
            logging_filter={
                "default_behavior": "DROP",
                "filters": [
                    {
                        "behavior": "KEEP",
                        "requirement": "MEETS_ANY",
                        "conditions": [
                            {"action_condition": {"action": "BLOCK"}},
                            {"action_condition": {"action": "COUNT"}},
                        ],
                    }
                ],
            },
            opts=ResourceOptions(parent=self),
        )


def own_rules(
    *, firewall: FirewallSettings, blocked_arn: pulumi.Input[str], allowed_arn: pulumi.Input[str]
) -> list[aws.wafv2.WebAclRuleArgsDict]:
    """The stack's own rules, the cheapest first."""
    return [
        {
            "name": "blocked-addresses",
            "priority": 0,
            "statement": {"ip_set_reference_statement": {"arn": blocked_arn}},
            "action": {"block": {}},
            "visibility_config": _visibility("blocked-addresses"),
        },
        {
            "name": "outside-allowed-addresses",
            "priority": 1,
            "statement": {
                "not_statement": {"statement": {"ip_set_reference_statement": {"arn": allowed_arn}}},
            },
            "action": {"block": {}},
            "visibility_config": _visibility("outside-allowed-addresses"),
        },
        {
            "name": "rate-per-address",
            "priority": 2,
            "statement": {
                "rate_based_statement": {
                    "aggregate_key_type": "IP",
                    "limit": firewall.requests_per_5_minutes,
                    "evaluation_window_sec": RATE_WINDOW_SECONDS,
                }
            },
            "action": {
                "block": {
                    "custom_response": {
                        "response_code": 429,
                        "custom_response_body_key": "rate-limited",
                        "response_headers": [{"name": "Retry-After", "value": "60"}],
                    }
                }
            },
            "visibility_config": _visibility("rate-per-address"),
        },
        {
            "name": "body-size",
            "priority": 3,
            "statement": {
                "size_constraint_statement": {
                    # What is too large to be inspected is too large.
                    "field_to_match": {"body": {"oversize_handling": "MATCH"}},
                    "comparison_operator": "GT",
                    "size": firewall.body_limit_kb * 1024,
                    "text_transformations": [{"priority": 0, "type": "NONE"}],
                }
            },
            "action": {
                "block": {"custom_response": {"response_code": 413, "custom_response_body_key": "too-large"}},
            },
            "visibility_config": _visibility("body-size"),
        },
        {
            "name": "hostile-body",
            "priority": 4,
            "statement": {
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
            "action": {"block": {}},
            "visibility_config": _visibility("hostile-body"),
        },
    ]


def managed_rules(*, first_priority: int) -> list[aws.wafv2.WebAclRuleArgsDict]:
    """AWS's groups, in COUNTED_RULES' order reversed: the cheapest first."""
    groups = reversed(COUNTED_RULES.items())
    return [
        {
            "name": group,
            "priority": first_priority + index,
            "override_action": {"none": {}},
            "statement": {
                "managed_rule_group_statement": {
                    "vendor_name": "AWS",
                    "name": group,
                    "rule_action_overrides": [{"name": rule, "action_to_use": {"count": {}}} for rule in counted],
                }
            },
            "visibility_config": _visibility(group),
        }
        for index, (group, counted) in enumerate(groups)
    ]


def _visibility(metric: str) -> aws.wafv2.WebAclRuleVisibilityConfigArgsDict:
    # No samples: they keep requests' headers, tokens among them, for three hours.
    return {"cloudwatch_metrics_enabled": True, "metric_name": metric, "sampled_requests_enabled": False}
