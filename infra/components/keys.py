"""KMS keys, one per purpose, each with the policy that its users need and no more."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.iam import ANYONE, Conditions, Statement, document_text, same_account
from infra.site import Site

# https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-overview.html
THIS_KEY = ("*",)  # in a key's policy, the key that it is of
_USE = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey")
# Neither a cryptographic operation nor kms:CreateGrant, which could hand one to anybody.
_ADMINISTER = (
    "kms:CreateAlias",
    "kms:UpdateAlias",
    "kms:DeleteAlias",
    "kms:Describe*",
    "kms:Get*",
    "kms:List*",
    "kms:PutKeyPolicy",
    "kms:UpdateKeyDescription",
    "kms:Enable*",
    "kms:Disable*",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:ScheduleKeyDeletion",
    "kms:CancelKeyDeletion",
    "kms:RotateKeyOnDemand",
)


def administered_by_iam(site: Site) -> Statement:
    """IAM policies of the account decide who administers the key; its use needs a statement of its own."""
    return Statement(
        sid="AccountAdministers", actions=_ADMINISTER, resources=THIS_KEY, principals={"AWS": site.root_arn}
    )


def used_through(site: Site, service: str, *, reads_only: bool = False, grants: bool = False) -> list[Statement]:
    """Whoever IAM lets uses the key through one AWS service of this region, and never by a call of its own.

    With `grants` the service also hands itself the key for as long as a resource lives, as DynamoDB, ECR and Lambda do:
    https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-via-service
    """
    through: Conditions = {"StringEquals": {"kms:ViaService": f"{service}.{site.region}.amazonaws.com"}}
    root, name = {"AWS": site.root_arn}, service.capitalize()
    use = ("kms:Decrypt",) if reads_only else ("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*")
    statements = [Statement(sid=f"Through{name}", actions=use, resources=THIS_KEY, principals=root, conditions=through)]
    if grants:
        actions = ("kms:CreateGrant", "kms:RetireGrant")
        statements.append(
            Statement(sid=f"GrantsTo{name}", actions=actions, resources=THIS_KEY, principals=root, conditions=through)
        )
    return statements


def encrypts_for_account(site: Site, *, context: str) -> Statement:
    """Whoever IAM lets may encrypt, with `context` among the encryption context's keys; decrypting is not granted."""
    return Statement(
        sid="AccountEncrypts",
        actions=["kms:Encrypt"],
        resources=THIS_KEY,
        principals={"AWS": site.root_arn},
        conditions=_with_context(context),
    )


def _with_context(key: str) -> Conditions:
    return {"Null": {f"kms:EncryptionContext:{key}": "false"}}


def decrypts_for_role(site: Site, *, role_name: str, context: str) -> Statement:
    """One role alone may decrypt."""
    return Statement(
        sid="OneRoleDecrypts",
        actions=["kms:Decrypt"],
        resources=THIS_KEY,
        principals={"AWS": site.root_arn},
        conditions={**_with_context(context), **_is_role(site, role_name)},
    )


def signs_for_account(site: Site) -> Statement:
    """Whoever IAM lets may sign digests, by the one algorithm that what is signed is verified by."""
    return Statement(
        sid="AccountSigns",
        actions=["kms:Sign"],
        resources=THIS_KEY,
        principals={"AWS": site.root_arn},
        conditions={"StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256", "kms:MessageType": "DIGEST"}},
    )


def never_signed_by_role(site: Site, *, role_name: str) -> Statement:
    """One role never signs, whatever its own policies come to say."""
    return Statement(
        sid="RoleNeverSigns",
        effect="Deny",
        actions=["kms:Sign"],
        resources=THIS_KEY,
        principals={"AWS": site.root_arn},
        conditions=_is_role(site, role_name),
    )


def read_by_role(site: Site, *, role_name: str, service: str) -> Statement:
    """One role reads through an AWS service (e.g. `s3`) what lies there under the key."""
    return Statement(
        sid="RoleReads",
        actions=["kms:Decrypt"],
        resources=THIS_KEY,
        principals={"AWS": site.root_arn},
        conditions={
            "StringEquals": {"kms:ViaService": f"{service}.{site.region}.amazonaws.com"},
            **_is_role(site, role_name),
        },
    )


def _is_role(site: Site, name: str) -> Conditions:
    """Names a role in a condition, since a key's policy cannot name a principal that is made after the key."""
    arn = pulumi.Output.format("arn:{0}:iam::{1}:role/{2}", site.partition, site.account_id, name)
    return {"ArnEquals": {"aws:PrincipalArn": arn}}


def used_by_log_groups(site: Site) -> Statement:
    """CloudWatch Logs encrypts the log groups of this account and region."""
    return Statement(
        sid="LogGroups",
        actions=_USE,
        resources=THIS_KEY,
        principals={"Service": f"logs.{site.region}.amazonaws.com"},
        conditions={
            "ArnLike": {"kms:EncryptionContext:aws:logs:arn": site.arn(service="logs", resource="log-group:*")}
        },
    )


def used_by_alarms(site: Site) -> Statement:
    """CloudWatch publishes alarms to an encrypted topic."""
    return Statement(
        sid="Alarms",
        actions=["kms:Decrypt", "kms:GenerateDataKey*"],
        resources=THIS_KEY,
        principals={"Service": "cloudwatch.amazonaws.com"},
        conditions=same_account(site.account_id),
    )


