"""Alarms, who hears of them, and the dashboard."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.balancer import Balancer
from infra.components.fleet import Fleet
from infra.components.gateway import Gateway
from infra.components.keys import EncryptionKey, EncryptionKeyArgs, delegated_to_iam, used_by_alarms, used_by_budgets
from infra.iam import ANYONE, Statement, document, same_account
from infra.settings import Settings
from infra.site import Site

PERIOD_SECONDS = 60
Dimensions = Mapping[str, pulumi.Input[str]]


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
class Alarm:
    """Above which value of a metric, for how many minutes, something is wrong."""

    description: str
    metric: Metric
    threshold: float
    minutes: int


@dataclass(frozen=True)
class ObservabilityArgs:
    """Who is told, and what is watched."""

    site: Site
    settings: Settings
    gateway: Gateway
    balancer: Balancer
    fleet: Fleet


def metrics(args: ObservabilityArgs) -> dict[str, Metric]:
    """What is watched, by a short name."""
    api: Dimensions = {"ApiName": args.gateway.api_name, "Stage": args.gateway.stage_name}
    targets: Dimensions = {
        "TargetGroup": args.balancer.target_group_arn_suffix,
        "LoadBalancer": args.balancer.arn_suffix,
    }
    fleet: Dimensions = {"Stack": args.site.stack, "AutoScalingGroupName": args.fleet.autoscaling_group}
    acl: Dimensions = {"WebACL": args.gateway.web_acl_name, "Region": args.site.region, "Rule": "ALL"}
    return {
        "requests": Metric("AWS/ApiGateway", "Count", api, "Sum"),
        "server-errors": Metric("AWS/ApiGateway", "5XXError", api, "Sum"),
        "client-errors": Metric("AWS/ApiGateway", "4XXError", api, "Sum"),
        "latency": Metric("AWS/ApiGateway", "Latency", api, "p99"),
        "unhealthy-hosts": Metric("AWS/ApplicationELB", "UnHealthyHostCount", targets, "Maximum"),
        "healthy-hosts": Metric("AWS/ApplicationELB", "HealthyHostCount", targets, "Minimum"),
        "authorizer-errors": Metric("AWS/Lambda", "Errors", {"FunctionName": args.gateway.authorizer_name}, "Sum"),
        "in-flight": Metric(args.site.project, "InFlightRequests", fleet, "Average"),
        "queued": Metric(args.site.project, "QueuedRequests", fleet, "Average"),
        "tokens": Metric(args.site.project, "TokensPerSecond", fleet, "Average"),
        "blocked": Metric("AWS/WAFV2", "BlockedRequests", acl, "Sum"),
    }


def alarms(args: ObservabilityArgs) -> dict[str, Alarm]:
    """What a person should look at."""
    watched = metrics(args)
    return {
        "server-errors": Alarm("Calls fail on our side", watched["server-errors"], threshold=5, minutes=3),
        "latency": Alarm(
            "The slowest calls near the timeout",
            watched["latency"],
            threshold=args.settings.api.timeout_seconds * 1000 * 0.9,
            minutes=5,
        ),
        "unhealthy-hosts": Alarm("Servers are not ready", watched["unhealthy-hosts"], threshold=0, minutes=15),
        "authorizer-errors": Alarm("Tokens cannot be checked", watched["authorizer-errors"], threshold=0, minutes=3),
    }


# Title, and the metrics in it by short name.
WIDGETS = (
    ("Requests", ("requests", "client-errors", "server-errors", "blocked")),
    ("Latency, p99 (ms)", ("latency",)),
    ("In flight per instance", ("in-flight", "queued")),
    ("Tokens per second and instance", ("tokens",)),
    ("Instances", ("healthy-hosts", "unhealthy-hosts")),
    ("Authorizer", ("authorizer-errors",)),
)


def dashboard(args: ObservabilityArgs) -> dict[str, Any]:
    """The dashboard's body: two columns of time series."""
    watched = metrics(args)
    return {
        "widgets": [
            {
                "type": "metric",
                "x": 12 * (index % 2),
                "y": 6 * (index // 2),
                "width": 12,
                "height": 6,
                "properties": {
                    "title": title,
                    "view": "timeSeries",
                    "region": args.site.region,
                    "period": PERIOD_SECONDS,
                    "metrics": [watched[each].widget_line(each) for each in names],
                },
            }
            for index, (title, names) in enumerate(WIDGETS)
        ]
    }


class Observability(pulumi.ComponentResource):
    """An encrypted topic, the alarms that publish to it, and one dashboard."""

    dashboard_url: pulumi.Output[str]
    topic_arn: pulumi.Output[str]

    def __init__(self, name: str, args: ObservabilityArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Observability", name, None, opts)
        self.topic_arn = self._topic(name, args)
        for alarm_name, alarm in alarms(args).items():
            extended = alarm.metric.statistic.startswith("p")
            aws.cloudwatch.MetricAlarm(
                f"{name}-{alarm_name}",
                alarm_description=alarm.description,
                namespace=alarm.metric.namespace,
                metric_name=alarm.metric.name,
                dimensions=alarm.metric.dimensions,
                statistic=None if extended else alarm.metric.statistic,
                extended_statistic=alarm.metric.statistic if extended else None,
                comparison_operator="GreaterThanThreshold",
                threshold=alarm.threshold,
                period=PERIOD_SECONDS,
                evaluation_periods=alarm.minutes,
                datapoints_to_alarm=alarm.minutes,
                treat_missing_data="notBreaching",
                alarm_actions=[self.topic_arn],
                ok_actions=[self.topic_arn],
                opts=ResourceOptions(parent=self),
            )
        board = aws.cloudwatch.Dashboard(
            f"{name}-dashboard",
            dashboard_name=args.site.name,
            dashboard_body=pulumi.Output.json_dumps(dashboard(args)),
            opts=ResourceOptions(parent=self),
        )
        self.dashboard_url = pulumi.Output.format(
            "https://{0}.console.aws.amazon.com/cloudwatch/home?region={0}#dashboards/dashboard/{1}",
            args.site.region,
            board.dashboard_name,
        )
        self.register_outputs({"dashboard_url": self.dashboard_url, "topic_arn": self.topic_arn})

    def _topic(self, name: str, args: ObservabilityArgs) -> pulumi.Output[str]:
        key = EncryptionKey(
            f"{name}-alarms-key",
            EncryptionKeyArgs(
                site=args.site,
                purpose="alarms",
                policy=[delegated_to_iam(args.site), used_by_alarms(args.site), used_by_budgets(args.site)],
            ),
            opts=ResourceOptions(parent=self),
        )
        topic = aws.sns.Topic(f"{name}-alarms", kms_master_key_id=key.arn, opts=ResourceOptions(parent=self))
        aws.sns.TopicPolicy(
            f"{name}-alarms-policy",
            arn=topic.arn,
            policy=document(topic_statements(args.site, topic.arn)),
            opts=ResourceOptions(parent=self),
        )
        for email in args.settings.alerts.emails:
            aws.sns.TopicSubscription(
                f"{name}-{email}",
                topic=topic.arn,
                protocol="email",
                endpoint=email,
                opts=ResourceOptions(parent=self),
            )
        return topic.arn


def topic_statements(site: Site, topic_arn: pulumi.Input[str]) -> list[Statement]:
    """CloudWatch's alarms and the budgets of this account may publish, and nobody without TLS."""
    return [
        Statement(
            sid="Alarms",
            actions=["sns:Publish"],
            resources=[topic_arn],
            principals={"Service": "cloudwatch.amazonaws.com"},
            conditions=same_account(site.account_id),
        ),
        Statement(
            sid="Budgets",
            actions=["sns:Publish"],
            resources=[topic_arn],
            principals={"Service": "budgets.amazonaws.com"},
            conditions=same_account(site.account_id),
        ),
        Statement(
            sid="DenyPlainHttp",
            effect="Deny",
            actions=["sns:Publish"],
            resources=[topic_arn],
            principals=ANYONE,
            conditions={"Bool": {"aws:SecureTransport": "false"}},
        ),
    ]
