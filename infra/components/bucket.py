"""A private bucket: encrypted, versioned, owned by the account, over TLS alone, and what its policies say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.keys import EncryptionKey
from infra.iam import ANYONE, Conditions, Statement, document

KEEP_OLD_VERSIONS_DAYS = 90


def transport_statements(bucket_arn: pulumi.Input[str]) -> list[Statement]:
    """Nobody reaches the bucket without TLS 1.2 or newer."""
    everything = [bucket_arn, pulumi.Output.concat(bucket_arn, "/*")]
    return [
        Statement(
            sid="DenyPlainHttp",
            effect="Deny",
            actions=["s3:*"],
            resources=everything,
            principals=ANYONE,
            conditions={"Bool": {"aws:SecureTransport": "false"}},
        ),
        Statement(
            sid="DenyOldTls",
            effect="Deny",
            actions=["s3:*"],
            resources=everything,
            principals=ANYONE,
            conditions={"NumericLessThan": {"s3:TlsVersion": "1.2"}},
        ),
    ]


def customer_key_statement(bucket_arn: pulumi.Input[str]) -> Statement:
    """Nobody stores an object under a key of the request's own (SSE-C), which nobody else could read it with.

    Such a request names no other encryption, so that only the header of the key's algorithm tells it.
    """
    return Statement(
        sid="DenyCustomerKeys",
        effect="Deny",
        actions=["s3:PutObject"],
        resources=[pulumi.Output.concat(bucket_arn, "/*")],
        principals=ANYONE,
        conditions={"Null": {"s3:x-amz-server-side-encryption-customer-algorithm": "false"}},
    )


def key_statements(bucket_arn: pulumi.Input[str], *, key_arn: pulumi.Input[str]) -> list[Statement]:
    """Nobody stores an object under another key than the bucket's."""
    objects = [pulumi.Output.concat(bucket_arn, "/*")]
    return [
        Statement(
            sid="DenyOtherEncryption",
            effect="Deny",
            actions=["s3:PutObject"],
            resources=objects,
            principals=ANYONE,
            conditions=_named_and_not("s3:x-amz-server-side-encryption", "aws:kms"),
        ),
        Statement(
            sid="DenyOtherKey",
            effect="Deny",
            actions=["s3:PutObject"],
            resources=objects,
            principals=ANYONE,
            conditions=_named_and_not("s3:x-amz-server-side-encryption-aws-kms-key-id", key_arn),
        ),
    ]


def _named_and_not(condition_key: str, value: pulumi.Input[str]) -> Conditions:
    """True for a request that names another value; one that names none takes the bucket's default.

    IAM counts a key that is absent as "not equal", hence the second condition.
    """
    return {"StringNotEquals": {condition_key: value}, "Null": {condition_key: "false"}}


@dataclass(frozen=True)
class PrivateBucketArgs:
    """How a bucket is encrypted, where its accesses are logged, when its objects go, and who else may do what.

    Without a key it is S3's own; a log bucket takes no other, and does not log itself. With `lock_days` no version can
    be deleted for that long but by whoever may bypass governance, which `statements` may deny to everybody. With
    `bucket_key` false S3 asks KMS for every object. A bucket that `empties` is deleted with all that is in it when the
    stack goes; one that does not cannot be deleted while anything is in it, and with `protect` Pulumi refuses to delete
    or replace it. `expire_prefixes` are the days of what lies below each of them, where not all goes at one age.
    """

    key: EncryptionKey | None
    log_bucket: pulumi.Input[str] | None
    expire_after_days: int | None
    statements: Callable[[pulumi.Input[str]], Sequence[Statement]]
    empties: bool
    protect: bool = False
    lock_days: int | None = None
    bucket_key: bool = True
    expire_prefixes: Mapping[str, int] = field(default_factory=dict)


