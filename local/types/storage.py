"""S3, DynamoDB, KMS and ECR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.types.documents import document
from local.types.spec import Autoname, Follow, Inputs, Made, TypeSpec, known, nest


def _location(region: str) -> Mapping[str, Any]:
    """S3 wants the region named, but for its oldest one."""
    return {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}


def tag_bucket(made: Made) -> None:
    tags = [{"Key": key, "Value": value} for key, value in made.inputs["tags"].items()]
    made.call("s3", "PutBucketTagging", Bucket=made.id, Tagging={"TagSet": tags})


def _bucket_outputs(made: Made) -> Mapping[str, Any]:
    return {
        "arn": made.arn("s3", made.id, region=False, account=False),
        "bucket": made.id,
        "bucketDomainName": f"{made.id}.s3.amazonaws.com",
        "bucketRegionalDomainName": f"{made.id}.s3.{made.region}.amazonaws.com",
        "bucketRegion": made.region,
    }


def _logging(inputs: Inputs) -> Inputs:
    rest = {key: value for key, value in inputs.items() if key != "bucket"}
    return {"bucket": inputs["bucket"], "bucketLoggingStatus": {"loggingEnabled": rest}}


def _object_lock(inputs: Inputs) -> Inputs:
    """The configuration says again that the lock is on, which is all that it can say."""
    return {
        "bucket": inputs["bucket"],
        "objectLockConfiguration": {"objectLockEnabled": "Enabled", "rule": inputs.get("rule")},
    }


def _lifecycle(inputs: Inputs) -> Inputs:
    """S3 wants a filter in every rule; Pulumi lets it be left out."""
    rules = inputs["rules"]
    if known(rules):
        rules = [rule if "filter" in rule or "prefix" in rule else {**rule, "filter": {"prefix": ""}} for rule in rules]
    return {"bucket": inputs["bucket"], "lifecycleConfiguration": {"rules": rules}}


def _encryption(inputs: Inputs) -> Inputs:
    """The API has the blocked kinds of encryption under a member of their own."""
    rules = inputs["rules"]
    if known(rules):
        rules = [
            {**rule, "blockedEncryptionTypes": {"encryptionType": rule["blockedEncryptionTypes"]}}
            if "blockedEncryptionTypes" in rule
            else rule
            for rule in rules
        ]
    return {"bucket": inputs["bucket"], "serverSideEncryptionConfiguration": {"rules": rules}}


def _notification(inputs: Inputs) -> Inputs:
    """Each function with its filter as the API has it: two rules on an object's key."""
    functions = inputs.get("lambdaFunctions", [])
    if known(functions):
        functions = [_told(each) for each in functions]
    return {
        "bucket": inputs["bucket"],
        "notificationConfiguration": {"lambdaFunctionConfigurations": functions},
    }


def _told(function: Any) -> Any:
    if not known(function):
        return function
    names = {"filterPrefix": "prefix", "filterSuffix": "suffix"}
    rules = [{"name": rule, "value": function[name]} for name, rule in names.items() if name in function]
    rest = {key: value for key, value in function.items() if key not in names}
    return {**rest, "filter": {"key": {"filterRules": rules}}} if rules else rest


def _bucket_part(operation: str, member: str, *, rename: Mapping[str, str] | None = None) -> TypeSpec:
    """A sub-resource of a bucket: everything but the bucket's name goes under one member."""
    return TypeSpec(service="s3", operation=operation, id="{bucket}", reshape=nest(member), rename=rename or {})


