"""WAF: IP sets, regular expression sets, web ACLs, their association and logging."""

from __future__ import annotations

import json
from typing import Any

from local.types.spec import Autoname, Inputs, TypeSpec, known


def _web_acl(inputs: Inputs) -> Inputs:
    """Blocks that are lists with Pulumi and maps by key with the API."""
    result = dict(inputs)
    if known(result.get("ruleJson")) and result.get("ruleJson"):
        result["rules"] = json.loads(result.pop("ruleJson"))
    bodies = result.get("customResponseBodies")
    if isinstance(bodies, list):
        result["customResponseBodies"] = {
            body["key"]: {name: value for name, value in body.items() if name != "key"} for body in bodies
        }
    association = result.get("associationConfig")
    if isinstance(association, dict):
        result["associationConfig"] = {"requestBody": _request_bodies(association["requestBodies"])}
    return result


def _request_bodies(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {
        "apiGateway": "API_GATEWAY",
        "appRunnerService": "APP_RUNNER_SERVICE",
        "cloudfront": "CLOUDFRONT",
        "cognitoUserPool": "COGNITO_USER_POOL",
        "verifiedAccessInstance": "VERIFIED_ACCESS_INSTANCE",
    }
    found: dict[str, Any] = {}
    for block in blocks:
        for name, setting in block.items():
            found[kinds.get(name, name)] = setting
    return found


TYPES: dict[str, TypeSpec] = {
    "aws:wafv2/ipSet:IpSet": TypeSpec(
        service="wafv2",
        operation="CreateIPSet",
        id="Summary.Id",
        autoname=Autoname("name", limit=128),
        state="Summary",
        outputs={"arn": "ARN"},
    ),
    "aws:wafv2/regexPatternSet:RegexPatternSet": TypeSpec(
        service="wafv2",
        operation="CreateRegexPatternSet",
        id="Summary.Id",
        rename={"regularExpressions": "RegularExpressionList"},
        autoname=Autoname("name", limit=128),
        state="Summary",
        outputs={"arn": "ARN"},
    ),
    "aws:wafv2/webAcl:WebAcl": TypeSpec(
        service="wafv2",
        operation="CreateWebACL",
        id="Summary.Id",
        rename={"visibilityConfig.cloudwatchMetricsEnabled": "CloudWatchMetricsEnabled"},
        reshape=_web_acl,
        autoname=Autoname("name", limit=128),
        state="Summary",
        outputs={"arn": "ARN"},
    ),
    "aws:wafv2/webAclAssociation:WebAclAssociation": TypeSpec(
        service="wafv2", operation="AssociateWebACL", id="{webAclArn},{resourceArn}"
    ),
    "aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration": TypeSpec(
        service="wafv2",
        operation="PutLoggingConfiguration",
        id="{resourceArn}",
        reshape=lambda inputs: {"loggingConfiguration": dict(inputs)},
    ),
}
