"""Which calls pass the endpoints of AWS services: those of this account, to what is this account's."""

from collections.abc import Sequence

import pulumi

from infra.iam import ANYONE, Conditions, Statement
from infra.site import Site


def s3_statements(site: Site) -> list[Statement]:
    """What may pass the S3 endpoint: the account's own buckets, and what AWS serves image layers and packages from."""
    own = {"StringEquals": {"aws:PrincipalAccount": site.account_id, "aws:ResourceAccount": site.account_id}}
    shared = f"arn:{site.partition}:s3:::"
    return [
        Statement(
            sid="OwnBuckets",
            actions=["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListBucket"],
            resources=["*"],  # the buckets of this account only, by the condition
            principals=ANYONE,
            conditions=own,
        ),
        Statement(
            sid="ImageLayersAndPackages",
            actions=["s3:GetObject"],
            # https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html; the second is the host that dnf
            # resolves to on Amazon Linux 2023. Neither is asked with the account's credentials.
            resources=[
                f"{shared}prod-{site.region}-starport-layer-bucket/*",
                f"{shared}al2023-repos-{site.region}-de612dc2/*",
            ],
            principals=ANYONE,
        ),
    ]


def dynamodb_statements(site: Site) -> list[Statement]:
    """What may pass the DynamoDB endpoint: items of the account's own tables."""
    return [
        Statement(
            sid="OwnTables",
            actions=["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"],
            resources=[site.arn(service="dynamodb", resource="table/*")],
            principals=ANYONE,
            conditions=_own_principals(site),
        )
    ]


def interface_statements(site: Site, *, repository_arns: Sequence[pulumi.Input[str]]) -> dict[str, list[Statement]]:
    """The services that are reached at interface endpoints, each with what may pass.

    `repository_arns` are the image repositories beside the account's own.
    """
    return {
        **_registry(site, [site.arn(service="ecr", resource="repository/*"), *repository_arns]),
        "logs": [
            _own(site, "Write", ["logs:CreateLogStream", "logs:PutLogEvents"], service="logs", resource="log-group:*")
        ],
        "monitoring": [
            Statement(
                sid="Measure",
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],  # metrics are no resources; the namespace is the limit
                principals=ANYONE,
                conditions={
                    "StringEquals": {**_own_principals(site)["StringEquals"], "cloudwatch:namespace": site.project},
                },
            )
        ],
        "kms": [
            _own(site, "UseKeys", _KEY_ACTIONS, service="kms", resource="key/*"),
        ],
        "sts": [
            _any(site, "WhoAmI", ["sts:GetCallerIdentity"]),  # it names no resource
            Statement(
                sid="AssumeOwnRoles",
                actions=["sts:AssumeRole"],
                resources=[pulumi.Output.format("arn:{0}:iam::{1}:role/*", site.partition, site.account_id)],
                principals=ANYONE,
                conditions=_own_principals(site),
            ),
        ],
        "sqs": [_own(site, "UseQueues", _QUEUE_ACTIONS, service="sqs", resource="*")],
        "secretsmanager": [
            _own(
                site,
                "ReadSecrets",
                ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"],
                service="secretsmanager",
                resource="secret:*",
            )
        ],
        "autoscaling": [
            _own(
                site,
                "ReportLifecycle",
                ["autoscaling:CompleteLifecycleAction", "autoscaling:SetInstanceHealth"],
                service="autoscaling",
                resource="autoScalingGroup:*:autoScalingGroupName/*",
            )
        ],
        "ssm": [
            _own(
                site,
                "ReadParameters",
                ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"],
                service="ssm",
                resource="parameter/*",
            ),
            _any(site, "Agent", _SSM_AGENT_ACTIONS),  # the agent's calls name no resource, or AWS's own documents
        ],
        "kinesis-firehose": [
            _own(site, "SendUsage", ["firehose:PutRecordBatch"], service="firehose", resource="deliverystream/*")
        ],
        "ec2messages": [_any(site, "AgentMessages", _MESSAGE_ACTIONS)],  # they name no resource
        **_containers(site),
    }


_KEY_ACTIONS = ("kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey", "kms:GetPublicKey", "kms:Sign", "kms:Verify")
_QUEUE_ACTIONS = (
    "sqs:SendMessage",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:GetQueueAttributes",
    "sqs:GetQueueUrl",
)
_CLUSTER_ACTIONS = (
    "ecs:RegisterContainerInstance",
    "ecs:DeregisterContainerInstance",
    "ecs:SubmitAttachmentStateChanges",
    "ecs:SubmitContainerStateChange",
    "ecs:SubmitTaskStateChange",
)
# https://docs.aws.amazon.com/systems-manager/latest/userguide/setup-instance-permissions.html
_SSM_AGENT_ACTIONS = (
    "ssm:UpdateInstanceInformation",
    "ssm:ListAssociations",
    "ssm:ListInstanceAssociations",
    "ssm:UpdateInstanceAssociationStatus",
    "ssm:GetDocument",
    "ssm:DescribeDocument",
    "ssm:GetManifest",
    "ssm:PutInventory",
)
_MESSAGE_ACTIONS = (
    "ec2messages:AcknowledgeMessage",
    "ec2messages:DeleteMessage",
    "ec2messages:FailMessage",
    "ec2messages:GetEndpoint",
    "ec2messages:GetMessages",
    "ec2messages:SendReply",
)


def _containers(site: Site) -> dict[str, list[Statement]]:
    """What ECS's agent on an instance of AWS Batch says and hears; Batch itself is called by nobody in the network.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/vpc-endpoints.html
    """
    instances = "container-instance/*"
    return {
        "ecs": [
            _own(site, "JoinCluster", _CLUSTER_ACTIONS, service="ecs", resource="cluster/*"),
            _own(
                site,
                "OwnInstance",
                ["ecs:UpdateContainerInstancesState", "ecs:TagResource"],
                service="ecs",
                resource=instances,
            ),
            _any(site, "FindAgentEndpoint", ["ecs:DiscoverPollEndpoint"]),  # it names no resource
        ],
        "ecs-agent": [_own(site, "HearOfTasks", ["ecs:Poll"], service="ecs", resource=instances)],
        "ecs-telemetry": [_own(site, "Measure", ["ecs:StartTelemetrySession"], service="ecs", resource=instances)],
    }


def _registry(site: Site, repository_arns: Sequence[pulumi.Input[str]]) -> dict[str, list[Statement]]:
    pull = Statement(
        sid="Pull",
        actions=["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        resources=repository_arns,
        principals=ANYONE,
        conditions=_own_principals(site),
    )
    # The login is to the registry as a whole.
    return {"ecr.api": [_any(site, "RegistryLogin", ["ecr:GetAuthorizationToken"]), pull], "ecr.dkr": [pull]}


def _own(site: Site, sid: str, actions: Sequence[str], *, service: str, resource: str) -> Statement:
    """Calls of this account's principals to what is this account's, in this region."""
    return Statement(
        sid=sid,
        actions=actions,
        resources=[site.arn(service=service, resource=resource)],
        principals=ANYONE,
        conditions=_own_principals(site),
    )


def _any(site: Site, sid: str, actions: Sequence[str]) -> Statement:
    """Calls of this account's principals that name no resource; whoever asks for it says why there is none."""
    return Statement(
        sid=sid,
        actions=actions,
        resources=["*"],  # these calls name none
        principals=ANYONE,
        conditions=_own_principals(site),
    )


def _own_principals(site: Site) -> Conditions:
    return {"StringEquals": {"aws:PrincipalAccount": site.account_id}}
