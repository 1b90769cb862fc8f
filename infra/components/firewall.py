"""The web ACL before the gateway.

It sits on the stage since there it can inspect bodies of 64 KB; before a balancer it would be 8 KB.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra import request_models
from infra.components.firewall_rules import counted_rule, managed_groups, managed_rules, own_rules, visibility
from infra.components.logs import Logs
from infra.routes import ROUTES, STAGE
from infra.settings import FirewallSettings
from infra.site import Site

EVERY_ADDRESS = ("0.0.0.0/1", "128.0.0.0/1")


def allowed_addresses(allow_cidrs: Sequence[IPv4Network]) -> list[str]:
    """The addresses that may call; every one, in the halves that an IP set takes, where none is named."""
    return [str(each) for each in allow_cidrs] or list(EVERY_ADDRESS)


def prompt_paths(openapi: Mapping[str, Any]) -> list[str]:
    """The paths of the routes whose bodies carry prompts, as the firewall sees them."""
    paths = [(route.method, f"/{STAGE}{route.path}") for route in ROUTES]
    return [
        path
        for method, path in paths
        if set(request_models.body_fields(openapi, method=method, path=path)) & request_models.PROMPT_FIELDS
    ]


def error_body(*, error_type: str, code: str, message: str) -> str:
    """An answer of the firewall's own, in OpenAI's shape of an error."""
    return json.dumps({"error": {"message": message, "type": error_type, "param": None, "code": code}})


def response_bodies(*, body_limit_kb: int) -> dict[str, str]:
    """The firewall's own answers by the key that its rules name.

    WAF fills nothing in, so the request's id is in the header x-amzn-requestid of these alone; what is blocked without
    an answer of its own gets the gateway's WAF_FILTERED, with x-request-id.
    """
    return {
        f"rate-per-{what}": error_body(
            error_type="rate_limit_error",
            code="rate_limit_exceeded",
            message=f"The firewall: too many requests from this {what}; wait as long as Retry-After says",
        )
        for what in ("address", "token", "key")
    } | {
        "too-large": error_body(
            error_type="invalid_request_error",
            code="request_too_large",
            message=f"The firewall: the body is larger than {body_limit_kb} KB; send less at a time",
        ),
    }


@dataclass(frozen=True)
class FirewallArgs:
    """Addresses, rates and sizes, and where logs go."""

    site: Site
    firewall: FirewallSettings
    logs: Logs


class Firewall(pulumi.ComponentResource):
    """IP lists, rates, size, hostile texts, and AWS's managed groups with overrides that let prompts pass."""

    web_acl_arn: pulumi.Output[str]
    web_acl_name: pulumi.Output[str]

    def __init__(self, name: str, args: FirewallArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Firewall", name, None, opts)
        self._name, self._args = name, args
        openapi = request_models.read_openapi(args.site.root / request_models.OPENAPI_FILE)
        groups = managed_groups(args.firewall)
        blocked = self._ip_set("blocked", [str(each) for each in args.firewall.block_cidrs])
        allowed = self._ip_set("allowed", allowed_addresses(args.firewall.allow_cidrs))
        acl = aws.wafv2.WebAcl(
            f"{name}-acl",
            scope="REGIONAL",
            default_action={"allow": {}},
            rules=[
                *own_rules(
                    firewall=args.firewall,
                    blocked_arn=blocked.arn,
                    allowed_arn=allowed.arn,
                    plain_fields=[f"/{field}" for field in request_models.plain_fields(openapi)],
                ),
                *managed_rules(groups, first_priority=10),
                counted_rule(groups, prompt_paths=prompt_paths(openapi), priority=19),
            ],
            custom_response_bodies=[
                {"key": key, "content": content, "content_type": "APPLICATION_JSON"}
                for key, content in response_bodies(body_limit_kb=args.firewall.body_limit_kb).items()
            ],
            association_config={"request_bodies": [{"api_gateway": {"default_size_inspection_limit": "KB_64"}}]},
            # What a rule matched in a body is part of a prompt, and a header's value, a rate's key too, may be a token.
            data_protection_config={
                "data_protections": [
                    {"action": "SUBSTITUTION", "field": {"field_type": "BODY"}},
                    {"action": "SUBSTITUTION", "field": {"field_type": "QUERY_STRING"}},
                    {
                        "action": "SUBSTITUTION",
                        "field": {"field_type": "SINGLE_HEADER", "field_keys": ["authorization", "x-api-key"]},
                    },
                ]
            },
            visibility_config=visibility(f"{name}-acl"),
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
            redacted_fields=[
                {"single_header": {"name": "authorization"}},
                {"single_header": {"name": "x-api-key"}},
                {"query_string": {}},
            ],
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
