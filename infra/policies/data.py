"""Rules for images, tables, queues, topics and log groups: under the stack's own keys, recoverable, and bounded."""

from infra.policies.documents import any_statement, denies_plain_transport, each_statement, no_allow_for_anyone
from infra.policies.rule import (
    Rule,
    Severity,
    all_of,
    at_least,
    companion,
    either,
    is_none_of,
    is_one_of,
    is_set,
    is_true,
    on,
    under_own_key,
)

REPOSITORY = ("aws:ecr/repository:Repository",)
TABLE = ("aws:dynamodb/table:Table",)
QUEUE = ("aws:sqs/queue:Queue",)
QUEUE_POLICY = ("aws:sqs/queuePolicy:QueuePolicy",)
TOPIC = ("aws:sns/topic:Topic",)
TOPIC_POLICY = ("aws:sns/topicPolicy:TopicPolicy",)
LOG_GROUP = ("aws:cloudwatch/logGroup:LogGroup",)
_NO_DENIAL = "no statement denies requests without TLS"
_DENIES_PLAIN_SQS = any_statement(
    "policy", denies_plain_transport("sqs:SendMessage", "sqs:ReceiveMessage"), otherwise=_NO_DENIAL
)
_DENIES_PLAIN_SNS = any_statement("policy", denies_plain_transport("sns:Publish"), otherwise=_NO_DENIAL)


RULES = (
    Rule(
        id="ecr-scanned",
        severity=Severity.HIGH,
        types=REPOSITORY,
        check=on(is_true("imageScanningConfiguration.scanOnPush")),
        reason="ECR.1 checks that images are scanned for known vulnerabilities when they are pushed",
        remedy="set imageScanningConfiguration.scanOnPush",
        control="ECR.1",
    ),
    Rule(
        id="ecr-immutable",
        severity=Severity.MEDIUM,
        types=REPOSITORY,
        check=on(is_one_of("imageTagMutability", "IMMUTABLE", default="MUTABLE")),
        reason="ECR.2 checks that tags are immutable: what was tested under a name is what runs under it",
        remedy="set imageTagMutability IMMUTABLE",
        control="ECR.2",
    ),
    Rule(
        id="ecr-lifecycle",
        severity=Severity.MEDIUM,
        types=REPOSITORY,
        check=companion(("aws:ecr/lifecyclePolicy:LifecyclePolicy",), "repository", is_set("policy")),
        scope="graph",
        reason="ECR.3 checks that a repository has a lifecycle policy, lest images with old holes stay to be pulled",
        remedy="give the repository a LifecyclePolicy",
        control="ECR.3",
    ),
    Rule(
        id="ecr-own-key",
        severity=Severity.MEDIUM,
        types=REPOSITORY,
        check=all_of(
            on(is_one_of("encryptionConfigurations.0.encryptionType", "KMS", "KMS_DSSE", default="AES256")),
            under_own_key("encryptionConfigurations.0.kmsKey"),
        ),
        scope="graph",
        reason="images hold this project's code, and are pulled by whoever may use their key",
        remedy="set encryptionConfigurations with KMS and a key of the stack",
    ),
    Rule(
        id="ecr-not-public",
        severity=Severity.HIGH,
        types=("aws:ecr/repositoryPolicy:RepositoryPolicy",),
        check=on(each_statement("policy", no_allow_for_anyone)),
        reason="a repository that everybody may pull from or push to is a way in",
        remedy="name the principals",
        cdk_nag="AwsSolutions-ECR1",
    ),
    Rule(
        id="dynamodb-recoverable",
        severity=Severity.MEDIUM,
        types=TABLE,
        check=on(is_true("pointInTimeRecovery.enabled")),
        reason="DynamoDB.2 checks that a table can be restored to any second of the last 35 days",
        remedy="set pointInTimeRecovery.enabled",
        control="DynamoDB.2",
        cdk_nag="AwsSolutions-DDB3",
    ),
    Rule(
        id="dynamodb-deletion-protected",
        severity=Severity.MEDIUM,
        types=TABLE,
        check=on(is_true("deletionProtectionEnabled")),
        reason="DynamoDB.6 checks that a table cannot be deleted by one call",
        remedy="set deletionProtectionEnabled",
        control="DynamoDB.6",
    ),
    Rule(
        id="dynamodb-own-key",
        severity=Severity.MEDIUM,
        types=TABLE,
        check=all_of(on(is_true("serverSideEncryption.enabled")), under_own_key("serverSideEncryption.kmsKeyArn")),
        scope="graph",
        reason="under a key of the stack a table is read by nobody whom the key's policy does not know",
        remedy="set serverSideEncryption with enabled and kmsKeyArn",
    ),
    Rule(
        id="sqs-encrypted",
        severity=Severity.MEDIUM,
        types=QUEUE,
        check=on(either(is_set("kmsMasterKeyId"), is_none_of("sqsManagedSseEnabled", False, default=True))),
        reason="SQS.1 checks that queues are encrypted at rest",
        remedy="set kmsMasterKeyId",
        control="SQS.1",
    ),
    Rule(
        id="sqs-own-key",
        severity=Severity.MEDIUM,
        types=QUEUE,
        check=under_own_key("kmsMasterKeyId"),
        scope="graph",
        reason="messages carry what consumers sent; under a key of the stack only its users read them",
        remedy="set kmsMasterKeyId to a key of the stack",
    ),
    Rule(
        id="sqs-tls-only",
        severity=Severity.MEDIUM,
        types=QUEUE,
        check=companion(
            QUEUE_POLICY,
            "queueUrl",
            _DENIES_PLAIN_SQS,
        ),
        scope="graph",
        reason="a queue answers plain HTTP unless its policy denies it",
        remedy="deny sqs:* to everybody where aws:SecureTransport is false",
        cdk_nag="AwsSolutions-SQS4",
    ),
    Rule(
        id="sqs-not-public",
        severity=Severity.HIGH,
        types=(*QUEUE_POLICY, *TOPIC_POLICY),
        check=on(each_statement("policy", no_allow_for_anyone)),
        reason="a queue or topic open to everybody takes anybody's messages for ours",
        remedy="name the principals, or limit the statement to an account",
    ),
    Rule(
        id="sns-own-key",
        severity=Severity.MEDIUM,
        types=TOPIC,
        check=under_own_key("kmsMasterKeyId"),
        scope="graph",
        reason="SNS.1 checks that topics are encrypted at rest with a KMS key; here it has to be one of this stack",
        remedy="set kmsMasterKeyId to a key of the stack",
        control="SNS.1",
    ),
    Rule(
        id="sns-tls-only",
        severity=Severity.MEDIUM,
        types=TOPIC,
        check=companion(TOPIC_POLICY, "arn", _DENIES_PLAIN_SNS),
        scope="graph",
        reason="a topic takes what is published by plain HTTP unless its policy denies it",
        remedy="deny sns:Publish to everybody where aws:SecureTransport is false",
        cdk_nag="AwsSolutions-SNS3",
    ),
    Rule(
        id="logs-end",
        severity=Severity.MEDIUM,
        types=LOG_GROUP,
        check=on(at_least("retentionInDays", 1)),
        reason="a log group without retention is kept and paid for for ever, whatever the settings say of it",
        remedy="set retentionInDays",
    ),
    Rule(
        id="logs-own-key",
        severity=Severity.MEDIUM,
        types=LOG_GROUP,
        check=under_own_key("kmsKeyId"),
        scope="graph",
        reason="logs say who called what and when; under a key of the stack only its users read them",
        remedy="set kmsKeyId to a key of the stack",
    ),
)
