"""Promoting a model: a function that writes the version into a parameter and starts an instance refresh."""

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_through
from infra.components.logs import Logs
from infra.components.promotions import Promotions
from infra.components.python_function import FunctionArgs, python_function
from infra.iam import Statement
from infra.settings import Settings
from infra.site import Site

PERIOD_SECONDS = 300


def rollout_role_name(site: Site) -> str:
    """The name of the function's role."""
    return f"{site.name}-{site.region}-rollout"


def failed_pattern(group_name: str) -> dict[str, object]:
    """The event that says that an instance refresh has failed; AWS sends it on a best-effort basis.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-eventbridge-events.html
    """
    return {
        "source": ["aws.autoscaling"],
        "detail-type": ["EC2 Auto Scaling Instance Refresh Failed"],
        "detail": {"AutoScalingGroupName": [group_name]},
    }


@dataclass(frozen=True)
class RolloutArgs:
    """The group that is refreshed and the alarm that ends that, the promotions, where logs go, and who is told."""

    site: Site
    settings: Settings
    group_name: str
    failing_alarm: pulumi.Input[str]
    promotions: Promotions
    logs: Logs
    topic_arn: pulumi.Input[str]


class Rollout(pulumi.ComponentResource):
    """A function that promotes and rolls back, the rule that has it take a failed promotion back, and an alarm.

    Who may invoke it is IAM's to grant. Outside the VPC, as the authorizer: all it talks to are two AWS services.
    """

    function_name: pulumi.Output[str]

    def __init__(self, name: str, args: RolloutArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Rollout", name, None, opts)
        self._name, self._args = name, args
        function = self._function()
        self._on_failure(function)
        self.function_name = function.name
        self.register_outputs({"function_name": self.function_name})

    def _function(self) -> aws.lambda_.Function:
        name, args, site = self._name, self._args, self._args.site
        key = EncryptionKey(
            f"{name}-key",
            EncryptionKeyArgs(
                site=site,
                purpose="environment of the rollout",
                policy=[administered_by_iam(site), *used_through(site, "lambda", grants=True)],
            ),
            opts=ResourceOptions(parent=self),
        )
        made = python_function(
            name,
            f"{name}-function",
            FunctionArgs(
                site=site,
                description="Promotes and rolls back models",
                handler="rollout",
                role_name=rollout_role_name(site),
                statements=[
                    *self._refresh_statements(),
                    args.promotions.statement(sid="ChangePromotions", actions=["ssm:GetParameter", "ssm:PutParameter"]),
                ],
                variables={
                    "GROUP": args.group_name,
                    "ALARM": args.failing_alarm,
                    "PARAMETER": args.promotions.name,
                    "MODELS": json.dumps({each.name: each.version for each in args.settings.models}),
                },
                key=key,
                logs=args.logs,
            ),
            parent=self,
        )
        return made.function

    def _refresh_statements(self) -> list[Statement]:
        site, args = self._args.site, self._args
        return [
            Statement(
                sid="RefreshGroup",
                actions=["autoscaling:StartInstanceRefresh"],
                resources=[
                    site.arn(
                        service="autoscaling", resource=f"autoScalingGroup:*:autoScalingGroupName/{args.group_name}"
                    )  # the part that AWS makes is not known before the group is
                ],
            ),
            # Auto Scaling asks for it of whoever starts a refresh that an alarm may end.
            Statement(
                sid="LookAtAlarm",
                actions=["cloudwatch:DescribeAlarms"],
                resources=[site.arn(service="cloudwatch", resource=pulumi.Output.concat("alarm:", args.failing_alarm))],
            ),
        ]

    def _on_failure(self, function: aws.lambda_.Function) -> None:
        name = self._name
        rule = aws.cloudwatch.EventRule(
            f"{name}-failed",
            description="An instance refresh has failed",
            event_pattern=json.dumps(failed_pattern(self._args.group_name)),
            opts=ResourceOptions(parent=self),
        )
        permission = aws.lambda_.Permission(
            f"{name}-failed-permission",
            function=function.name,
            action="lambda:InvokeFunction",
            principal="events.amazonaws.com",
            source_arn=rule.arn,
            source_account=self._args.site.account_id,
            opts=ResourceOptions(parent=self),
        )
        aws.cloudwatch.EventTarget(
            f"{name}-failed-target",
            rule=rule.name,
            arn=function.arn,
            opts=ResourceOptions(parent=self, depends_on=[permission]),
        )
        aws.cloudwatch.MetricAlarm(
            f"{name}-failed-alarm",
            alarm_description="An instance refresh has failed. Runbook: what was promoted is taken back by itself; see "
            'with `modelkeep models list`, and read in the servers\' log why they refused (README, "Models")',
            namespace="AWS/Events",
            metric_name="TriggeredRules",
            dimensions={"RuleName": rule.name},
            statistic="Sum",
            comparison_operator="GreaterThanThreshold",
            threshold=0,
            period=PERIOD_SECONDS,
            evaluation_periods=1,
            treat_missing_data="notBreaching",
            alarm_actions=[self._args.topic_arn],
            ok_actions=[self._args.topic_arn],
            opts=ResourceOptions(parent=self),
        )
