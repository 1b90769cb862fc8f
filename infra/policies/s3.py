"""Rules for buckets."""

import re
from collections.abc import Sequence

from infra.policies.answers import FINE, Answer
from infra.policies.documents import (
    PolicyStatement,
    any_statement,
    denies_plain_transport,
    each_statement,
    no_allow_for_anyone,
    no_allow_for_anyone_of,
)
from infra.policies.graph import STACK
from infra.policies.rule import (
    Condition,
    Rule,
    Severity,
    all_of,
    any_item,
    any_of,
    at_least,
    companion,
    companion_passing,
    each_item,
    either,
    fails_if_matching,
    in_stack,
    is_none_of,
    is_not_true,
    is_one_of,
    is_set,
    is_true,
    on,
    under_own_key,
)


def bucket_part(name: str) -> tuple[str, ...]:
    """Both tokens of a part of a bucket: the provider knows each under a name with and without V2."""
    plain = f"aws:s3/{name}:{name[0].upper()}{name[1:]}"
    return (plain, f"aws:s3/{name}V2:{name[0].upper()}{name[1:]}V2")


BUCKET = bucket_part("bucket")
POLICY = ("aws:s3/bucketPolicy:BucketPolicy",)
ACL = bucket_part("bucketAcl")
ENCRYPTION = bucket_part("bucketServerSideEncryptionConfiguration")
LIFECYCLE = bucket_part("bucketLifecycleConfiguration")
_BLOCKS = tuple(
    is_true(each) for each in ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
)
_READ = ("s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket")
_READING = ("s3:get", "s3:list", "s3:describe")
_PUBLIC_GROUPS = ("/groups/global/AllUsers", "/groups/global/AuthenticatedUsers")
_ENABLED = is_one_of("status", "Enabled")
# A rule that only takes delete markers away lets no version end.
_VERSIONS_END = either(*map(is_set, ("noncurrentVersionExpiration", "expiration.days", "expiration.date")))
_KEY = "applyServerSideEncryptionByDefault.kmsMasterKeyId"


_BY_KMS = any_item(
    "rules", is_one_of("applyServerSideEncryptionByDefault.sseAlgorithm", "aws:kms", "aws:kms:dsse"), is_set(_KEY)
)
_BY_S3 = any_item("rules", is_one_of("applyServerSideEncryptionByDefault.sseAlgorithm", "AES256"))


def _denies_other_keys(statement: PolicyStatement) -> bool:
    named = statement.conditions.get("stringnotequals", {})
    return (
        not statement.allows
        and statement.for_anyone
        and statement.may("s3:PutObject")
        and "s3:x-amz-server-side-encryption-aws-kms-key-id" in named
    )


def _writes(action: str) -> bool:
    """Whether an action, or a pattern of actions, changes a bucket or what is in it: what does not only read does."""
    service = action.lower().partition(":")[0]
    return (service == "s3" or "*" in service or "?" in service) and not action.lower().startswith(_READING)


def _no_write_for_anyone(statement: PolicyStatement) -> Answer:
    return no_allow_for_anyone(statement) if statement.not_actions or any(map(_writes, statement.actions)) else FINE


def _whole_bucket(resources: Sequence[str]) -> bool:
    """Whether they are the bucket and every object in it."""
    bucket = any("/" not in each for each in resources)
    return bucket and any(re.fullmatch(r"[^/]*/?\*", each) is not None for each in resources)


def _grants_nobody_else(path: str) -> Condition:
    """No grant's URI is the group of everybody, or that of every AWS user."""
    return fails_if_matching(path, lambda uri: str(uri).endswith(_PUBLIC_GROUPS), "is a group of everybody")


_DENIES_PLAIN_HTTP = any_statement(
    "policy",
    denies_plain_transport("s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:DeleteObject", whole=_whole_bucket),
    otherwise="no statement denies requests without TLS to the bucket and all objects",
)
_DENIES_OTHER_KEYS = any_statement("policy", _denies_other_keys, otherwise="no statement denies other keys")


