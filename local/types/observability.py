"""Logs, metrics, alarms, dashboards, topics and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.types.documents import document
from local.types.spec import Autoname, Follow, Inputs, Made, TypeSpec, known, text

TOPIC_ATTRIBUTES = {
    "kmsMasterKeyId": "KmsMasterKeyId",
    "policy": "Policy",
    "displayName": "DisplayName",
    "deliveryPolicy": "DeliveryPolicy",
    "fifoTopic": "FifoTopic",
    "signatureVersion": "SignatureVersion",
    "tracingConfig": "TracingConfig",
}


def retention(made: Made) -> None:
    days = made.inputs["retentionInDays"]
    if days:  # 0 means for ever, which is what a new group has
        made.call("logs", "PutRetentionPolicy", logGroupName=made.id, retentionInDays=days)


def _alarm(inputs: Inputs) -> Inputs:
    queries = inputs.get("metricQueries")
    if not isinstance(queries, list):
        return inputs
    rest = {key: value for key, value in inputs.items() if key != "metricQueries"}
    return {**rest, "metrics": [_query(query) for query in queries]}


def _query(query: Any) -> Any:
    if not known(query) or "metric" not in query:
        return query
    metric = query["metric"]
    rest = {key: value for key, value in query.items() if key != "metric"}
    named = {key: metric[key] for key in ("metricName", "namespace", "dimensions") if key in metric}
    statistic = {key: value for key, value in metric.items() if key not in named}
    return {**rest, "metricStat": {"metric": named, **statistic}}


def _metric_filter(inputs: Inputs) -> Inputs:
    """One transformation with Pulumi, a list of one with the API."""
    return {**inputs, "metricTransformation": [inputs["metricTransformation"]]}


def _topic(inputs: Inputs) -> Inputs:
    rest = {key: value for key, value in inputs.items() if key not in TOPIC_ATTRIBUTES}
    found = {key: inputs[name] for name, key in TOPIC_ATTRIBUTES.items() if name in inputs}
    return {
        **rest,
        "attributes": {key: text(document(value)) if known(value) else value for key, value in found.items()},
    }


def _subscription(inputs: Inputs) -> Inputs:
    names = {
        "rawMessageDelivery": "RawMessageDelivery",
        "filterPolicy": "FilterPolicy",
        "redrivePolicy": "RedrivePolicy",
    }
    steering = ("endpointAutoConfirms", "confirmationTimeoutInMinutes")
    rest = {key: value for key, value in inputs.items() if key not in names and key not in steering}
    found = {key: text(inputs[name]) for name, key in names.items() if name in inputs}
    return {**rest, "returnSubscriptionArn": True, **({"attributes": found} if found else {})}


def _topic_policy(inputs: Inputs) -> Inputs:
    return {"topicArn": inputs["arn"], "attributeName": "Policy", "attributeValue": document(inputs["policy"])}


def _target(inputs: Inputs) -> Inputs:
    """A target of Pulumi's is one of several that the API takes at once."""
    outside = ("rule", "eventBusName", "targetId")
    target = {name: value for name, value in inputs.items() if name not in outside}
    return {
        **{name: inputs[name] for name in ("rule", "eventBusName") if name in inputs},
        "targets": [{**target, "id": inputs["targetId"]}],
    }


def _log_group_outputs(made: Made) -> Mapping[str, Any]:
    return {"arn": made.arn("logs", f"log-group:{made.id}"), "name": made.id}


