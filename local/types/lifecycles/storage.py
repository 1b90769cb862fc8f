"""S3, DynamoDB, KMS and ECR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.errors import LocalError
from local.types import storage as rows
from local.types.lifecycles.vocabulary import Change, Changed, Lifecycle, modify, nothing, resend
from local.types.spec import Made

_PAGE = 1000  # objects that S3 deletes at a time


def _bucket_tags(changed: Changed) -> None:
    tags = changed.inputs.get("tags") or {}
    if not tags:
        changed.call("s3", "DeleteBucketTagging", Bucket=changed.id)
        return
    rows.tag_bucket(changed)


def _delete_bucket(made: Made) -> None:
    """With forceDestroy a bucket is emptied first, of all versions; S3 itself refuses to delete a full one."""
    if made.inputs.get("forceDestroy"):
        _empty(made)
    made.call("s3", "DeleteBucket", Bucket=made.id)


def _empty(made: Made) -> None:
    while True:
        page = made.call("s3", "ListObjectVersions", Bucket=made.id, MaxKeys=_PAGE)
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if not found:
            return
        objects = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
        answer = made.call("s3", "DeleteObjects", Bucket=made.id, Delete={"Objects": objects, "Quiet": True})
        if refused := answer.get("Errors"):
            first = refused[0]
            raise LocalError(f"s3:DeleteObjects: {first['Code']}: {first['Key']}: {first['Message']}")


def _suspend_versions(made: Made) -> None:
    """A bucket that had versions once cannot be without them, only make no more."""
    made.call("s3", "PutBucketVersioning", Bucket=made.id, VersioningConfiguration={"Status": "Suspended"})


def _bucket_part(delete: str) -> Lifecycle:
    return Lifecycle(delete=(delete, {"Bucket": "{bucket}"}), changes=(resend(),), replaces=frozenset({"bucket"}))


def _no_logging(made: Made) -> None:
    made.call("s3", "PutBucketLogging", Bucket=made.id, BucketLoggingStatus={})


def _no_notification(made: Made) -> None:
    made.call("s3", "PutBucketNotificationConfiguration", Bucket=made.id, NotificationConfiguration={})


def _time_to_live(changed: Changed) -> None:
    """The old attribute first: a table has one at most."""
    for setting, enabled in ((changed.old.get("ttl"), False), (changed.inputs.get("ttl"), True)):
        if setting and setting.get("enabled", True):
            specification = {"Enabled": enabled, "AttributeName": setting["attributeName"]}
            changed.call("dynamodb", "UpdateTimeToLive", TableName=changed.id, TimeToLiveSpecification=specification)


def _point_in_time_recovery(changed: Changed) -> None:
    if changed.inputs.get("pointInTimeRecovery"):
        rows.point_in_time_recovery(changed)
        return
    off = {"PointInTimeRecoveryEnabled": False}
    changed.call("dynamodb", "UpdateContinuousBackups", TableName=changed.id, PointInTimeRecoverySpecification=off)


def _rotation(changed: Changed) -> None:
    if changed.inputs.get("enableKeyRotation"):
        rows.rotation(changed)
    else:
        changed.call("kms", "DisableKeyRotation", KeyId=changed.id)


def _enabled(changed: Changed) -> None:
    operation = "DisableKey" if changed.inputs.get("isEnabled") is False else "EnableKey"
    changed.call("kms", operation, KeyId=changed.id)


def _delete_key(made: Made) -> None:
    """Deleted after the window: nobody can use it until then either."""
    window = made.inputs.get("deletionWindowInDays")
    more: Mapping[str, Any] = {} if window is None else {"PendingWindowInDays": window}
    made.call("kms", "ScheduleKeyDeletion", KeyId=made.id, **more)


def _delete_repository(made: Made) -> None:
    made.call("ecr", "DeleteRepository", repositoryName=made.id, force=bool(made.inputs.get("forceDelete")))


LIFECYCLES: dict[str, Lifecycle] = {
    "aws:s3/bucket:Bucket": Lifecycle(delete=_delete_bucket, changes=(Change(("tags",), _bucket_tags, whole=True),)),
    "aws:s3/bucketVersioning:BucketVersioning": Lifecycle(
        delete=_suspend_versions, changes=(resend(),), replaces=frozenset({"bucket"})
    ),
    "aws:s3/bucketPolicy:BucketPolicy": _bucket_part("DeleteBucketPolicy"),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": _bucket_part("DeletePublicAccessBlock"),
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": _bucket_part("DeleteBucketOwnershipControls"),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": _bucket_part(
        "DeleteBucketEncryption"
    ),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": _bucket_part("DeleteBucketLifecycle"),
    "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration": Lifecycle(
        delete=nothing,  # a lock stays as long as its bucket
        changes=(resend(),),
        replaces=frozenset({"bucket"}),
    ),
    "aws:s3/bucketLogging:BucketLogging": Lifecycle(
        delete=_no_logging, changes=(resend(),), replaces=frozenset({"bucket"})
    ),
    "aws:s3/bucketNotification:BucketNotification": Lifecycle(
        delete=_no_notification, changes=(resend(),), replaces=frozenset({"bucket"})
    ),
    "aws:dynamodb/table:Table": Lifecycle(
        delete=("DeleteTable", {"TableName": "{id}"}),
        changes=(
            Change(("ttl",), _time_to_live, whole=True),
            Change(("pointInTimeRecovery",), _point_in_time_recovery, whole=True),
            modify("UpdateTable", "deletionProtectionEnabled", "billingMode", "tableClass", TableName="{id}"),
        ),
    ),
    "aws:kms/key:Key": Lifecycle(
        delete=_delete_key,
        changes=(
            Change(("enableKeyRotation", "rotationPeriodInDays"), _rotation, whole=True),
            Change(("isEnabled",), _enabled, whole=True),
            modify("PutKeyPolicy", "policy", KeyId="{id}", PolicyName="default"),
            modify("UpdateKeyDescription", "description", KeyId="{id}"),
        ),
    ),
    "aws:kms/alias:Alias": Lifecycle(
        delete=("DeleteAlias", {"AliasName": "{id}"}),
        changes=(modify("UpdateAlias", "targetKeyId", AliasName="{id}"),),
        volatile=frozenset({"targetKeyArn"}),
    ),
    "aws:ecr/repository:Repository": Lifecycle(
        delete=_delete_repository,
        changes=(
            modify("PutImageTagMutability", "imageTagMutability", repositoryName="{id}"),
            modify("PutImageScanningConfiguration", "imageScanningConfiguration", repositoryName="{id}"),
        ),
    ),
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": Lifecycle(
        delete=("DeleteLifecyclePolicy", {"repositoryName": "{repository}"}),
        changes=(resend("policy"),),
    ),
    "aws:ecr/repositoryPolicy:RepositoryPolicy": Lifecycle(
        delete=("DeleteRepositoryPolicy", {"repositoryName": "{repository}"}),
        changes=(resend("policy"),),
    ),
}
