"""Logs, metrics, alarms, dashboards, rules, topics and parameters."""

from __future__ import annotations

import json

from local.types import observability as rows
from local.types.lifecycles.vocabulary import Change, Changed, Lifecycle, resend
from local.types.spec import Made


def _retention(changed: Changed) -> None:
    if changed.inputs.get("retentionInDays"):
        rows.retention(changed)
    else:
        changed.call("logs", "DeleteRetentionPolicy", logGroupName=changed.id)


def _log_key(changed: Changed) -> None:
    if changed.inputs.get("kmsKeyId"):
        changed.call("logs", "AssociateKmsKey", logGroupName=changed.id, kmsKeyId=changed.inputs["kmsKeyId"])
    else:
        changed.call("logs", "DisassociateKmsKey", logGroupName=changed.id)


def _delete_log_group(made: Made) -> None:
    if not made.inputs.get("skipDestroy"):
        made.call("logs", "DeleteLogGroup", logGroupName=made.id)


def _topic(changed: Changed) -> None:
    """The attributes that changed, one by one; an empty value takes one away."""
    attributes = changed.creation().get("Attributes", {})
    for name in sorted(changed.names):
        key = rows.TOPIC_ATTRIBUTES[name]
        value = attributes.get(key, "")
        changed.call("sns", "SetTopicAttributes", TopicArn=changed.id, AttributeName=key, AttributeValue=value)


def _topic_for_its_owner(made: Made) -> None:
    """The policy that a new topic has: nobody but the account."""
    statement = {
        "Sid": "__default_statement_ID",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:{made.partition}:iam::{made.account}:root"},
        "Action": ["sns:GetTopicAttributes", "sns:SetTopicAttributes", "sns:Subscribe", "sns:Publish"],
        "Resource": made.inputs["arn"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    made.call("sns", "SetTopicAttributes", TopicArn=made.inputs["arn"], AttributeName="Policy", AttributeValue=policy)


def _subscription(changed: Changed) -> None:
    attributes = changed.creation().get("Attributes", {})
    for name in sorted(changed.names):
        key = f"{name[0].upper()}{name[1:]}"
        value = attributes.get(key, "false" if key == "RawMessageDelivery" else "{}")
        changed.call(
            "sns", "SetSubscriptionAttributes", SubscriptionArn=changed.id, AttributeName=key, AttributeValue=value
        )


def _parameter(changed: Changed) -> dict[str, object]:
    creation = {key: value for key, value in changed.creation().items() if key not in ("Tags", "Overwrite")}
    return {"version": changed.call("ssm", "PutParameter", Overwrite=True, **creation)["Version"]}


LIFECYCLES: dict[str, Lifecycle] = {
    "aws:cloudwatch/logGroup:LogGroup": Lifecycle(
        delete=_delete_log_group,
        changes=(
            Change(("retentionInDays",), _retention, whole=True),
            Change(("kmsKeyId",), _log_key, whole=True),
        ),
    ),
    "aws:cloudwatch/logStream:LogStream": Lifecycle(
        delete=("DeleteLogStream", {"logGroupName": "{logGroupName}", "logStreamName": "{name}"})
    ),
    "aws:cloudwatch/logResourcePolicy:LogResourcePolicy": Lifecycle(
        delete=("DeleteResourcePolicy", {"policyName": "{policyName}"}), changes=(resend("policyDocument"),)
    ),
    "aws:cloudwatch/logMetricFilter:LogMetricFilter": Lifecycle(
        delete=("DeleteMetricFilter", {"logGroupName": "{logGroupName}", "filterName": "{name}"}),
        changes=(resend(),),
        replaces=frozenset({"name", "logGroupName"}),
    ),
    "aws:cloudwatch/eventRule:EventRule": Lifecycle(
        delete=("DeleteRule", {"Name": "{name}"}),
        changes=(resend("description", "eventPattern", "scheduleExpression", "roleArn", "state"),),
    ),
    "aws:cloudwatch/eventTarget:EventTarget": Lifecycle(
        delete=("RemoveTargets", {"Rule": "{rule}", "Ids": ["{targetId}"]}),
        changes=(resend(),),
        replaces=frozenset({"rule", "targetId", "eventBusName"}),
    ),
    "aws:cloudwatch/metricAlarm:MetricAlarm": Lifecycle(
        delete=("DeleteAlarms", {"AlarmNames": ["{name}"]}), changes=(resend(),), replaces=frozenset({"name"})
    ),
    "aws:cloudwatch/compositeAlarm:CompositeAlarm": Lifecycle(
        delete=("DeleteAlarms", {"AlarmNames": ["{alarmName}"]}),
        changes=(resend(),),
        replaces=frozenset({"alarmName"}),
    ),
    "aws:cloudwatch/dashboard:Dashboard": Lifecycle(
        delete=("DeleteDashboards", {"DashboardNames": ["{dashboardName}"]}), changes=(resend("dashboardBody"),)
    ),
    "aws:sns/topic:Topic": Lifecycle(
        delete=("DeleteTopic", {"TopicArn": "{id}"}),
        changes=(Change(tuple(name for name in rows.TOPIC_ATTRIBUTES if name != "fifoTopic"), _topic, whole=True),),
    ),
    "aws:sns/topicPolicy:TopicPolicy": Lifecycle(delete=_topic_for_its_owner, changes=(resend("policy"),)),
    "aws:sns/topicSubscription:TopicSubscription": Lifecycle(
        delete=("Unsubscribe", {"SubscriptionArn": "{id}"}),
        changes=(Change(("rawMessageDelivery", "filterPolicy", "redrivePolicy"), _subscription, whole=True),),
    ),
    "aws:ssm/parameter:Parameter": Lifecycle(
        delete=("DeleteParameter", {"Name": "{name}"}),
        changes=(Change(("value", "description", "type", "tier", "allowedPattern"), _parameter),),
        volatile=frozenset({"version"}),
    ),
}
