"""Pairs for the rules of infra/policies/streams.py."""

from __future__ import annotations

from typing import Any

from infra.policies.graph import Graph
from tests.infra.policies.pair import KEY_URN, Pair, alone, resource

STREAM = "aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream"
DATABASE = "aws:glue/catalogDatabase:CatalogDatabase"
SETTINGS = "aws:glue/dataCatalogEncryptionSettings:DataCatalogEncryptionSettings"


def encryption(**members: Any) -> dict[str, Any]:
    """How a delivery stream is encrypted."""
    return {"serverSideEncryption": {"enabled": True, **members}}


def delivery(**members: Any) -> dict[str, Any]:
    """A destination in S3."""
    return {"extendedS3Configuration": members}


def catalog(**members: Any) -> dict[str, Any]:
    """How the account encrypts its catalog."""
    return {"dataCatalogEncryptionSettings": {"encryptionAtRest": members}}


def of_stream(**members: Any) -> dict[str, Any]:
    """A function at a stream."""
    return {"startingPosition": "LATEST", **members}


LOG = {"enabled": True, "logGroupName": "group", "logStreamName": "delivery"}
QUEUE = {"onFailure": {"destinationArn": "arn:queue"}}

PAIRS: dict[str, Pair] = {
    "firehose-encrypted": alone(STREAM, [encryption()], [{}, encryption(enabled=False)]),
    "firehose-own-key": alone(
        STREAM,
        [encryption(keyType="CUSTOMER_MANAGED_CMK", keyArn="arn:key")],
        [{}, encryption(), encryption(keyType="AWS_OWNED_CMK")],
        serverSideEncryption=KEY_URN,
    ),
    "firehose-logged": alone(
        STREAM,
        [delivery(cloudwatchLoggingOptions=LOG, errorOutputPrefix="errors/")],
        [
            {},
            delivery(errorOutputPrefix="errors/"),
            delivery(cloudwatchLoggingOptions=LOG),
            delivery(cloudwatchLoggingOptions={**LOG, "enabled": False}, errorOutputPrefix="errors/"),
        ],
    ),
    "glue-catalog-encrypted": Pair(
        fine=tuple(
            Graph((resource(DATABASE, {}), resource(SETTINGS, catalog(catalogEncryptionMode=mode))))
            for mode in ("SSE-KMS", "SSE-KMS-WITH-SERVICE-ROLE")
        ),
        wrong=(
            Graph((resource(DATABASE, {}),)),
            Graph((resource(DATABASE, {}), resource(SETTINGS, catalog(catalogEncryptionMode="DISABLED")))),
        ),
    ),
    "event-source-bounded": alone(
        "aws:lambda/eventSourceMapping:EventSourceMapping",
        [of_stream(maximumRetryAttempts=5, destinationConfig=QUEUE), {"eventSourceArn": "arn:aws:sqs:queue"}],
        [of_stream(), of_stream(maximumRetryAttempts=5), of_stream(maximumRetryAttempts=-1, destinationConfig=QUEUE)],
    ),
}