class PrivateBucket(pulumi.ComponentResource):
    """A bucket that is versioned, encrypted, and closed to the public and to plain HTTP."""

    id: pulumi.Output[str]
    arn: pulumi.Output[str]

    def __init__(self, name: str, args: PrivateBucketArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:PrivateBucket", name, None, opts)
        self._args = args
        bucket = aws.s3.Bucket(
            name,
            object_lock_enabled=True if args.lock_days is not None else None,
            force_destroy=True if args.empties else None,
            opts=ResourceOptions(parent=self, protect=args.protect),
        )
        self.id, self.arn = bucket.id, bucket.arn
        public_access_block = aws.s3.BucketPublicAccessBlock(
            f"{name}-public-access-block",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=ResourceOptions(parent=self),
        )
        aws.s3.BucketOwnershipControls(
            f"{name}-ownership",
            bucket=bucket.id,
            rule={"object_ownership": "BucketOwnerEnforced"},
            opts=ResourceOptions(parent=self),
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encryption",
            bucket=bucket.id,
            rules=[_encryption(args.key, bucket_key=args.bucket_key)],
            opts=ResourceOptions(parent=self),
        )
        versioning = aws.s3.BucketVersioning(
            f"{name}-versioning",
            bucket=bucket.id,
            versioning_configuration={"status": "Enabled"},
            opts=ResourceOptions(parent=self),
        )
        aws.s3.BucketLifecycleConfiguration(
            f"{name}-lifecycle",
            bucket=bucket.id,
            rules=lifecycle_rules(expire_after_days=args.expire_after_days, expire_prefixes=args.expire_prefixes),
            opts=ResourceOptions(parent=self, depends_on=[versioning]),
        )
        if args.lock_days is not None:
            aws.s3.BucketObjectLockConfiguration(
                f"{name}-lock",
                bucket=bucket.id,
                # Compliance mode would bind the account's owner, too, for as long as a mistyped number of days.
                rule={"default_retention": {"mode": "GOVERNANCE", "days": args.lock_days}},
                opts=ResourceOptions(parent=self, depends_on=[versioning]),
            )
        # S3 takes one change of a bucket's access at a time, hence the order.
        aws.s3.BucketPolicy(
            f"{name}-policy",
            bucket=bucket.id,
            policy=document(
                [
                    *transport_statements(bucket.arn),
                    customer_key_statement(bucket.arn),
                    *args.statements(bucket.arn),
                ]
            ),
            opts=ResourceOptions(parent=self, depends_on=[public_access_block]),
        )
        if args.log_bucket is not None:
            aws.s3.BucketLogging(
                f"{name}-logging",
                bucket=bucket.id,
                target_bucket=args.log_bucket,
                target_prefix=f"s3/{name}/",
                opts=ResourceOptions(parent=self),
            )
        self.register_outputs({"id": self.id, "arn": self.arn})

    def read_statements(self, prefixes: Sequence[str]) -> list[Statement]:
        """A grant to read what lies below these prefixes, and to decrypt it; nobody who knows names has to list."""
        return [
            Statement(
                sid="ReadObjects",
                actions=["s3:GetObject"],
                resources=[pulumi.Output.concat(self.arn, f"/{each}*") for each in prefixes],
            ),
            *([self._args.key.decrypt_statement(sid="DecryptObjects", via="s3")] if self._args.key is not None else []),
        ]

    def write_statements(self, prefixes: Sequence[str]) -> list[Statement]:
        """A grant to store below these prefixes, large files in parts, and to encrypt what is stored."""
        return [
            Statement(
                sid="WriteObjects",
                actions=["s3:PutObject", "s3:AbortMultipartUpload"],
                resources=[pulumi.Output.concat(self.arn, f"/{each}*") for each in prefixes],
            ),
            *([self._args.key.encrypt_statement(sid="EncryptObjects", via="s3")] if self._args.key is not None else []),
        ]

    def work_statements(self, *, of: str, prefix: str = "", deletes: bool = False) -> list[Statement]:
        """A grant to read, write and list below a prefix, or everywhere, and with `deletes` to delete there.

        `of` tells the statements of several buckets apart. Who may list is told that an object is not there, and not
        that it is forbidden.
        """
        listing: Conditions = {"StringLike": {"s3:prefix": f"{prefix}*"}} if prefix else {}
        changing = ["s3:DeleteObject"] if deletes else []
        return [
            Statement(
                sid=f"Use{of}",
                actions=["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", *changing],
                resources=[pulumi.Output.concat(self.arn, f"/{prefix}*")],
            ),
            Statement(sid=f"List{of}", actions=["s3:ListBucket"], resources=[self.arn], conditions=listing),
            *([self._args.key.encrypt_statement(sid=f"Encrypt{of}", via="s3")] if self._args.key is not None else []),
        ]


def lifecycle_rules(
    *, expire_after_days: int | None, expire_prefixes: Mapping[str, int]
) -> list[aws.s3.BucketLifecycleConfigurationRuleArgsDict]:
    """Old versions and broken uploads go; with `expire_after_days` current objects do, too, or those below a prefix.

    A deletion leaves a marker, which goes once no version lies below it; where objects expire, S3 sees to that itself.
    """
    rule: aws.s3.BucketLifecycleConfigurationRuleArgsDict = {
        "id": "expire",
        "status": "Enabled",
        "filter": {"prefix": ""},
        "noncurrent_version_expiration": {"noncurrent_days": KEEP_OLD_VERSIONS_DAYS},
        "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
    }
    if expire_after_days is None:
        rule["expiration"] = {"expired_object_delete_marker": True}
    else:
        rule["expiration"] = {"days": expire_after_days}
    return [rule, *(_expiring(prefix, days=days) for prefix, days in expire_prefixes.items())]


def _expiring(prefix: str, *, days: int) -> aws.s3.BucketLifecycleConfigurationRuleArgsDict:
    return {
        "id": f"expire-{prefix.strip('/')}",
        "status": "Enabled",
        "filter": {"prefix": prefix},
        "expiration": {"days": days},
    }


def _encryption(
    key: EncryptionKey | None, *, bucket_key: bool
) -> aws.s3.BucketServerSideEncryptionConfigurationRuleArgsDict:
    blocked = ["SSE-C"]
    if key is None:
        return {
            "apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"},
            "blocked_encryption_types": blocked,
        }
    return {
        "apply_server_side_encryption_by_default": {"sse_algorithm": "aws:kms", "kms_master_key_id": key.arn},
        "bucket_key_enabled": bucket_key,
        "blocked_encryption_types": blocked,
    }
