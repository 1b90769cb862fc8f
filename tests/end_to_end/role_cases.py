"""Every role of the stack: what it does with its own credentials, and what must be denied to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.end_to_end import role_calls as calls
from tests.end_to_end.account import ACCOUNT_ID, REGION, Deployed
from tests.end_to_end.role_calls import Call

Where = Callable[[Deployed], str]


@dataclass(frozen=True)
class Question:
    """An action that is evaluated and not made, with the ARN and the condition keys that AWS evaluates it with."""

    action: str
    resource: Where
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RoleCase:
    """`job` and `forbidden` are called with the role's credentials; `may` and `may_not` are only evaluated.

    `not_made` has the Sid of a statement, or an action, that no call here can show to be needed, and why; each of its
    actions is in `may`. `of_aws` says why a role has no case at all.
    """

    trusts: str  # the one service that may take the role on
    job: Mapping[str, Call] = field(default_factory=dict)
    forbidden: Mapping[str, Call] = field(default_factory=dict)
    may: tuple[Question, ...] = ()
    may_not: tuple[Question, ...] = ()
    not_made: Mapping[str, str] = field(default_factory=dict)
    of_aws: str = ""


def at(service: str, resource: str) -> Where:
    return lambda _: f"arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{resource}"


def anything(_: Deployed) -> str:
    return "*"


def stream_of(start: str) -> Where:
    """Any stream of the log group whose name starts like this."""
    return lambda on: f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:{on.log_group(start)}:log-stream:any"


def function(start: str) -> Where:
    return lambda on: str(on.function(start)["FunctionArn"])


def environment_key(start: str) -> Where:
    """The key that the variables of the function whose name starts like this are encrypted under."""
    return lambda on: str(on.function(start)["KMSKeyArn"])


def own_group(on: Deployed) -> str:
    return at("autoscaling", f"autoScalingGroup:1:autoScalingGroupName/{on.output('autoscaling_group')}")(on)


def failing_alarm(on: Deployed) -> str:
    return at("cloudwatch", f"alarm:{on.function('rollout-function')['Environment']['Variables']['ALARM']}")(on)


def results_bucket(path: str = "") -> Where:
    return lambda on: f"arn:aws:s3:::{on.output('results_bucket')}{path}"


def results_key(on: Deployed) -> str:
    return on.bucket_key(on.output("results_bucket"))


def usage_table(on: Deployed) -> str:
    return at("glue", f"table/{on.output('usage_table').replace('.', '/')}")(on)


def delivery_log(on: Deployed) -> str:
    """The one stream of its log group that Firehose writes to."""
    return stream_of("usage-logs")(on).rpartition(":")[0] + ":delivery"


def budgets_stream(on: Deployed) -> str:
    return on.budgets_stream


def budgets_key(on: Deployed) -> str:
    table = on.account.root("dynamodb").describe_table(TableName=on.output("budgets_table"))["Table"]
    return str(table["SSEDescription"]["KMSMasterKeyArn"])


def topic_key(on: Deployed) -> str:
    attributes = on.account.root("sns").get_topic_attributes(TopicArn=on.alarms_topic)["Attributes"]
    return str(attributes["KmsMasterKeyId"])


def via(service: str) -> dict[str, str]:
    return {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"}


VIA_LAMBDA, VIA_DYNAMODB, VIA_S3, VIA_SNS, VIA_SQS = (via(each) for each in ("lambda", "dynamodb", "s3", "sns", "sqs"))
READ_STREAM = ("DescribeStream", "GetRecords", "GetShardIterator")
ANY_STREAM = at("logs", "log-group:of-somebody-else:log-stream:any")
OTHER_GROUP = at("autoscaling", "autoScalingGroup:1:autoScalingGroupName/of-somebody-else")

EVERYBODYS: Mapping[str, Call] = {
    "read the training data": calls.steal_data,
    "read all consumers": calls.scan_consumers,
    "make itself a token": calls.mint_token,
    "delete a token": calls.delete_token,
    "list the models": calls.list_models,
    "replace a model": calls.put_model,
    "decrypt with the models' key": calls.decrypt_with_models_key,
    "read another secret": calls.read_other_secret,
    "sign a model": calls.sign_model,
    "read a parameter": calls.read_parameter,
    "write to another log group": calls.write_to_other_group,
    "read another log group": calls.read_other_group,
    "run instances": calls.run_instances,
    "run code with the authorizer's role": calls.make_function,
}
FUNCTIONS_NOT_MADE = {
    "WriteTraces": "no emulator takes traces",
    "DecryptEnvironment": "ministack does not encrypt a function's variables",
}


def functions_may(name: str) -> tuple[Question, ...]:
    """What Lambda does for a function as its role."""
    return (
        Question("xray:PutTraceSegments", anything),
        Question("xray:PutTelemetryRecords", anything),
        Question("kms:Decrypt", environment_key(name), VIA_LAMBDA),
    )


def functions_may_not(name: str) -> tuple[Question, ...]:
    return (
        Question("kms:Decrypt", environment_key(name)),
        Question("kms:Decrypt", at("kms", "key/of-somebody-else"), VIA_LAMBDA),
        Question("xray:GetTraceSummaries", anything),
    )


# By the role's name, without what is the same or random in every name.
CASES: Mapping[str, RoleCase] = {
    "instance": RoleCase(
        trusts="ec2.amazonaws.com",
        job={
            "read its models": calls.read_models,
            "read which versions were promoted": calls.read_promotions,
            "keep a budget": calls.keep_budget,
            "send a usage record": calls.send_usage,
            "write its logs": calls.writing_to("fleet-instance-logs"),
            "pull its image": calls.pull_image,
            "tell the group that it is ready": calls.complete_launch,
        },
        forbidden={
            **EVERYBODYS,
            "decrypt a consumer's key": calls.decrypt_consumers_key,
            "read the canary's token": calls.read_canarys_token,
            "delete a model": calls.delete_model,
            "promote a model": calls.change_promotions,
            "forget a budget": calls.forget_budget,
            "forge a usage record": calls.forge_usage,
            "read what is no model of the settings": calls.read_other_object,
            "push an image": calls.push_image,
            "delete its logs": calls.deleting_logs("fleet-instance-logs"),
            "change the size of the fleet": calls.grow_fleet,
            "take on the authorizer's role": calls.assuming("authorizer"),
            "widen its own policy": calls.widening("instance"),
        },
        may=(Question("autoscaling:SetInstanceHealth", own_group),),
        may_not=(
            Question("autoscaling:SetInstanceHealth", OTHER_GROUP),
            Question("autoscaling:CompleteLifecycleAction", OTHER_GROUP),
        ),
        not_made={"autoscaling:SetInstanceHealth": "ministack has no such operation"},
    ),
    "authorizer": RoleCase(
        trusts="lambda.amazonaws.com",
        job={
            "look a consumer up, and note that its token was used": calls.look_up_consumer,
            "write its logs": calls.writing_to("functions-authorizer-logs"),
        },
        forbidden={
            **EVERYBODYS,
            "change a consumer": calls.change_consumer,
            "change a token": calls.change_token,
            "read a token by writing it": calls.read_token_by_writing,
            "encrypt for a consumer": calls.encrypt_consumers_key,
            "read the canary's token": calls.read_canarys_token,
            "read a model": calls.read_other_object,
            "delete its logs": calls.deleting_logs("functions-authorizer-logs"),
            "take on the instances' role": calls.assuming("instance"),
            "widen its own policy": calls.widening("authorizer"),
        },
        may=functions_may("functions-authorizer"),
        may_not=functions_may_not("functions-authorizer"),
        not_made=FUNCTIONS_NOT_MADE,
    ),
    "canary": RoleCase(
        trusts="lambda.amazonaws.com",
        job={"read its token": calls.read_canarys_token, "write its logs": calls.writing_to("canary-logs")},
        forbidden={
            **EVERYBODYS,
            "change its token": calls.change_canarys_token,
            "decrypt a consumer's key": calls.decrypt_consumers_key,
            "read a model": calls.read_other_object,
            "delete its logs": calls.deleting_logs("canary-logs"),
            "take on the authorizer's role": calls.assuming("authorizer"),
            "widen its own policy": calls.widening("canary"),
        },
        may=functions_may("canary-function"),
        may_not=functions_may_not("canary-function"),
        not_made=FUNCTIONS_NOT_MADE,
    ),
    "rollout": RoleCase(
        trusts="lambda.amazonaws.com",
        job={
            "read the promotions": calls.read_promotions,
            "change the promotions": calls.change_promotions,
            "write its logs": calls.writing_to("rollout-logs"),
        },
        forbidden={
            **EVERYBODYS,
            "change another parameter": calls.change_other_parameter,
            "read the canary's token": calls.read_canarys_token,
            "change the size of the fleet": calls.grow_fleet,
            "read a model": calls.read_other_object,
            "delete its logs": calls.deleting_logs("rollout-logs"),
            "take on the instances' role": calls.assuming("instance"),
            "widen its own policy": calls.widening("rollout"),
        },
        may=(
            *functions_may("rollout-function"),
            Question("autoscaling:StartInstanceRefresh", own_group),
            Question("cloudwatch:DescribeAlarms", failing_alarm),
        ),
        may_not=(
            *functions_may_not("rollout-function"),
            Question("autoscaling:StartInstanceRefresh", OTHER_GROUP),
            Question("autoscaling:UpdateAutoScalingGroup", own_group),
            Question("cloudwatch:DescribeAlarms", at("cloudwatch", "alarm:of-somebody-else")),
        ),
        not_made={
            **FUNCTIONS_NOT_MADE,
            "RefreshGroup": "ministack has no such operation",
            "LookAtAlarm": "Auto Scaling asks for it of whoever starts the refresh",
        },
    ),
    "budget-alerts": RoleCase(
        trusts="lambda.amazonaws.com",
        job={
            "find the stream of budgets": calls.find_budgets_stream,
            "tell the topic": calls.tell_topic,
            "keep what failed": calls.keep_failed_change,
            "write its logs": calls.writing_to("budget-alerts-logs"),
        },
        forbidden={
            **EVERYBODYS,
            "read a budget": calls.read_budget,
            "forget a budget": calls.forget_budget,
            "forge a usage record": calls.forge_usage,
            "tell another topic": calls.tell_other_topic,
            "take what failed": calls.take_failed_change,
            "read the canary's token": calls.read_canarys_token,
            "delete its logs": calls.deleting_logs("budget-alerts-logs"),
            "take on the instances' role": calls.assuming("instance"),
            "widen its own policy": calls.widening("budget-alerts"),
        },
        may=(
            *functions_may("budget-alerts-function"),
            *(Question(f"dynamodb:{each}", budgets_stream) for each in READ_STREAM),
            Question("kms:Decrypt", budgets_key, VIA_DYNAMODB),
            Question("kms:Decrypt", topic_key, VIA_SNS),
            Question("kms:GenerateDataKey", topic_key, VIA_SNS),
            Question("kms:Decrypt", environment_key("budget-alerts-function"), VIA_SQS),
            Question("kms:GenerateDataKey", environment_key("budget-alerts-function"), VIA_SQS),
        ),
        may_not=(
            *functions_may_not("budget-alerts-function"),
            Question("dynamodb:GetRecords", at("dynamodb", "table/of-somebody-else/stream/any")),
            Question("kms:Decrypt", budgets_key),
            Question("kms:Decrypt", topic_key),
        ),
        not_made={
            **FUNCTIONS_NOT_MADE,
            "ReadChanges": "ministack does not name the stream where it evaluates a call that reads it",
            "DecryptChanges": "ministack asks for a table's key at its items alone",
            "EncryptMessages": "ministack does not encrypt a topic's messages",
            "EncryptFailed": "ministack does not encrypt a queue's messages",
        },
    ),
    "usage-role": RoleCase(
        trusts="firehose.amazonaws.com",
        may=(
            *(Question(f"glue:{each}", usage_table) for each in ("GetTable", "GetTableVersion", "GetTableVersions")),
            Question("s3:GetBucketLocation", results_bucket()),
            Question("s3:ListBucket", results_bucket()),
            Question("s3:ListBucketMultipartUploads", results_bucket()),
            Question("s3:PutObject", results_bucket("/usage/day=2026-11-24/any")),
            Question("s3:AbortMultipartUpload", results_bucket("/usage-errors/any")),
            Question("s3:GetObject", results_bucket("/usage/day=2026-11-24/any")),
            Question("kms:GenerateDataKey", results_key, VIA_S3),
            Question("kms:Decrypt", results_key, VIA_S3),
            Question("logs:PutLogEvents", delivery_log),
        ),
        may_not=(
            Question("s3:PutObject", results_bucket("/training/any")),
            Question("s3:GetObject", results_bucket("/training/any")),
            Question("s3:DeleteObject", results_bucket("/usage/any")),
            Question("s3:PutObject", lambda on: f"arn:aws:s3:::{on.output('model_bucket')}/usage/any"),
            Question("glue:UpdateTable", usage_table),
            Question("glue:GetTable", at("glue", "table/somebody/elses")),
            Question("kms:Decrypt", results_key),
            Question("logs:PutLogEvents", ANY_STREAM),
        ),
        not_made=dict.fromkeys(
            ("ReadSchema", "FindBucket", "WriteObjects", "EncryptObjects", "LookAtStored", "WriteLogs"),
            "ministack's Firehose takes on no role",
        ),
    ),
    "canary-schedule-role": RoleCase(
        trusts="scheduler.amazonaws.com",
        may=(Question("lambda:InvokeFunction", function("canary-function")),),
        may_not=(
            Question("lambda:InvokeFunction", function("functions-authorizer")),
            Question("lambda:UpdateFunctionCode", function("canary-function")),
            Question("secretsmanager:GetSecretValue", lambda on: on.output("canary_secret")),
            Question("iam:PassRole", lambda on: on.account.roles()["canary"]),
            Question("s3:GetObject", lambda on: f"arn:aws:s3:::{on.output('model_bucket')}/planted"),
        ),
        not_made={"Invoke": "no schedule runs in the local stack"},
    ),
    "network-flow-logs-role": RoleCase(
        trusts="vpc-flow-logs.amazonaws.com",
        may=(
            Question("logs:CreateLogStream", stream_of("network-flow-logs")),
            Question("logs:PutLogEvents", stream_of("network-flow-logs")),
            Question("logs:DescribeLogGroups", at("logs", "log-group::log-stream:")),
            Question("logs:DescribeLogStreams", stream_of("network-flow-logs")),
        ),
        may_not=(
            Question("logs:PutLogEvents", ANY_STREAM),
            Question("logs:CreateLogGroup", ANY_STREAM),
            Question("logs:GetLogEvents", stream_of("network-flow-logs")),
            Question("logs:DeleteLogStream", stream_of("network-flow-logs")),
            Question("logs:PutRetentionPolicy", stream_of("network-flow-logs")),
        ),
        not_made={"WriteLogs": "no flow logs are written here", "FindLogGroup": "no flow logs are written here"},
    ),
    "gateway-stage-log-role": RoleCase(
        trusts="apigateway.amazonaws.com",
        may=(Question("logs:PutLogEvents", ANY_STREAM),),
        may_not=(  # AWS takes no narrower policy for API Gateway's log role than its own, which reaches every log group
            Question("logs:DeleteLogGroup", ANY_STREAM),
            Question("logs:DeleteLogStream", ANY_STREAM),
            Question("logs:PutRetentionPolicy", ANY_STREAM),
            Question("s3:GetObject", lambda on: f"arn:aws:s3:::{on.output('model_bucket')}/planted"),
            Question("dynamodb:GetItem", lambda on: at("dynamodb", f"table/{on.output('tokens_table')}")(on)),
        ),
    ),
    "AWSServiceRoleForAutoscaling": RoleCase(
        trusts="autoscaling.amazonaws.com",
        of_aws="a service-linked role: its policy is AWS's own and cannot be changed",
    ),
}
