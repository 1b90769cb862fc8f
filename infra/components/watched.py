"""What is watched: metrics of AWS's services, of the servers, and of the gateway's access log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from infra.components.balancer import Balancer
from infra.components.canary import Canary
from infra.components.fleet import Fleet
from infra.components.gateway import Gateway
from infra.settings import Settings
from infra.site import Site

PERIOD_SECONDS = 60
Dimensions = Mapping[str, pulumi.Input[str]]


@dataclass(frozen=True)
class ObservabilityArgs:
    """Who is told, and what is watched."""

    site: Site
    settings: Settings
    gateway: Gateway
    balancer: Balancer
    fleet: Fleet
    canary: Canary


@dataclass(frozen=True)
class Metric:
    """A CloudWatch metric; dimensions may be known only once deployed."""

    namespace: str
    name: str
    dimensions: Dimensions
    statistic: str

    def widget_line(self, label: str) -> list[Any]:
        """The metric as a line of a dashboard's widget."""
        pairs = [part for pair in self.dimensions.items() for part in pair]
        return [self.namespace, self.name, *pairs, {"stat": self.statistic, "label": label}]


@dataclass(frozen=True)
class LogMetric:
    """A metric that is counted from lines of the access log: which lines, what of them, and by which of its fields."""

    name: str
    pattern: str
    value: str
    unit: str
    dimensions: Mapping[str, str]


# The access log's fields are texts, so statuses are compared as such.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntaxForMetricFilters.html
LOG_METRICS = {
    "errors-by-status": LogMetric(
        "ErrorsByStatus",
        '{ ($.status = "4*") || ($.status = "5*") }',
        value="1",
        unit="Count",
        dimensions={"Status": "$.status"},
    ),
    "throttled": LogMetric("ThrottledCalls", '{ $.status = "429" }', value="1", unit="Count", dimensions={}),
    "first-token": LogMetric(
        "FirstToken",
        '{ ($.status = "200") && ($.route = "*/completions") }',
        value="$.firstContent",
        unit="Milliseconds",
        dimensions={},
    ),
}


def log_namespace(site: Site) -> str:
    """Where the metrics of the access log are: a stack's own, since no line of a log can name its stack to a filter."""
    return f"{site.project}/{site.stack}"


def metrics(args: ObservabilityArgs) -> dict[str, Metric]:
    """What is watched, by a short name."""
    api: Dimensions = {"ApiName": args.gateway.api_name, "Stage": args.gateway.stage_name}
    targets: Dimensions = {
        "TargetGroup": args.balancer.target_group_arn_suffix,
        "LoadBalancer": args.balancer.arn_suffix,
    }
    fleet: Dimensions = {"Stack": args.site.stack, "AutoScalingGroupName": args.fleet.autoscaling_group}
    group: Dimensions = {"AutoScalingGroupName": args.fleet.autoscaling_group}
    acl: Dimensions = {"WebACL": args.gateway.web_acl_name, "Region": args.site.region, "Rule": "ALL"}
    authorizer: Dimensions = {"FunctionName": args.gateway.authorizer_name}
    stack: Dimensions = {"Stack": args.site.stack}
    own, logged = args.site.project, log_namespace(args.site)
    return {
        "requests": Metric("AWS/ApiGateway", "Count", api, "Sum"),
        "server-errors": Metric("AWS/ApiGateway", "5XXError", api, "Sum"),
        "client-errors": Metric("AWS/ApiGateway", "4XXError", api, "Sum"),
        "latency": Metric("AWS/ApiGateway", "Latency", api, "p99"),
        "median-latency": Metric("AWS/ApiGateway", "Latency", api, "p50"),
        "first-token": Metric(logged, "FirstToken", {}, "p99"),
        "median-first-token": Metric(logged, "FirstToken", {}, "p50"),
        "throttled": Metric(logged, "ThrottledCalls", {}, "Sum"),
        "unhealthy-hosts": Metric("AWS/ApplicationELB", "UnHealthyHostCount", targets, "Maximum"),
        "healthy-hosts": Metric("AWS/ApplicationELB", "HealthyHostCount", targets, "Minimum"),
        "instances": Metric("AWS/AutoScaling", "GroupInServiceInstances", group, "Average"),
        "authorizer-errors": Metric("AWS/Lambda", "Errors", authorizer, "Sum"),
        "authorizer-throttles": Metric("AWS/Lambda", "Throttles", authorizer, "Sum"),
        "in-flight": Metric(own, "InFlightRequests", fleet, "Average"),
        "queued": Metric(own, "QueuedRequests", fleet, "Average"),
        "tokens": Metric(own, "TokensPerSecond", fleet, "Average"),
        "budget-failures": Metric(own, "BudgetFailures", fleet, "Sum"),
        "usage-lost": Metric(own, "UsageRecordsLost", fleet, "Sum"),
        "gpu-use": Metric(own, "GpuUtilization", fleet, "Average"),
        "gpu-memory": Metric(own, "GpuMemoryUtilization", fleet, "Maximum"),
        "blocked": Metric("AWS/WAFV2", "BlockedRequests", acl, "Sum"),
        "canary": Metric(own, "CanarySuccess", stack, "Minimum"),
        "canary-latency": Metric(own, "CanaryMilliseconds", stack, "Maximum"),
    }
