"""The gateway's stage: throttling, access log, usage plans, firewall, and the address that clients call."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.api_settings import CANARY_PLAN
from infra.components.certificate import Certificate
from infra.components.domain import DomainName, DomainNameArgs
from infra.components.firewall import Firewall
from infra.components.logs import Logs
from infra.fleet_settings import FleetSettings
from infra.iam import assume_role
from infra.routes import ROUTES, STAGE
from infra.settings import PlanSettings, Settings
from infra.site import Site

LOG_POLICY = "service-role/AmazonAPIGatewayPushToCloudWatchLogs"

# One call every five minutes is 288 a day; the rest is for retries and for whoever tries it by hand.
CANARY_LIMITS = PlanSettings(rate_per_second=1, burst=2, requests_per_day=400, tokens_per_day=40_000)

# What a parser or a validator says of a body that it refuses, to the end of the line: it may quote the body. AWS takes
# no parentheses and no colon in these (https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL-custom-data-identifiers.html).
QUOTED = {
    "UnrecognizedToken": "Unrecognized token.*",
    "UnexpectedCharacter": "Unexpected character.*",
    "ParserSource": "at .Source.*",
    "BodyAgainstModel": "Request body does not match.*",
    "BodyUnparsed": "parse request body.*",
}

# One line of JSON per request: who, what, how long, how large. No body, no header, and no error text, which may quote
# a body.
ACCESS_LOG_FORMAT = {
    "requestId": "$context.requestId",
    "time": "$context.requestTimeEpoch",
    "sourceIp": "$context.identity.sourceIp",
    "consumer": "$context.authorizer.consumer",
    "plan": "$context.authorizer.plan",
    "method": "$context.httpMethod",
    "route": "$context.resourcePath",
    "status": "$context.status",
    "errorType": "$context.error.responseType",
    "wafStatus": "$context.waf.status",
    "authorizerStatus": "$context.authorizer.status",
    "authorizerLatency": "$context.authorizer.latency",
    "integrationStatus": "$context.integration.status",
    "integrationLatency": "$context.integration.latency",
    # Until the first byte of the answer's content: of a stream, its first token.
    "firstContent": "$context.integration.timeToFirstContent",
    "latency": "$context.responseLatency",
    "responseLength": "$context.responseLength",
    "traceId": "$context.xrayTraceId",
}


def stage_throttle(plans: Mapping[str, PlanSettings], *, fleet: FleetSettings) -> tuple[float, int]:
    """Rate per second and burst of the stage as a whole.

    No plan is cut short by it; beyond that, more than the largest fleet holds in flight would be refused further on.
    """
    capacity = fleet.max * fleet.target_inflight
    rate = max(capacity, *(plan.rate_per_second for plan in plans.values()))
    burst = max(2 * capacity, *(plan.burst for plan in plans.values()))
    return float(rate), burst


def usage_plans(settings: Settings) -> dict[str, PlanSettings]:
    """The plans that the settings name, and a tiny one for the canary where there is one."""
    own = {} if settings.canary is None else {CANARY_PLAN: CANARY_LIMITS}
    return {**settings.plans, **own}


def route_throttles(plan: PlanSettings) -> list[aws.apigateway.UsagePlanApiStageThrottleArgsDict]:
    """The throttles of single routes within a plan, by API Gateway's name of a method."""
    methods = {route.name: f"{route.path}/{route.method}" for route in ROUTES}
    return [
        {"path": methods[name], "rate_limit": limit.rate_per_second, "burst_limit": limit.burst}
        for name, limit in plan.routes.items()
    ]


def masking_policy() -> dict[str, Any]:
    """A data protection policy that masks, for everybody without logs:Unmask, what an error quotes of a body.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/mask-sensitive-log-data.html
    """
    statement = {"DataIdentifier": list(QUOTED)}
    return {
        "Name": "execution-log",
        "Version": "2021-06-01",
        "Configuration": {"CustomDataIdentifier": [{"Name": name, "Regex": text} for name, text in QUOTED.items()]},
        "Statement": [
            {"Sid": "audit", **statement, "Operation": {"Audit": {"FindingsDestination": {}}}},
            {"Sid": "redact", **statement, "Operation": {"Deidentify": {"MaskConfig": {}}}},
        ],
    }


@dataclass(frozen=True)
class StageArgs:
    """The API and its deployment, and what the stage puts before them."""

    site: Site
    settings: Settings
    api_id: pulumi.Input[str]
    deployment_id: pulumi.Input[str]
    documentation_version: pulumi.Input[str]
    certificate: Certificate
    firewall: Firewall
    logs: Logs


