"""Firehose's delivery streams, Glue's tables and SQS's queues."""

from __future__ import annotations

from local.types import streams as rows
from local.types.lifecycles.vocabulary import Change, Changed, Lifecycle, resend
from local.types.spec import Made


def _destination(changed: Changed) -> None:
    """Another configuration of the one destination that a stream has."""
    described = changed.call("firehose", "DescribeDeliveryStream", DeliveryStreamName=changed.inputs["name"])
    stream = described["DeliveryStreamDescription"]
    wanted = {"extendedS3DestinationUpdate": rows.destination(changed.inputs["extendedS3Configuration"])}
    changed.call(
        "firehose",
        "UpdateDestination",
        **changed.mapped("UpdateDestination", wanted),
        DeliveryStreamName=stream["DeliveryStreamName"],
        CurrentDeliveryStreamVersionId=stream["VersionId"],
        DestinationId=stream["Destinations"][0]["DestinationId"],
    )


def _encryption(changed: Changed) -> None:
    name, encryption = changed.inputs["name"], changed.inputs.get("serverSideEncryption") or {}
    if not encryption.get("enabled"):
        changed.call("firehose", "StopDeliveryStreamEncryption", DeliveryStreamName=name)
        return
    wanted = {"deliveryStreamEncryptionConfigurationInput": rows.encrypted(encryption)}
    parameters = changed.mapped("StartDeliveryStreamEncryption", wanted)
    changed.call("firehose", "StartDeliveryStreamEncryption", DeliveryStreamName=name, **parameters)


def _table(changed: Changed) -> None:
    changed.call("glue", "UpdateTable", **changed.creation())


def _database(changed: Changed) -> None:
    wanted = changed.creation()["DatabaseInput"]
    changed.call("glue", "UpdateDatabase", Name=changed.id, DatabaseInput=wanted)


def _queue(changed: Changed) -> None:
    """The attributes that are given, and an empty value, which is none, for those that are gone."""
    attributes = changed.creation().get("Attributes", {})
    wanted = {key: attributes.get(key, "") for name, key in rows.QUEUE_ATTRIBUTES.items() if name in changed.names}
    changed.call("sqs", "SetQueueAttributes", QueueUrl=changed.id, Attributes=wanted)


def _no_policy(made: Made) -> None:
    made.call("sqs", "SetQueueAttributes", QueueUrl=made.inputs["queueUrl"], Attributes={"Policy": ""})


LIFECYCLES: dict[str, Lifecycle] = {
    "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream": Lifecycle(
        delete=("DeleteDeliveryStream", {"DeliveryStreamName": "{name}"}),
        changes=(
            Change(("extendedS3Configuration",), _destination, whole=True),
            Change(("serverSideEncryption",), _encryption, whole=True),
        ),
    ),
    "aws:glue/catalogDatabase:CatalogDatabase": Lifecycle(
        delete=("DeleteDatabase", {"Name": "{name}"}),
        changes=(Change(("description", "locationUri", "parameters"), _database, whole=True),),
    ),
    "aws:glue/catalogTable:CatalogTable": Lifecycle(
        delete=("DeleteTable", {"DatabaseName": "{databaseName}", "Name": "{name}"}),
        changes=(
            Change(
                ("description", "parameters", "storageDescriptor", "tableType", "partitionKeys", "retention"),
                _table,
                whole=True,
            ),
        ),
    ),
    "aws:sqs/queue:Queue": Lifecycle(
        delete=("DeleteQueue", {"QueueUrl": "{id}"}),
        changes=(Change(tuple(rows.QUEUE_ATTRIBUTES), _queue, whole=True),),
    ),
    "aws:sqs/queuePolicy:QueuePolicy": Lifecycle(delete=_no_policy, changes=(resend("policy"),)),
}