TYPES: dict[str, TypeSpec] = {
    "aws:cloudwatch/logGroup:LogGroup": TypeSpec(
        service="logs",
        operation="CreateLogGroup",
        id="{name}",
        rename={"name": "logGroupName"},
        steering=frozenset({"skipDestroy"}),
        autoname=Autoname("name", limit=512),
        follow=(Follow(("retentionInDays",), retention),),
        derive=_log_group_outputs,
    ),
    "aws:cloudwatch/logStream:LogStream": TypeSpec(
        service="logs",
        operation="CreateLogStream",
        id="{name}",
        rename={"name": "logStreamName"},
        autoname=Autoname("name", limit=512),
        derive=lambda made: {
            "arn": made.arn("logs", f"log-group:{made.inputs['logGroupName']}:log-stream:{made.id}"),
        },
    ),
    "aws:cloudwatch/logResourcePolicy:LogResourcePolicy": TypeSpec(
        service="logs", operation="PutResourcePolicy", id="{policyName}", convert={"policyDocument": document}
    ),
    "aws:cloudwatch/logMetricFilter:LogMetricFilter": TypeSpec(
        service="logs",
        operation="PutMetricFilter",
        id="{name}",
        reshape=_metric_filter,
        rename={
            "name": "filterName",
            "pattern": "filterPattern",
            "metricTransformation": "metricTransformations",
            "metricTransformation.name": "metricName",
            "metricTransformation.namespace": "metricNamespace",
            "metricTransformation.value": "metricValue",
        },
        autoname=Autoname("name", limit=512),
    ),
    "aws:cloudwatch/eventRule:EventRule": TypeSpec(
        service="events",
        operation="PutRule",
        id="{name}",
        autoname=Autoname("name", limit=64),
        outputs={"arn": "RuleArn"},
    ),
    "aws:cloudwatch/eventTarget:EventTarget": TypeSpec(
        service="events",
        operation="PutTargets",
        id="{rule}-{targetId}",
        rename={
            "targets.inputPath": "InputPath",
            "targets.deadLetterConfig": "DeadLetterConfig",
            "targets.inputTransformer": "InputTransformer",
            "targets.inputTransformer.inputPaths": "InputPathsMap",
        },
        reshape=_target,
        autoname=Autoname("targetId", limit=64),
    ),
    "aws:cloudwatch/metricAlarm:MetricAlarm": TypeSpec(
        service="cloudwatch",
        operation="PutMetricAlarm",
        id="{name}",
        rename={"name": "AlarmName", "evaluateLowSampleCountPercentiles": "EvaluateLowSampleCountPercentile"},
        reshape=_alarm,
        autoname=Autoname("name"),
        derive=lambda made: {"arn": made.arn("cloudwatch", f"alarm:{made.id}")},
    ),
    "aws:cloudwatch/compositeAlarm:CompositeAlarm": TypeSpec(
        service="cloudwatch",
        operation="PutCompositeAlarm",
        id="{alarmName}",
        derive=lambda made: {"arn": made.arn("cloudwatch", f"alarm:{made.id}")},
    ),
    "aws:cloudwatch/dashboard:Dashboard": TypeSpec(
        service="cloudwatch",
        operation="PutDashboard",
        id="{dashboardName}",
        convert={"dashboardBody": document},
        derive=lambda made: {"dashboardArn": made.arn("cloudwatch", f"dashboard/{made.id}", region=False)},
    ),
    "aws:sns/topic:Topic": TypeSpec(
        service="sns",
        operation="CreateTopic",
        id="TopicArn",
        reshape=_topic,
        convert={"policy": document},
        autoname=Autoname("name", limit=256),
        outputs={"arn": "TopicArn"},
        derive=lambda made: {"owner": made.account},
    ),
    "aws:sns/topicPolicy:TopicPolicy": TypeSpec(
        service="sns", operation="SetTopicAttributes", id="{arn}", reshape=_topic_policy, convert={"policy": document}
    ),
    "aws:sns/topicSubscription:TopicSubscription": TypeSpec(
        service="sns",
        operation="Subscribe",
        id="SubscriptionArn",
        rename={"topic": "TopicArn"},
        reshape=_subscription,
        outputs={"arn": "SubscriptionArn"},
    ),
    "aws:ssm/parameter:Parameter": TypeSpec(
        service="ssm",
        operation="PutParameter",
        id="{name}",
        autoname=Autoname("name"),
        outputs={"version": "Version"},
        derive=lambda made: {"arn": made.arn("ssm", f"parameter/{made.id.removeprefix('/')}")},
    ),
}
