"""What starts a training job: a function that is called when a configuration lands in the data bucket."""

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.bucket import PrivateBucket
from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_through
from infra.components.logs import Logs
from infra.components.python_function import FunctionArgs, python_function
from infra.components.training_job import PREFIX, TrainingJob
from infra.iam import Statement
from infra.settings import Settings
from infra.site import Site
from infra.training_container import EVERY_NODE, resource_requirements

SUFFIX = ".yaml"
PERIOD_SECONDS = 300


def start_role_name(site: Site) -> str:
    """The name of the function's role."""
    return f"{site.name}-{site.region}-training-start"


@dataclass(frozen=True)
class TrainingStartArgs:
    """Where configurations land, what is started then and in which queue, where logs go, and who hears of a failure."""

    site: Site
    settings: Settings
    data: PrivateBucket
    job: TrainingJob
    queue_arn: pulumi.Input[str]
    on_demand_queue_arn: pulumi.Input[str]
    logs: Logs
    topic_arn: pulumi.Input[str]


class TrainingStart(pulumi.ComponentResource):
    """The function, its call by the bucket, and an alarm. Outside the VPC: it talks to three AWS services alone."""

    function_name: pulumi.Output[str]

    def __init__(self, name: str, args: TrainingStartArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:TrainingStart", name, None, opts)
        self._name, self._args = name, args
        function = self._function()
        self._on_upload(function)
        self._alarm(function)
        self.function_name = function.name
        self.register_outputs({"function_name": self.function_name})

    def _function(self) -> aws.lambda_.Function:
        name, args, site = self._name, self._args, self._args.site
        key = EncryptionKey(
            f"{name}-key",
            EncryptionKeyArgs(
                site=site,
                purpose="environment of the start of training",
                policy=[administered_by_iam(site), *used_through(site, "lambda", grants=True)],
            ),
            opts=ResourceOptions(parent=self),
        )
        made = python_function(
            name,
            f"{name}-function",
            FunctionArgs(
                site=site,
                description="Starts a training job when its configuration lands",
                handler="training",
                role_name=start_role_name(site),
                statements=[*args.data.read_statements([PREFIX]), *self._batch_statements()],
                variables=self._variables(),
                key=key,
                logs=args.logs,
            ),
            parent=self,
        )
        return made.function

    def _variables(self) -> dict[str, pulumi.Input[str]]:
        args, training = self._args, self._args.settings.training
        machines = [
            {"gpus": each.gpus, "vcpus": each.vcpus, "requirements": resource_requirements(each)}
            for each in training.shapes
        ]
        return {
            "QUEUE": args.queue_arn,
            "DEFINITION": args.job.single.arn,
            "MULTI_NODE_QUEUE": args.on_demand_queue_arn,
            "MULTI_NODE_DEFINITION": args.job.multi_node.arn,
            "EVERY_NODE": EVERY_NODE,
            "MACHINES": json.dumps(machines),
            "MAX_VCPUS": str(training.max_vcpus),
        }

    def _batch_statements(self) -> list[Statement]:
        args, site = self._args, self._args.site
        return [
            Statement(
                sid="SubmitJobs",
                actions=["batch:SubmitJob"],
                resources=[
                    args.queue_arn,
                    *([args.on_demand_queue_arn] if args.settings.training.spot else []),
                    args.job.single.arn,
                    args.job.multi_node.arn,
                ],
            ),
            Statement(
                sid="TagJobs", actions=["batch:TagResource"], resources=[site.arn(service="batch", resource="job/*")]
            ),
            Statement(
                sid="LookAtJobs",
                actions=["batch:ListJobs", "batch:DescribeJobs"],
                resources=["*"],  # they know no resource
            ),
        ]

    def _on_upload(self, function: aws.lambda_.Function) -> None:
        name, args = self._name, self._args
        permission = aws.lambda_.Permission(
            f"{name}-permission",
            function=function.name,
            action="lambda:InvokeFunction",
            principal="s3.amazonaws.com",
            source_arn=args.data.arn,
            source_account=args.site.account_id,
            opts=ResourceOptions(parent=self),
        )
        aws.s3.BucketNotification(
            f"{name}-notification",
            bucket=args.data.id,
            lambda_functions=[
                {
                    "id": "training",
                    "lambda_function_arn": function.arn,
                    "events": ["s3:ObjectCreated:*"],
                    "filter_prefix": PREFIX,
                    "filter_suffix": SUFFIX,
                }
            ],
            opts=ResourceOptions(parent=self, depends_on=[permission]),
        )

    def _alarm(self, function: aws.lambda_.Function) -> None:
        aws.cloudwatch.MetricAlarm(
            f"{self._name}-failed",
            alarm_description="A training job could not be started. RUNBOOK: read why in the function's log, correct "
            'the configuration and upload it again (README, "Training in AWS")',
            namespace="AWS/Lambda",
            metric_name="Errors",
            dimensions={"FunctionName": function.name},
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