class Stage(pulumi.ComponentResource):
    """The one stage of the API, logged, throttled, traced and behind the firewall, with a usage plan per plan."""

    name: pulumi.Output[str]
    url: pulumi.Output[str]
    access_log: aws.cloudwatch.LogGroup
    usage_plan_ids: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: StageArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Stage", name, None, opts)
        self._name, self._args = name, args
        self.access_log = access_log = args.logs.group(f"{name}-access-logs", parent=self)
        stage = aws.apigateway.Stage(
            name,
            rest_api=args.api_id,
            deployment=args.deployment_id,
            documentation_version=args.documentation_version,
            stage_name=STAGE,
            xray_tracing_enabled=True,
            access_log_settings={
                "destination_arn": access_log.arn,
                "format": pulumi.Output.json_dumps(ACCESS_LOG_FORMAT),
            },
            opts=ResourceOptions(parent=self, depends_on=[self._log_account(), *self._execution_log()]),
        )
        self.name = stage.stage_name
        self._settings()
        aws.wafv2.WebAclAssociation(
            f"{name}-firewall",
            resource_arn=stage.arn,
            web_acl_arn=args.firewall.web_acl_arn,
            opts=ResourceOptions(parent=self),
        )
        self.usage_plan_ids = self._usage_plans()
        self.url = stage.invoke_url
        if args.settings.api.domain is not None:
            self.url = DomainName(
                f"{name}-domain",
                DomainNameArgs(
                    domain=args.settings.api.domain,
                    api=args.settings.api,
                    api_id=args.api_id,
                    stage_name=self.name,
                    certificate=args.certificate,
                ),
                opts=ResourceOptions(parent=self),
            ).url
        self.register_outputs({"name": self.name, "url": self.url})

    def _log_account(self) -> aws.apigateway.Account:
        """The role by which API Gateway writes access logs: one per account and region, shared by the stacks in it."""
        role = aws.iam.Role(
            f"{self._name}-log-role",
            assume_role_policy=assume_role("apigateway.amazonaws.com"),
            opts=ResourceOptions(parent=self),
        )
        attachment = aws.iam.RolePolicyAttachment(
            f"{self._name}-log-policy",
            role=role.name,
            policy_arn=f"arn:{self._args.site.partition}:iam::aws:policy/{LOG_POLICY}",
            opts=ResourceOptions(parent=self),
        )
        return aws.apigateway.Account(
            f"{self._name}-account",
            cloudwatch_role_arn=role.arn,
            opts=ResourceOptions(parent=self, depends_on=[attachment]),
        )

    def _execution_log(self) -> list[pulumi.Resource]:
        """The group that API Gateway writes its errors to: under our key and our retention before it makes one itself.

        Without a data trace no request and no answer is logged; what an error's text quotes of a body is masked.
        """
        group = self._args.logs.group(
            f"{self._name}-execution-logs",
            parent=self,
            physical_name=pulumi.Output.concat("API-Gateway-Execution-Logs_", self._args.api_id, f"/{STAGE}"),
        )
        masking = aws.cloudwatch.LogDataProtectionPolicy(
            f"{self._name}-execution-masking",
            log_group_name=group.name,
            policy_document=json.dumps(masking_policy()),
            opts=ResourceOptions(parent=self),
        )
        return [group, masking]

    def _settings(self) -> None:
        rate, burst = stage_throttle(self._args.settings.plans, fleet=self._args.settings.fleet)
        aws.apigateway.MethodSettings(
            f"{self._name}-settings",
            rest_api=self._args.api_id,
            stage_name=self.name,
            method_path="*/*",
            settings={
                "metrics_enabled": True,
                # A data trace would log whole requests and answers; level INFO their headers.
                "logging_level": "ERROR",
                "data_trace_enabled": False,
                "throttling_rate_limit": rate,
                "throttling_burst_limit": burst,
            },
            opts=ResourceOptions(parent=self),
        )

    def _usage_plans(self) -> dict[str, pulumi.Output[str]]:
        return {
            plan: aws.apigateway.UsagePlan(
                f"{self._name}-plan-{plan}",
                name=f"{self._args.site.name}-{plan}",
                api_stages=[{"api_id": self._args.api_id, "stage": self.name, "throttles": route_throttles(limits)}],
                throttle_settings={"rate_limit": limits.rate_per_second, "burst_limit": limits.burst},
                quota_settings={"limit": limits.requests_per_day, "period": "DAY"},
                opts=ResourceOptions(parent=self),
            ).id
            for plan, limits in usage_plans(self._args.settings).items()
        }
