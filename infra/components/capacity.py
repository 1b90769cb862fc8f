"""Where AWS has no instance for the fleet: each such event is kept, and an alarm tells of it."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.logs import Logs
from infra.iam import Statement, document_text
from infra.site import Site

PERIOD_SECONDS = 300
# What EC2 answers when it has no instance, or none for this account; the event's message begins with the reason.
# https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-capacity.html
REASONS = (
    "InsufficientInstanceCapacity",
    "UnfulfillableCapacity",
    "MaxSpotInstanceCountExceeded",
    "VcpuLimitExceeded",
)


def no_capacity_pattern(group_name: str) -> dict[str, object]:
    """The events that say that an instance could not be launched for want of capacity or quota.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-event-reference.html
    """
    return {
        "source": ["aws.autoscaling"],
        "detail-type": ["EC2 Instance Launch Unsuccessful"],
        "detail": {
            "AutoScalingGroupName": [group_name],
            "StatusMessage": [{"wildcard": f"*{each}*"} for each in REASONS],
        },
    }


def event_statements(*, group_arn: pulumi.Input[str], rule_arn: pulumi.Input[str]) -> list[Statement]:
    """EventBridge may write what this rule matched, to streams that it makes.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-cloudwatchlogs-permissions
    """
    streams = [pulumi.Output.concat(group_arn, ":*")]
    principals = {"Service": ["events.amazonaws.com", "delivery.logs.amazonaws.com"]}
    return [
        Statement(sid="Streams", actions=["logs:CreateLogStream"], resources=streams, principals=principals),
        Statement(
            sid="Events",
            actions=["logs:PutLogEvents"],
            resources=streams,
            principals=principals,
            conditions={"ArnEquals": {"aws:SourceArn": rule_arn}},
        ),
    ]


@dataclass(frozen=True)
class CapacityArgs:
    """The name of the autoscaling group, where its events are kept, and who is told."""

    site: Site
    group_name: str
    logs: Logs
    topic_arn: pulumi.Input[str]


class Capacity(pulumi.ComponentResource):
    """A rule for launches that failed for want of capacity, a log group of them, and an alarm."""

    def __init__(self, name: str, args: CapacityArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Capacity", name, None, opts)
        rule = aws.cloudwatch.EventRule(
            f"{name}-rule",
            description="AWS has no instance for the fleet",
            event_pattern=pulumi.Output.json_dumps(no_capacity_pattern(args.group_name)),
            opts=ResourceOptions(parent=self),
        )
        # EventBridge writes to log groups of this prefix.
        group = args.logs.group(f"{name}-logs", parent=self, physical_name=f"/aws/events/{args.site.name}-capacity")
        policy = aws.cloudwatch.LogResourcePolicy(
            f"{name}-log-policy",
            policy_name=f"{args.site.name}-capacity",
            policy_document=document_text(event_statements(group_arn=group.arn, rule_arn=rule.arn)),
            opts=ResourceOptions(parent=self),
        )
        aws.cloudwatch.EventTarget(
            f"{name}-target",
            rule=rule.name,
            arn=group.arn,
            opts=ResourceOptions(parent=self, depends_on=[policy]),
        )
        aws.cloudwatch.MetricAlarm(
            f"{name}-insufficient",
            alarm_description="AWS has no instance for the fleet. Runbook: read the reason in the log group "
            f"/aws/events/{args.site.name}-capacity; name more instance types or zones, or ask for quota (README, "
            '"When GPUs are not to be had")',
            namespace="AWS/Events",
            metric_name="TriggeredRules",
            dimensions={"RuleName": rule.name},
            statistic="Sum",
            comparison_operator="GreaterThanThreshold",
            threshold=0,
            period=PERIOD_SECONDS,
            evaluation_periods=1,
            treat_missing_data="notBreaching",
            alarm_actions=[args.topic_arn],
            ok_actions=[args.topic_arn],
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({})
