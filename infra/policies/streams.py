"""Rules for what flows: delivery streams, the catalog that describes their records, and functions at a stream."""

from infra.policies.rule import (
    Rule,
    Severity,
    all_of,
    at_least,
    in_stack,
    is_not_set,
    is_one_of,
    is_set,
    is_true,
    on,
    under_own_key,
    unless,
)

STREAM = ("aws:kinesis/firehoseDeliveryStream:FirehoseDeliveryStream",)
DATABASE = ("aws:glue/catalogDatabase:CatalogDatabase",)
CATALOG_ENCRYPTION = ("aws:glue/dataCatalogEncryptionSettings:DataCatalogEncryptionSettings",)
SOURCE = ("aws:lambda/eventSourceMapping:EventSourceMapping",)
_CATALOG = "dataCatalogEncryptionSettings.encryptionAtRest.catalogEncryptionMode"
# Queues have redrive policies of their own; a stream stands still at what fails.
_OF_A_QUEUE = is_not_set("startingPosition")

RULES = (
    Rule(
        id="firehose-encrypted",
        severity=Severity.MEDIUM,
        types=STREAM,
        check=on(is_true("serverSideEncryption.enabled")),
        reason="DataFirehose.1 checks that delivery streams are encrypted at rest",
        remedy="set serverSideEncryption.enabled",
        control="DataFirehose.1",
        cdk_nag="AwsSolutions-KDF1",
    ),
    Rule(
        id="firehose-own-key",
        severity=Severity.MEDIUM,
        types=STREAM,
        check=all_of(
            on(is_one_of("serverSideEncryption.keyType", "CUSTOMER_MANAGED_CMK", default="AWS_OWNED_CMK")),
            under_own_key("serverSideEncryption.keyArn"),
        ),
        scope="graph",
        reason="records wait in the stream for minutes; under a key of the stack only its users read them there",
        remedy="set serverSideEncryption with CUSTOMER_MANAGED_CMK and a key of the stack",
    ),
    Rule(
        id="firehose-logged",
        severity=Severity.MEDIUM,
        types=STREAM,
        check=on(
            is_true("extendedS3Configuration.cloudwatchLoggingOptions.enabled"),
            is_set("extendedS3Configuration.cloudwatchLoggingOptions.logGroupName"),
            is_set("extendedS3Configuration.errorOutputPrefix"),
        ),
        reason="records that cannot be delivered or converted are otherwise missing without a word",
        remedy="set extendedS3Configuration.cloudwatchLoggingOptions and errorOutputPrefix",
    ),
    Rule(
        id="glue-catalog-encrypted",
        severity=Severity.LOW,
        types=DATABASE,
        check=in_stack(CATALOG_ENCRYPTION, is_one_of(_CATALOG, "SSE-KMS", "SSE-KMS-WITH-SERVICE-ROLE")),
        scope="graph",
        reason="the catalog tells which columns there are and where their rows lie",
        remedy="declare DataCatalogEncryptionSettings, once per account and region",
    ),
    Rule(
        id="event-source-bounded",
        severity=Severity.MEDIUM,
        types=SOURCE,
        check=on(
            unless(_OF_A_QUEUE, is_set("destinationConfig.onFailure.destinationArn")),
            unless(_OF_A_QUEUE, at_least("maximumRetryAttempts", 0, default=-1)),
        ),
        reason="one record that a function fails on holds a stream up for a day, and is then gone without a trace",
        remedy="set maximumRetryAttempts and destinationConfig.onFailure",
    ),
)
