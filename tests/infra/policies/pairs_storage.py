"""Pairs for buckets, images, tables, queues, topics, logs and trails."""

from typing import Any

from infra.policies.graph import Graph
from tests.infra.policies.pair import KEY_URN, Pair, alone, denial, in_stack, resource, statement, together

BUCKET = "aws:s3/bucket:Bucket"
BUCKET_POLICY = "aws:s3/bucketPolicy:BucketPolicy"
BUCKET_ACL = "aws:s3/bucketAcl:BucketAcl"
ENCRYPTION = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
LIFECYCLE = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
BLOCK = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
LOGGING = "aws:s3/bucketLogging:BucketLogging"
REPOSITORY = "aws:ecr/repository:Repository"
TABLE = "aws:dynamodb/table:Table"
QUEUE = "aws:sqs/queue:Queue"
TOPIC = "aws:sns/topic:Topic"
LOG_GROUP = "aws:cloudwatch/logGroup:LogGroup"
TRAIL = "aws:cloudtrail/trail:Trail"

ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
BLOCKED = {"blockPublicAcls": True, "blockPublicPolicy": True, "ignorePublicAcls": True, "restrictPublicBuckets": True}
BY_KMS = {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": "arn:key"}
ANYONE = {"AWS": "*"}
OTHER_KEY = {
    "policy": statement(
        Effect="Deny", Principal="*", Action="s3:PutObject", Resource="x",
        Condition={"StringNotEquals": {"s3:x-amz-server-side-encryption-aws-kms-key-id": "arn:key"}},
    )
}  # fmt: skip


def one_less(full: dict[str, Any]) -> list[dict[str, Any]]:
    """The properties with each one switched off, and with each one left out."""
    return [{**full, key: False} for key in full] + [{k: v for k, v in full.items() if k != key} for key in full]


def policy(**elements: Any) -> dict[str, Any]:
    """A resource's policy of one statement."""
    return {"policy": statement(**elements)}


def of_bucket(fine: list[dict[str, Any]], wrong: list[dict[str, Any]]) -> Pair:
    """Pairs of a bucket's policy, as a resource and as the bucket's own property."""
    pairs = [alone(each, fine, wrong) for each in (BUCKET_POLICY, BUCKET)]
    return Pair(
        fine=(*(graph for each in pairs for graph in each.fine), Graph((resource(BUCKET, {}),))),
        wrong=tuple(graph for each in pairs for graph in each.wrong),
    )


def encryption(**default: Any) -> dict[str, Any]:
    """A bucket's encryption."""
    return {"rules": [{"applyServerSideEncryptionByDefault": default}]}


def lifecycle(**rule: Any) -> dict[str, Any]:
    """A bucket's lifecycle of one rule."""
    return {"rules": [{"id": "a", "status": "Enabled", **rule}]}


def granted(uri: str) -> dict[str, Any]:
    """A bucket's ACL that grants a group everything."""
    return {
        "accessControlPolicy": {"grants": [{"grantee": {"type": "Group", "uri": uri}, "permission": "FULL_CONTROL"}]}
    }


def trail_into(*parts: tuple[str, dict[str, Any]]) -> Graph:
    """A trail, its bucket, and parts of that bucket."""
    bucket = resource(BUCKET, {}, name="trail-bucket")
    trail = resource(TRAIL, {"s3BucketName": "<unknown>"}, s3BucketName=bucket.urn)
    return Graph(
        (trail, bucket, *(resource(kind, properties, name=kind, bucket=bucket.urn) for kind, properties in parts))
    )


PAIRS: dict[str, Pair] = {
    "s3-account-blocks-public-access": in_stack(
        "aws:s3/accountPublicAccessBlock:AccountPublicAccessBlock", [BLOCKED], one_less(BLOCKED)
    ),
    "s3-no-public-read": of_bucket(
        [
            policy(Principal={"Service": "logging.s3.amazonaws.com"}, Action="s3:PutObject", Resource="x"),
            policy(
                Principal=ANYONE,
                Action="s3:GetObject",
                Resource="x",
                Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}},
            ),
            policy(Effect="Deny", Principal="*", Action="s3:*", Resource="x"),
        ],
        [
            policy(Principal="*", Action="s3:GetObject", Resource="x"),
            policy(Principal=ANYONE, Action="s3:*", Resource="x"),
            policy(
                Principal=ANYONE, Action="s3:List*", Resource="x", Condition={"Bool": {"aws:SecureTransport": "true"}}
            ),
        ],
    ),
    "s3-no-public-write": of_bucket(
        [policy(Principal=ANYONE, Action="s3:GetObject", Resource="x")],
        [
            policy(Principal="*", Action="s3:PutObject", Resource="x"),
            policy(Principal=ANYONE, Action="s3:*", Resource="x"),
            policy(Principal=ANYONE, NotAction="s3:GetObject", Resource="x"),
            *(
                policy(Principal=ANYONE, Action=each, Resource="x")
                for each in (
                    "s3:DeleteObjectVersion",
                    "s3:PutLifecycleConfiguration",
                    "s3:Put*",
                    "s?:PutObjectRetention",
                )
            ),
        ],
    ),
    "s3-no-public-acl": Pair(
        fine=(
            *(Graph((resource(BUCKET, each),)) for each in ({}, {"acl": "private"}, {"grants": [{"id": "someone"}]})),
            Graph((resource(BUCKET_ACL, granted("http://acs.amazonaws.com/groups/s3/LogDelivery")),)),
        ),
        wrong=(
            *(Graph((resource(BUCKET, each),)) for each in ({"acl": "public-read"}, {"acl": "public-read-write"})),
            Graph((resource(BUCKET, {"grants": [{"uri": ALL_USERS, "permissions": ["READ"]}]}),)),
            Graph((resource(BUCKET_ACL, granted(ALL_USERS)),)),
        ),
    ),
    "s3-tls-only": together(
        BUCKET,
        BUCKET_POLICY,
        "bucket",
        [
            {"policy": denial("s3")},
            {"policy": denial("s3", ["arn:aws:s3:::b", "arn:aws:s3:::b/*"])},
            {"policy": denial("s3", "arn:aws:s3:::b*")},
        ],
        [
            policy(Action="s3:*"),
            {},
            {"policy": denial("s3", "arn:aws:s3:::b/*")},
            {"policy": denial("s3", "arn:aws:s3:::b")},
            {"policy": denial("s3", ["arn:aws:s3:::b", "arn:aws:s3:::b/public/*"])},
        ],
    ),
    "s3-blocks-public-access": together(BUCKET, BLOCK, "bucket", [BLOCKED], one_less(BLOCKED)),
    "s3-access-logged": together(BUCKET, LOGGING, "bucket", [{"targetBucket": "logs"}], [{}]),
    "s3-old-versions-end": together(
        BUCKET,
        LIFECYCLE,
        "bucket",
        [lifecycle(noncurrentVersionExpiration={"noncurrentDays": 9}), lifecycle(expiration={"days": 9})],
        [
            lifecycle(),
            lifecycle(expiration={"expiredObjectDeleteMarker": True}),
            lifecycle(noncurrentVersionExpiration={"noncurrentDays": 9}, status="Disabled"),
        ],
    ),
    "s3-events": together(
        BUCKET,
        "aws:s3/bucketNotification:BucketNotification",
        "bucket",
        [{"eventbridge": True}],
        [{}, {"eventbridge": False}],
    ),
    "s3-owner-enforced": together(
        BUCKET,
        "aws:s3/bucketOwnershipControls:BucketOwnershipControls",
        "bucket",
        [{"rule": {"objectOwnership": "BucketOwnerEnforced"}}],
        [{"rule": {"objectOwnership": "ObjectWriter"}}],
    ),
    "s3-lifecycle": together(BUCKET, LIFECYCLE, "bucket", [lifecycle()], [{"rules": []}, lifecycle(status="Disabled")]),
    "s3-uploads-end": alone(
        LIFECYCLE,
        [lifecycle(abortIncompleteMultipartUpload={"daysAfterInitiation": 7})],
        [lifecycle(), lifecycle(status="Disabled", abortIncompleteMultipartUpload={"daysAfterInitiation": 7})],
    ),
    "s3-versioned": together(
        BUCKET,
        "aws:s3/bucketVersioning:BucketVersioning",
        "bucket",
        [{"versioningConfiguration": {"status": "Enabled"}}],
        [{"versioningConfiguration": {"status": "Suspended"}}],
    ),
    "s3-object-lock": alone(BUCKET, [{"objectLockEnabled": True}], [{}, {"objectLockEnabled": False}]),
    "s3-own-key": together(
        BUCKET,
        ENCRYPTION,
        "bucket",
        [encryption(**BY_KMS)],
        [encryption(sseAlgorithm="AES256"), encryption(sseAlgorithm="aws:kms"), encryption(**BY_KMS)],
        sources={"rules": KEY_URN},
    ),
    "s3-no-other-key": together(BUCKET, BUCKET_POLICY, "bucket", [OTHER_KEY], [{}, {"policy": denial("s3")}]),
    "s3-no-force-destroy": alone(BUCKET, [{}, {"forceDestroy": False}], [{"forceDestroy": True}]),
    "ecr-scanned": alone(
        REPOSITORY,
        [{"imageScanningConfiguration": {"scanOnPush": True}}],
        [{}, {"imageScanningConfiguration": {"scanOnPush": False}}],
    ),
    "ecr-immutable": alone(REPOSITORY, [{"imageTagMutability": "IMMUTABLE"}], [{}, {"imageTagMutability": "MUTABLE"}]),
    "ecr-lifecycle": together(
        REPOSITORY, "aws:ecr/lifecyclePolicy:LifecyclePolicy", "repository", [{"policy": "{}"}], [{}]
    ),
    "ecr-own-key": alone(
        REPOSITORY,
        [{"encryptionConfigurations": [{"encryptionType": "KMS", "kmsKey": "arn:key"}]}],
        [
            {},
            {"encryptionConfigurations": [{"encryptionType": "AES256"}]},
            {"encryptionConfigurations": [{"encryptionType": "KMS"}]},
        ],
        encryptionConfigurations=KEY_URN,
    ),
    "ecr-not-public": alone(
        "aws:ecr/repositoryPolicy:RepositoryPolicy",
        [policy(Principal={"AWS": "arn:aws:iam::1:role/ci"}, Action="ecr:BatchGetImage")],
        [policy(Principal="*", Action="ecr:BatchGetImage")],
    ),
    "dynamodb-recoverable": alone(
        TABLE, [{"pointInTimeRecovery": {"enabled": True}}], [{}, {"pointInTimeRecovery": {"enabled": False}}]
    ),
    "dynamodb-deletion-protected": alone(
        TABLE, [{"deletionProtectionEnabled": True}], [{}, {"deletionProtectionEnabled": False}]
    ),
    "dynamodb-own-key": alone(
        TABLE,
        [{"serverSideEncryption": {"enabled": True, "kmsKeyArn": "arn:key"}}],
        [
            {},
            {"serverSideEncryption": {"enabled": True}},
            {"serverSideEncryption": {"enabled": False, "kmsKeyArn": "x"}},
        ],
        serverSideEncryption=KEY_URN,
    ),
    "sqs-encrypted": alone(QUEUE, [{}, {"kmsMasterKeyId": "k"}], [{"sqsManagedSseEnabled": False}]),
    "sqs-own-key": alone(
        QUEUE, [{"kmsMasterKeyId": "k"}], [{}, {"kmsMasterKeyId": "alias/aws/sqs"}], kmsMasterKeyId=KEY_URN
    ),
    "sqs-tls-only": together(
        QUEUE,
        "aws:sqs/queuePolicy:QueuePolicy",
        "queueUrl",
        [{"policy": denial("sqs")}],
        [{}, {"policy": denial("s3")}],
    ),
    "sqs-not-public": alone(
        "aws:sqs/queuePolicy:QueuePolicy",
        [policy(Principal="*", Action="sqs:SendMessage", Condition={"ArnLike": {"aws:SourceArn": "arn:x"}})],
        [policy(Principal="*", Action="sqs:SendMessage")],
    ),
    "sns-own-key": alone(
        TOPIC, [{"kmsMasterKeyId": "k"}], [{}, {"kmsMasterKeyId": "alias/aws/sns"}], kmsMasterKeyId=KEY_URN
    ),
    "sns-tls-only": together(
        TOPIC, "aws:sns/topicPolicy:TopicPolicy", "arn", [{"policy": denial("sns")}], [{}, {"policy": denial("sqs")}]
    ),
    "logs-end": alone(LOG_GROUP, [{"retentionInDays": 7}], [{}, {"retentionInDays": 0}]),
    "logs-own-key": alone(
        LOG_GROUP, [{"kmsKeyId": "k"}], [{}, {"kmsKeyId": "arn:aws:kms:eu-west-1:1:key/a"}], kmsKeyId=KEY_URN
    ),
    "cloudtrail-everywhere": in_stack(
        TRAIL,
        [
            {"isMultiRegionTrail": True},
            {"isMultiRegionTrail": True, "eventSelectors": [{"readWriteType": "All"}]},
            {
                "isMultiRegionTrail": True,
                "advancedEventSelectors": [{"fieldSelectors": [{"field": "eventCategory", "equals": ["Management"]}]}],
            },
        ],
        [
            {},
            {"isMultiRegionTrail": True, "eventSelectors": [{"readWriteType": "WriteOnly"}]},
            {"isMultiRegionTrail": True, "eventSelectors": [{"includeManagementEvents": False}]},
            {"isMultiRegionTrail": True, "eventSelectors": [{"excludeManagementEventSources": ["kms.amazonaws.com"]}]},
            {
                "isMultiRegionTrail": True,
                "advancedEventSelectors": [{"fieldSelectors": [{"field": "eventCategory", "equals": ["Data"]}]}],
            },
            {
                "isMultiRegionTrail": True,
                "advancedEventSelectors": [
                    {
                        "fieldSelectors": [
                            {"field": "eventCategory", "equals": ["Management"]},
                            {"field": "readOnly", "equals": ["false"]},
                        ]
                    }
                ],
            },
        ],
    ),
    "cloudtrail-encrypted": alone(TRAIL, [{"kmsKeyId": "k"}], [{}]),
    "cloudtrail-on": in_stack(TRAIL, [{}, {"enableLogging": True}], [{"enableLogging": False}]),
    "cloudtrail-validated": alone(TRAIL, [{"enableLogFileValidation": True}], [{}, {"enableLogFileValidation": False}]),
    "cloudtrail-to-logs": alone(TRAIL, [{"cloudWatchLogsGroupArn": "arn:logs"}], [{}]),
    "cloudtrail-bucket-private": Pair(
        fine=(trail_into((BLOCK, BLOCKED)),),
        wrong=(trail_into(), trail_into((BLOCK, {**BLOCKED, "blockPublicAcls": False}))),
    ),
    "cloudtrail-bucket-logged": Pair(
        fine=(trail_into((LOGGING, {"targetBucket": "logs"})),), wrong=(trail_into(), trail_into((BLOCK, BLOCKED)))
    ),
}
