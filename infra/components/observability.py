"""Alarms, who hears of them, and the dashboard."""

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.alarms import Alarm, alarms
from infra.components.dashboard import dashboard
from infra.components.keys import (
    EncryptionKey,
    EncryptionKeyArgs,
    administered_by_iam,
    used_by_alarms,
    used_by_budgets,
    used_by_events,
    used_through,
)
from infra.components.watched import LOG_METRICS, ObservabilityArgs, log_namespace
from infra.iam import ANYONE, Statement, document, same_account
from infra.site import Site


class Observability(pulumi.ComponentResource):
    """An encrypted topic, the alarms that publish to it, and one dashboard."""

    dashboard_url: pulumi.Output[str]
    topic_arn: pulumi.Output[str]

    def __init__(self, name: str, args: ObservabilityArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Observability", name, None, opts)
        self.topic_arn = self._topic(name, args)
        self._count_log_lines(name, args)
        for alarm_name, alarm in alarms(args).items():
            self._alarm(f"{name}-{alarm_name}", alarm)
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

    def publish_statements(self) -> list[Statement]:
        """A grant to tell the topic something, under its key."""
        return [
            Statement(sid="Publish", actions=["sns:Publish"], resources=[self.topic_arn]),
            self._key.encrypt_statement(sid="EncryptMessages", via="sns"),
        ]

    def _alarm(self, name: str, alarm: Alarm) -> None:
        extended = alarm.metric.statistic.startswith("p")
        aws.cloudwatch.MetricAlarm(
            name,
            alarm_description=alarm.description,
            namespace=alarm.metric.namespace,
            metric_name=alarm.metric.name,
            dimensions=alarm.metric.dimensions,
            statistic=None if extended else alarm.metric.statistic,
            extended_statistic=alarm.metric.statistic if extended else None,
            comparison_operator=alarm.comparison,
            threshold=alarm.threshold,
            period=alarm.period_seconds,
            evaluation_periods=alarm.periods,
            datapoints_to_alarm=alarm.periods,
            treat_missing_data=alarm.missing,
            alarm_actions=[self.topic_arn],
            ok_actions=[self.topic_arn],
            opts=ResourceOptions(parent=self),
        )

    def _count_log_lines(self, name: str, args: ObservabilityArgs) -> None:
        for short, counted in LOG_METRICS.items():
            aws.cloudwatch.LogMetricFilter(
                f"{name}-{short}-count",
                log_group_name=args.gateway.access_log.name,
                pattern=counted.pattern,
                metric_transformation={
                    "namespace": log_namespace(args.site),
                    "name": counted.name,
                    "value": counted.value,
                    "unit": counted.unit,
                    "dimensions": counted.dimensions or None,
                },
                opts=ResourceOptions(parent=self),
            )

    def _topic(self, name: str, args: ObservabilityArgs) -> pulumi.Output[str]:
        self._key = EncryptionKey(
            f"{name}-alarms-key",
            EncryptionKeyArgs(
                site=args.site,
                purpose="alarms",
                policy=[
                    administered_by_iam(args.site),
                    used_by_alarms(args.site),
                    used_by_budgets(args.site),
                    used_by_events(args.site),
                    *used_through(args.site, "sns"),
                ],
            ),
            opts=ResourceOptions(parent=self),
        )
        topic = aws.sns.Topic(f"{name}-alarms", kms_master_key_id=self._key.arn, opts=ResourceOptions(parent=self))
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
    """CloudWatch's alarms, the budgets and the event rules of this account may publish, and nobody without TLS."""
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
            sid="Events",
            actions=["sns:Publish"],
            resources=[topic_arn],
            principals={"Service": "events.amazonaws.com"},
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