RULES = (
    Rule(
        id="s3-account-blocks-public-access",
        severity=Severity.MEDIUM,
        types=(STACK,),
        check=in_stack(("aws:s3/accountPublicAccessBlock:AccountPublicAccessBlock",), *_BLOCKS),
        scope="graph",
        reason="S3.1 checks that all four block public access settings are on for the account, for buckets yet to come",
        remedy="declare an AccountPublicAccessBlock with all four settings, once per account",
        control="S3.1",
    ),
    Rule(
        id="s3-no-public-read",
        severity=Severity.HIGH,
        types=(*POLICY, *BUCKET),
        check=on(each_statement("policy", no_allow_for_anyone_of(*_READ))),
        reason="S3.2 checks that neither policy nor ACL lets everybody read a bucket",
        remedy="name the principals that may read, or limit the statement to an account",
        control="S3.2",
        cdk_nag="AwsSolutions-S2",
    ),
    Rule(
        id="s3-no-public-write",
        severity=Severity.HIGH,
        types=(*POLICY, *BUCKET),
        check=on(each_statement("policy", _no_write_for_anyone)),
        reason="S3.3 checks that neither policy nor ACL lets everybody write to a bucket",
        remedy="name the principals that may write, or limit the statement to an account",
        control="S3.3",
        cdk_nag="AwsSolutions-S2",
    ),
    Rule(
        id="s3-no-public-acl",
        severity=Severity.HIGH,
        types=(*BUCKET, *ACL),
        check=on(
            is_none_of("acl", "public-read", "public-read-write", "authenticated-read", default="private"),
            each_item("grants", _grants_nobody_else("uri")),
            each_item("accessControlPolicy.grants", _grants_nobody_else("grantee.uri")),
        ),
        reason="S3.2 and S3.3 fail for a bucket whose ACL grants everybody or every AWS user access",
        remedy="leave acl out; grants are the bucket policy's",
        control="S3.2",
        cdk_nag="AwsSolutions-S2",
    ),
    Rule(
        id="s3-tls-only",
        severity=Severity.MEDIUM,
        types=BUCKET,
        check=companion(POLICY, "bucket", _DENIES_PLAIN_HTTP),
        scope="graph",
        reason="S3.5 checks that the bucket's policy denies requests with aws:SecureTransport false",
        remedy="deny s3:* to everybody where aws:SecureTransport is false",
        control="S3.5",
        cdk_nag="AwsSolutions-S10",
    ),
    Rule(
        id="s3-blocks-public-access",
        severity=Severity.HIGH,
        types=BUCKET,
        check=companion(("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",), "bucket", *_BLOCKS),
        scope="graph",
        reason="S3.8 checks that all four block public access settings are on for the bucket",
        remedy="give the bucket a BucketPublicAccessBlock with all four settings true",
        control="S3.8",
        cdk_nag="AwsSolutions-S2",
    ),
    Rule(
        id="s3-access-logged",
        severity=Severity.MEDIUM,
        types=BUCKET,
        check=companion(bucket_part("bucketLogging"), "bucket", is_set("targetBucket")),
        scope="graph",
        reason="S3.9 checks that server access logging is on: who read or changed which object, and when",
        remedy="give the bucket a BucketLogging with a log bucket as its target",
        control="S3.9",
        cdk_nag="AwsSolutions-S1",
    ),
    Rule(
        id="s3-old-versions-end",
        severity=Severity.MEDIUM,
        types=BUCKET,
        check=companion(
            LIFECYCLE,
            "bucket",
            any_item("rules", _ENABLED, _VERSIONS_END),
        ),
        scope="graph",
        reason="S3.10 checks that a versioned bucket has a lifecycle: without one every old version is kept for ever",
        remedy="add a lifecycle rule with noncurrentVersionExpiration",
        control="S3.10",
    ),
    Rule(
        id="s3-events",
        severity=Severity.MEDIUM,
        types=BUCKET,
        check=companion(
            ("aws:s3/bucketNotification:BucketNotification",),
            "bucket",
            either(is_true("eventbridge"), is_set("queues"), is_set("topics"), is_set("lambdaFunctions")),
        ),
        scope="graph",
        reason="S3.11 checks that events of the bucket are published, so that somebody can act on them",
        remedy="give the bucket a BucketNotification with eventbridge true",
        control="S3.11",
    ),
    Rule(
        id="s3-owner-enforced",
        severity=Severity.MEDIUM,
        types=BUCKET,
        check=companion(
            ("aws:s3/bucketOwnershipControls:BucketOwnershipControls",),
            "bucket",
            is_one_of("rule.objectOwnership", "BucketOwnerEnforced"),
        ),
        scope="graph",
        reason="S3.12 checks that ACLs do not manage access: with BucketOwnerEnforced there are none",
        remedy="give the bucket BucketOwnershipControls with BucketOwnerEnforced",
        control="S3.12",
    ),
    Rule(
        id="s3-lifecycle",
        severity=Severity.LOW,
        types=BUCKET,
        check=companion(LIFECYCLE, "bucket", any_item("rules", _ENABLED)),
        scope="graph",
        reason="S3.13 checks that the bucket has a lifecycle configuration with an enabled rule",
        remedy="give the bucket a BucketLifecycleConfiguration",
        control="S3.13",
    ),
    Rule(
        id="s3-uploads-end",
        severity=Severity.LOW,
        types=LIFECYCLE,
        check=on(
            any_item("rules", _ENABLED, at_least("abortIncompleteMultipartUpload.daysAfterInitiation", 1)),
        ),
        reason="parts of an upload that broke off are stored and paid for, and no listing shows them",
        remedy="add abortIncompleteMultipartUpload to an enabled lifecycle rule",
    ),
    Rule(
        id="s3-versioned",
        severity=Severity.LOW,
        types=BUCKET,
        check=companion(
            bucket_part("bucketVersioning"), "bucket", is_one_of("versioningConfiguration.status", "Enabled")
        ),
        scope="graph",
        reason="S3.14 checks that versioning is on: an object that was overwritten or deleted can be had again",
        remedy="give the bucket a BucketVersioning with status Enabled",
        control="S3.14",
    ),
    Rule(
        id="s3-object-lock",
        severity=Severity.MEDIUM,
        types=BUCKET,
        check=on(is_true("objectLockEnabled")),
        reason="S3.15 checks that Object Lock is on, so that versions can be kept from deletion for a time",
        remedy="make the bucket with objectLockEnabled; it cannot be put on later without AWS Support",
        control="S3.15",
    ),
    Rule(
        id="s3-own-key",
        severity=Severity.MEDIUM,
        types=BUCKET,
        check=companion_passing(ENCRYPTION, "bucket", all_of(on(_BY_KMS), under_own_key("rules"))),
        scope="graph",
        reason="S3.17 checks that objects are encrypted under a KMS key; here it has to be one of this stack",
        remedy="give the bucket a BucketServerSideEncryptionConfiguration with aws:kms and a key of the stack",
        control="S3.17",
    ),
    Rule(
        id="s3-no-other-key",
        severity=Severity.MEDIUM,
        types=BUCKET,
        # Under S3's own key there is no key of ours to keep to; s3-own-key speaks of that.
        check=any_of(companion(ENCRYPTION, "bucket", _BY_S3), companion(POLICY, "bucket", _DENIES_OTHER_KEYS)),
        scope="graph",
        reason="a default key is only a default: a writer may name another, and so take the objects out of our hands",
        remedy="deny s3:PutObject where s3:x-amz-server-side-encryption-aws-kms-key-id names another key",
    ),
    Rule(
        id="s3-no-force-destroy",
        severity=Severity.MEDIUM,
        types=BUCKET,
        check=on(is_not_true("forceDestroy")),
        reason="with forceDestroy a deleted or replaced bucket takes every object and version with it",
        remedy="leave forceDestroy out where the data matters",
    ),
)