def used_by_events(site: Site) -> Statement:
    """EventBridge publishes what a rule of this account matched to an encrypted topic."""
    return Statement(
        sid="Events",
        actions=["kms:Decrypt", "kms:GenerateDataKey*"],
        resources=THIS_KEY,
        principals={"Service": "events.amazonaws.com"},
        conditions=same_account(site.account_id),
    )


def used_by_budgets(site: Site) -> Statement:
    """AWS Budgets publishes its notifications to an encrypted topic."""
    return Statement(
        sid="Budgets",
        actions=["kms:Decrypt", "kms:GenerateDataKey*"],
        resources=THIS_KEY,
        principals={"Service": "budgets.amazonaws.com"},
        conditions=same_account(site.account_id),
    )


def used_by_trail(site: Site, *, trail_arn: pulumi.Input[str]) -> list[Statement]:
    """One trail of CloudTrail's encrypts its files; reading them is IAM's to grant.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-kms-key-policy-for-cloudtrail.html
    """
    trails = pulumi.Output.format("arn:{0}:cloudtrail:*:{1}:trail/*", site.partition, site.account_id)
    principals = {"Service": "cloudtrail.amazonaws.com"}
    return [
        Statement(
            sid="TrailEncrypts",
            actions=["kms:GenerateDataKey*"],
            resources=THIS_KEY,
            principals=principals,
            conditions={
                "StringEquals": {"aws:SourceArn": trail_arn},
                "StringLike": {"kms:EncryptionContext:aws:cloudtrail:arn": trails},
            },
        ),
        Statement(
            sid="TrailDescribes",
            actions=["kms:DescribeKey"],
            resources=THIS_KEY,
            principals=principals,
            conditions={"StringEquals": {"aws:SourceArn": trail_arn}},
        ),
    ]


def used_for_volumes(*, role_arn: pulumi.Input[str]) -> list[Statement]:
    """Auto Scaling's service-linked role attaches encrypted volumes.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/key-policy-requirements-EBS-encryption.html
    """
    return [
        Statement(sid="Volumes", actions=_USE, resources=THIS_KEY, principals={"AWS": role_arn}),
        Statement(
            sid="VolumeGrants",
            actions=["kms:CreateGrant"],
            resources=THIS_KEY,
            principals={"AWS": role_arn},
            conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
        ),
    ]


def used_for_volumes_of_batch(site: Site) -> list[Statement]:
    """AWS Batch launches its instances by Auto Scaling, whose role of the account attaches their encrypted volumes.

    That role is made with the first group of the account, and a policy can name no role that is not there yet.
    """
    name = "role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
    role_arn = pulumi.Output.format("arn:{0}:iam::{1}:{2}", site.partition, site.account_id, name)
    only_that_role: Conditions = {
        "StringEquals": {"kms:CallerAccount": site.account_id},
        "ArnEquals": {"aws:PrincipalArn": role_arn},
    }
    return [
        Statement(sid="Volumes", actions=_USE, resources=THIS_KEY, principals=ANYONE, conditions=only_that_role),
        Statement(
            sid="VolumeGrants",
            actions=["kms:CreateGrant"],
            resources=THIS_KEY,
            principals=ANYONE,
            conditions={**only_that_role, "Bool": {"kms:GrantIsForAWSResource": "true"}},
        ),
    ]


@dataclass(frozen=True)
class EncryptionKeyArgs:
    """What the key encrypts, in words, and who may do what with it."""

    site: Site
    purpose: str
    policy: Sequence[Statement]


class EncryptionKey(pulumi.ComponentResource):
    """A symmetric key that rotates every year, and its alias."""

    arn: pulumi.Output[str]

    def __init__(self, name: str, args: EncryptionKeyArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:EncryptionKey", name, None, opts)
        key = aws.kms.Key(
            name,
            description=f"{args.site.name}: {args.purpose}",
            enable_key_rotation=True,
            deletion_window_in_days=30,
            policy=document_text(args.policy),
            opts=ResourceOptions(parent=self),
        )
        aws.kms.Alias(
            f"{name}-alias",
            name=f"alias/{args.site.name}/{name}",
            target_key_id=key.key_id,
            opts=ResourceOptions(parent=self),
        )
        self.arn = key.arn
        self._site = args.site
        self.register_outputs({"arn": self.arn})

    def decrypt_statement(self, *, sid: str, via: str) -> Statement:
        """A grant to decrypt what the AWS service `via` (e.g. `s3`) stores under this key."""
        return self._statement(sid=sid, actions=["kms:Decrypt"], via=via)

    def encrypt_statement(self, *, sid: str, via: str) -> Statement:
        """A grant to store through the AWS service `via` under this key; parts of an upload are read back, too."""
        return self._statement(sid=sid, actions=["kms:GenerateDataKey", "kms:Decrypt"], via=via)

    def _statement(self, *, sid: str, actions: Sequence[str], via: str) -> Statement:
        return Statement(
            sid=sid,
            actions=actions,
            resources=[self.arn],
            conditions={"StringEquals": {"kms:ViaService": f"{via}.{self._site.region}.amazonaws.com"}},
        )
