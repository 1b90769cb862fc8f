"""Who hears that a consumer comes to the end of a budget: a function at the stream of the budgets table."""

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.budgets import Budgets
from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_through
from infra.components.logs import Logs
from infra.components.observability import Observability
from infra.components.python_function import FunctionArgs, PythonFunction, python_function
from infra.components.usage import BUFFER_SECONDS
from infra.iam import ANYONE, Statement, document_text
from infra.site import Site

# Every request changes a row twice, so many changes go to the function at once; an alert may be half a minute late.
BATCH_RECORDS = 1000
WINDOW_SECONDS = 30
RETRIES = 5
KEPT_SECONDS = 14 * 24 * 3600
PERIOD_SECONDS = 300
# Deletions are the TTL's; a row without limits has no budget to come to the end of.
CHANGES = tuple(
    {"eventName": ["INSERT", "MODIFY"], "dynamodb": {"NewImage": {limit: {"N": [{"exists": True}]}}}}
    for limit in ("limit_day", "limit_month")
)


def alerts_role_name(site: Site) -> str:
    """The name of the function's role."""
    return f"{site.name}-{site.region}-budget-alerts"


def stream_statements(stream_arn: pulumi.Input[str]) -> list[Statement]:
    """Lambda reads a table's stream as the function's role.

    https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-eventsourcemapping.html
    """
    return [
        Statement(
            sid="ReadChanges",
            actions=["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
            resources=[stream_arn],
        ),
        Statement(
            sid="FindStream",
            actions=["dynamodb:ListStreams"],
            resources=["*"],  # it names no resource
        ),
    ]


@dataclass(frozen=True)
class BudgetAlertsArgs:
    """The table whose stream tells of use, the stream of usage records, where logs go, and who is told."""

    site: Site
    budgets: Budgets
    usage_stream: pulumi.Input[str]
    logs: Logs
    observability: Observability


class BudgetAlerts(pulumi.ComponentResource):
    """A function that tells the topic of 80 % and 100 %, a queue of what it could not take, and alarms.

    Outside the VPC, as the other functions: all it talks to is SNS.
    """

    def __init__(self, name: str, args: BudgetAlertsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:BudgetAlerts", name, None, opts)
        self._name, self._args = name, args
        self._key = EncryptionKey(
            f"{name}-key",
            EncryptionKeyArgs(
                site=args.site,
                purpose="environment and dead letters of the budgets' alerts",
                policy=[
                    administered_by_iam(args.site),
                    *used_through(args.site, "lambda", grants=True),
                    *used_through(args.site, "sqs"),
                ],
            ),
            opts=ResourceOptions(parent=self),
        )
        queue = self._queue()
        self._mapping(self._function(queue), queue)
        self._alarms(queue)
        self.register_outputs({})

    def _queue(self) -> aws.sqs.Queue:
        name = self._name
        queue = aws.sqs.Queue(
            f"{name}-failed",
            kms_master_key_id=self._key.arn,
            message_retention_seconds=KEPT_SECONDS,
            opts=ResourceOptions(parent=self),
        )
        denial = Statement(
            sid="DenyPlainHttp",
            effect="Deny",
            actions=["sqs:*"],
            resources=[queue.arn],
            principals=ANYONE,
            conditions={"Bool": {"aws:SecureTransport": "false"}},
        )
        aws.sqs.QueuePolicy(
            f"{name}-failed-policy",
            queue_url=queue.id,
            policy=document_text([denial]),
            opts=ResourceOptions(parent=self),
        )
        return queue

    def _function(self, queue: aws.sqs.Queue) -> PythonFunction:
        name, args, site = self._name, self._args, self._args.site
        return python_function(
            name,
            f"{name}-function",
            FunctionArgs(
                site=site,
                description="Tells of consumers that come to the end of a token budget",
                handler="budget_alerts",
                role_name=alerts_role_name(site),
                statements=[
                    *stream_statements(args.budgets.stream_arn),
                    args.budgets.table_key.decrypt_statement(sid="DecryptChanges", via="dynamodb"),
                    *args.observability.publish_statements(),
                    Statement(sid="KeepFailed", actions=["sqs:SendMessage"], resources=[queue.arn]),
                    self._key.encrypt_statement(sid="EncryptFailed", via="sqs"),
                ],
                variables={"TOPIC_ARN": args.observability.topic_arn, "STACK": site.stack},
                key=self._key,
                logs=args.logs,
            ),
            parent=self,
        )

    def _mapping(self, made: PythonFunction, queue: aws.sqs.Queue) -> None:
        aws.lambda_.EventSourceMapping(
            f"{self._name}-changes",
            function_name=made.function.name,
            event_source_arn=self._args.budgets.stream_arn,
            starting_position="LATEST",
            batch_size=BATCH_RECORDS,
            maximum_batching_window_in_seconds=WINDOW_SECONDS,
            maximum_retry_attempts=RETRIES,
            # A change that the function fails on is found by halves, and holds no other consumer's alert up.
            bisect_batch_on_function_error=True,
            function_response_types=["ReportBatchItemFailures"],
            filter_criteria={"filters": [{"pattern": json.dumps(each)} for each in CHANGES]},
            destination_config={"on_failure": {"destination_arn": queue.arn}},
            # Lambda tries the role when the mapping is made.
            opts=ResourceOptions(parent=self, depends_on=[made.policy]),
        )

    def _alarms(self, queue: aws.sqs.Queue) -> None:
        args = self._args
        self._alarm(
            "failed-alarm",
            description="Changes of budgets could not be told of. Runbook: read the function's log, mend the cause; "
            "the queue has which changes they were, and each consumer's use stands in `modelkeep keys usage`",
            namespace="AWS/SQS",
            metric="ApproximateNumberOfMessagesVisible",
            dimensions={"QueueName": queue.name},
            above=0,
        )
        self._alarm(
            "usage-late-alarm",
            description="Usage records wait to be stored. Runbook: the log group of the usage stream says why; "
            "Firehose tries for 24 hours, and what cannot be converted lies below usage-errors/ in the results bucket",
            namespace="AWS/Firehose",
            metric="DeliveryToS3.DataFreshness",
            dimensions={"DeliveryStreamName": args.usage_stream},
            above=3 * BUFFER_SECONDS,
        )
        self._alarm(
            "usage-lost-alarm",
            description="Usage records are not what the table says. Runbook: they lie as they came below usage-errors/ "
            "in the results bucket; compare infra/usage_schema.py with model_image/usage.py of the servers that run",
            namespace="AWS/Firehose",
            metric="FailedConversion.Records",
            dimensions={"DeliveryStreamName": args.usage_stream},
            above=0,
        )

    def _alarm(
        self,
        name: str,
        *,
        description: str,
        namespace: str,
        metric: str,
        dimensions: dict[str, pulumi.Input[str]],
        above: int,
    ) -> None:
        topic_arn = self._args.observability.topic_arn
        aws.cloudwatch.MetricAlarm(
            f"{self._name}-{name}",
            alarm_description=description,
            namespace=namespace,
            metric_name=metric,
            dimensions=dimensions,
            statistic="Maximum",
            comparison_operator="GreaterThanThreshold",
            threshold=above,
            period=PERIOD_SECONDS,
            evaluation_periods=1,
            treat_missing_data="notBreaching",
            alarm_actions=[topic_arn],
            ok_actions=[topic_arn],
            opts=ResourceOptions(parent=self),
        )