def _table(inputs: Inputs) -> Inputs:
    """A table's keys as KeySchema, its indexes likewise."""
    keys = {"hashKey", "rangeKey", "streamEnabled", "serverSideEncryption"}
    result: dict[str, Any] = {key: value for key, value in inputs.items() if key not in keys}
    result["keySchema"] = _key_schema(inputs)
    for name in ("globalSecondaryIndexes", "localSecondaryIndexes"):
        if known(inputs.get(name)) and inputs.get(name):
            result[name] = [_index(index) for index in inputs[name]]
    if inputs.get("streamEnabled"):
        view = result.pop("streamViewType", "NEW_AND_OLD_IMAGES")
        result["streamSpecification"] = {"streamEnabled": True, "streamViewType": view}
    encryption = inputs.get("serverSideEncryption")
    if encryption is not None:
        key = {"kmsMasterKeyId": encryption["kmsKeyArn"]} if "kmsKeyArn" in encryption else {}
        result["sseSpecification"] = {"enabled": encryption["enabled"], "sseType": "KMS", **key}
    return result


def _key_schema(inputs: Inputs) -> list[dict[str, Any]]:
    kinds = (("hashKey", "HASH"), ("rangeKey", "RANGE"))
    return [{"attributeName": inputs[name], "keyType": kind} for name, kind in kinds if name in inputs]


def _index(index: Inputs) -> Inputs:
    outside = {"hashKey", "rangeKey", "projectionType", "nonKeyAttributes", "keySchemas"}
    result = {key: value for key, value in index.items() if key not in outside}
    projection = {key: index[key] for key in ("projectionType", "nonKeyAttributes") if key in index}
    return {**result, "keySchema": index.get("keySchemas") or _key_schema(index), "projection": projection}


def _time_to_live(made: Made) -> None:
    setting = made.inputs["ttl"]
    if setting.get("enabled", True):
        specification = {"Enabled": True, "AttributeName": setting["attributeName"]}
        made.call("dynamodb", "UpdateTimeToLive", TableName=made.id, TimeToLiveSpecification=specification)


def point_in_time_recovery(made: Made) -> None:
    setting = made.inputs["pointInTimeRecovery"]
    specification = {"PointInTimeRecoveryEnabled": setting["enabled"]}
    if "recoveryPeriodInDays" in setting:
        specification["RecoveryPeriodInDays"] = setting["recoveryPeriodInDays"]
    made.call("dynamodb", "UpdateContinuousBackups", TableName=made.id, PointInTimeRecoverySpecification=specification)


def rotation(made: Made) -> None:
    if not made.inputs.get("enableKeyRotation"):
        return
    period = made.inputs.get("rotationPeriodInDays")
    extra = {} if period is None else {"RotationPeriodInDays": period}
    made.call("kms", "EnableKeyRotation", KeyId=made.id, **extra)


def _enabled(made: Made) -> None:
    if made.inputs["isEnabled"] is False:
        made.call("kms", "DisableKey", KeyId=made.id)


def _repository(inputs: Inputs) -> Inputs:
    result = dict(inputs)
    encryption = result.pop("encryptionConfigurations", None)
    return result if encryption is None else {**result, "encryptionConfiguration": encryption}


