"""Firehose's delivery streams, Glue's tables and SQS's queues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.types.documents import document
from local.types.spec import Autoname, Inputs, Made, TypeSpec, known, nest, text

BUFFERING = {"bufferingInterval": "intervalInSeconds", "bufferingSize": "sizeInMBs"}
QUEUE_ATTRIBUTES = {
    "kmsMasterKeyId": "KmsMasterKeyId",
    "kmsDataKeyReusePeriodSeconds": "KmsDataKeyReusePeriodSeconds",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "visibilityTimeoutSeconds": "VisibilityTimeout",
    "delaySeconds": "DelaySeconds",
    "receiveWaitTimeSeconds": "ReceiveMessageWaitTimeSeconds",
    "maxMessageSize": "MaximumMessageSize",
    "redrivePolicy": "RedrivePolicy",
    "sqsManagedSseEnabled": "SqsManagedSseEnabled",
}


def destination(configuration: Any) -> Any:
    """A destination in S3 as the API has it, with the two bounds of the buffer under one member."""
    if not known(configuration):
        return configuration
    rest = {name: value for name, value in configuration.items() if name not in BUFFERING}
    bounds = {member: configuration[name] for name, member in BUFFERING.items() if name in configuration}
    return {**rest, **({"bufferingHints": bounds} if bounds else {})}


def _delivery_stream(inputs: Inputs) -> Inputs:
    outside = ("destination", "extendedS3Configuration", "serverSideEncryption")
    result: dict[str, Any] = {name: value for name, value in inputs.items() if name not in outside}
    result["deliveryStreamType"] = "DirectPut"
    if "extendedS3Configuration" in inputs:
        result["extendedS3DestinationConfiguration"] = destination(inputs["extendedS3Configuration"])
    encryption = inputs.get("serverSideEncryption")
    if encryption is not None and (not known(encryption) or encryption.get("enabled")):
        result["deliveryStreamEncryptionConfigurationInput"] = encrypted(encryption)
    return result


def encrypted(encryption: Any) -> Any:
    """How a stream is encrypted, as the API has it; that it is, is said by saying how."""
    if not known(encryption):
        return encryption
    return {name: value for name, value in encryption.items() if name != "enabled"}


def _queue(inputs: Inputs) -> Inputs:
    rest = {name: value for name, value in inputs.items() if name not in QUEUE_ATTRIBUTES}
    found = {key: inputs[name] for name, key in QUEUE_ATTRIBUTES.items() if name in inputs}
    return {**rest, "attributes": {key: text(value) if known(value) else value for key, value in found.items()}}


def _queue_policy(inputs: Inputs) -> Inputs:
    policy = inputs["policy"]
    return {"queueUrl": inputs["queueUrl"], "attributes": {"Policy": document(policy) if known(policy) else policy}}


def _queue_outputs(made: Made) -> Mapping[str, Any]:
    return {"arn": made.arn("sqs", made.inputs["name"]), "url": made.id}


TYPES: dict[str, TypeSpec] = {
    "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream": TypeSpec(
        service="firehose",
        operation="CreateDeliveryStream",
        id="DeliveryStreamARN",
        rename={"name": "DeliveryStreamName"},
        reshape=_delivery_stream,
        autoname=Autoname("name", limit=64),
        outputs={"arn": "DeliveryStreamARN"},
    ),
    "aws:glue/catalogDatabase:CatalogDatabase": TypeSpec(
        service="glue",
        operation="CreateDatabase",
        id="{name}",
        reshape=nest("databaseInput", keep=("catalogId", "tags")),
        derive=lambda made: {"arn": made.arn("glue", f"database/{made.id}"), "catalogId": made.account},
    ),
    "aws:glue/catalogTable:CatalogTable": TypeSpec(
        service="glue",
        operation="CreateTable",
        id="{databaseName}:{name}",
        reshape=nest("tableInput", keep=("databaseName", "catalogId")),
        derive=lambda made: {
            "arn": made.arn("glue", f"table/{made.inputs['databaseName']}/{made.inputs['name']}"),
            "catalogId": made.account,
        },
    ),
    "aws:sqs/queue:Queue": TypeSpec(
        service="sqs",
        operation="CreateQueue",
        id="QueueUrl",
        rename={"name": "QueueName"},
        reshape=_queue,
        autoname=Autoname("name", limit=80),
        derive=_queue_outputs,
    ),
    "aws:sqs/queuePolicy:QueuePolicy": TypeSpec(
        service="sqs", operation="SetQueueAttributes", id="{queueUrl}", reshape=_queue_policy
    ),
}
