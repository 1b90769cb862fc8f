"""The gateway's stage: throttling, access log, usage plans, firewall, and the address that clients call."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.certificate import Certificate
from infra.components.firewall import Firewall
from infra.components.logs import Logs
from infra.iam import assume_role
from infra.settings import FleetSettings, PlanSettings, Settings
from infra.site import Site

# The stage's name is part of the path that the servers see, and so is the version that clients call.
STAGE = "v1"
TLS_POLICY = "SecurityPolicy_TLS13_1_2_2021_06"
LOG_POLICY = "service-role/AmazonAPIGatewayPushToCloudWatchLogs"

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


@dataclass(frozen=True)
class StageArgs:
    """The API and its deployment, and what the stage puts before them."""

    site: Site
    settings: Settings
    api_id: pulumi.Input[str]
    deployment_id: pulumi.Input[str]
    certificate: Certificate
    firewall: Firewall
    logs: Logs


class Stage(pulumi.ComponentResource):
    """The one stage of the API, logged, throttled, traced and behind the firewall, with a usage plan per plan."""

    name: pulumi.Output[str]
    url: pulumi.Output[str]
    usage_plan_ids: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: StageArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Stage", name, None, opts)
        self._name, self._args = name, args
        access_log = args.logs.group(f"{name}-access-logs", parent=self)
        stage = aws.apigateway.Stage(
            name,
            rest_api=args.api_id,
            deployment=args.deployment_id,
            stage_name=STAGE,
            xray_tracing_enabled=True,
            access_log_settings={
                "destination_arn": access_log.arn,
                "format": pulumi.Output.json_dumps(ACCESS_LOG_FORMAT),
            },
            opts=ResourceOptions(parent=self, depends_on=[self._log_account()]),
        )
        self.name = stage.stage_name
        self._throttle()
        aws.wafv2.WebAclAssociation(
            f"{name}-firewall",
            resource_arn=stage.arn,
            web_acl_arn=args.firewall.web_acl_arn,
            opts=ResourceOptions(parent=self),
        )
        self.usage_plan_ids = self._usage_plans()
        domain = args.settings.api.domain
        self.url = stage.invoke_url if domain is None else self._domain(domain)
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

    def _throttle(self) -> None:
        rate, burst = stage_throttle(self._args.settings.plans, fleet=self._args.settings.fleet)
        aws.apigateway.MethodSettings(
            f"{self._name}-settings",
            rest_api=self._args.api_id,
            stage_name=self.name,
            method_path="*/*",
            settings={
                "metrics_enabled": True,
                # Execution logs quote headers and bodies; the access log does not.
                "logging_level": "OFF",
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
                api_stages=[{"api_id": self._args.api_id, "stage": self.name}],
                throttle_settings={"rate_limit": limits.rate_per_second, "burst_limit": limits.burst},
                quota_settings={"limit": limits.requests_per_day, "period": "DAY"},
                opts=ResourceOptions(parent=self),
            ).id
            for plan, limits in self._args.settings.plans.items()
        }

    def _domain(self, domain: str) -> pulumi.Output[str]:
        name = aws.apigateway.DomainName(
            f"{self._name}-domain",
            domain_name=domain,
            regional_certificate_arn=self._args.certificate.arn,
            endpoint_configuration={"types": "REGIONAL"},
            security_policy=TLS_POLICY,
            endpoint_access_mode="STRICT",
            opts=ResourceOptions(parent=self),
        )
        mapping = aws.apigateway.BasePathMapping(
            f"{self._name}-base-path",
            domain_name=name.domain_name,
            rest_api=self._args.api_id,
            stage_name=self.name,
            base_path=STAGE,
            opts=ResourceOptions(parent=self),
        )
        return pulumi.Output.concat("https://", mapping.domain_name, f"/{STAGE}")