TYPES: dict[str, TypeSpec] = {
    "aws:s3/bucket:Bucket": TypeSpec(
        service="s3",
        operation="CreateBucket",
        id="{bucket}",
        rename={"objectLockEnabled": "ObjectLockEnabledForBucket", "acl": "ACL"},
        steering=frozenset({"forceDestroy"}),
        fixed=_location,
        autoname=Autoname("bucket", limit=63, lower=True),
        follow=(Follow(("tags",), tag_bucket),),
        derive=_bucket_outputs,
    ),
    "aws:s3/bucketVersioning:BucketVersioning": TypeSpec(
        service="s3", operation="PutBucketVersioning", id="{bucket}", rename={"mfa": "MFA"}
    ),
    "aws:s3/bucketPolicy:BucketPolicy": TypeSpec(
        service="s3", operation="PutBucketPolicy", id="{bucket}", convert={"policy": document}
    ),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": _bucket_part(
        "PutPublicAccessBlock", "publicAccessBlockConfiguration"
    ),
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": TypeSpec(
        service="s3",
        operation="PutBucketOwnershipControls",
        id="{bucket}",
        reshape=lambda inputs: {
            "bucket": inputs["bucket"],
            "ownershipControls": {"rules": [inputs["rule"]]},
        },
    ),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": TypeSpec(
        service="s3", operation="PutBucketEncryption", id="{bucket}", reshape=_encryption
    ),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": TypeSpec(
        service="s3",
        operation="PutBucketLifecycleConfiguration",
        id="{bucket}",
        reshape=_lifecycle,
        rename={
            "lifecycleConfiguration.rules.noncurrentVersionTransitions": "NoncurrentVersionTransitions",
        },
    ),
    "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration": TypeSpec(
        service="s3", operation="PutObjectLockConfiguration", id="{bucket}", reshape=_object_lock
    ),
    "aws:s3/bucketLogging:BucketLogging": TypeSpec(
        service="s3", operation="PutBucketLogging", id="{bucket}", reshape=_logging
    ),
    "aws:s3/bucketNotification:BucketNotification": TypeSpec(
        service="s3", operation="PutBucketNotificationConfiguration", id="{bucket}", reshape=_notification
    ),
    "aws:dynamodb/table:Table": TypeSpec(
        service="dynamodb",
        operation="CreateTable",
        id="{name}",
        rename={"name": "TableName", "attributes": "AttributeDefinitions", "sseSpecification": "SSESpecification"}
        | {f"attributes.{name}": f"Attribute{name.capitalize()}" for name in ("name", "type")}
        | {"globalSecondaryIndexes.name": "IndexName", "localSecondaryIndexes.name": "IndexName"},
        reshape=_table,
        autoname=Autoname("name"),
        follow=(
            Follow(("ttl",), _time_to_live),
            Follow(("pointInTimeRecovery",), point_in_time_recovery),
        ),
        state="TableDescription",
        outputs={"arn": "TableArn", "streamArn": "LatestStreamArn", "streamLabel": "LatestStreamLabel"},
    ),
    "aws:kms/key:Key": TypeSpec(
        service="kms",
        operation="CreateKey",
        id="KeyMetadata.KeyId",
        rename={"customerMasterKeySpec": "KeySpec"},
        convert={"policy": document},
        steering=frozenset({"deletionWindowInDays"}),
        follow=(
            Follow(("enableKeyRotation", "rotationPeriodInDays"), rotation),
            Follow(("isEnabled",), _enabled),
        ),
        state="KeyMetadata",
        outputs={"arn": "Arn", "keyId": "KeyId"},
    ),
    "aws:kms/alias:Alias": TypeSpec(
        service="kms",
        operation="CreateAlias",
        id="{name}",
        rename={"name": "AliasName"},
        read=("DescribeKey", {"KeyId": "{id}"}, "KeyMetadata"),
        outputs={"targetKeyArn": "Arn"},
        derive=lambda made: {"arn": made.arn("kms", made.id)},
    ),
    "aws:ecr/repository:Repository": TypeSpec(
        service="ecr",
        operation="CreateRepository",
        id="{name}",
        rename={"name": "repositoryName"},
        reshape=_repository,
        steering=frozenset({"forceDelete"}),
        autoname=Autoname("name", limit=256, lower=True),
        state="repository",
        outputs={"arn": "repositoryArn", "repositoryUrl": "repositoryUri", "registryId": "registryId"},
    ),
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": TypeSpec(
        service="ecr",
        operation="PutLifecyclePolicy",
        id="{repository}",
        rename={"repository": "repositoryName", "policy": "lifecyclePolicyText"},
        convert={"policy": document},
        outputs={"registryId": "registryId"},
    ),
    "aws:ecr/repositoryPolicy:RepositoryPolicy": TypeSpec(
        service="ecr",
        operation="SetRepositoryPolicy",
        id="{repository}",
        rename={"repository": "repositoryName", "policy": "policyText"},
        convert={"policy": document},
        outputs={"registryId": "registryId"},
    ),
}
