"""What was done through AWS's API, recorded out of reach of whoever did it; and what the stack may cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.bucket import PrivateBucket, PrivateBucketArgs
from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_by_trail, used_through
from infra.components.logs import Logs
from infra.components.storage import Storage
from infra.iam import ANYONE, Statement, assume_role, document
from infra.settings import AuditSettings, BudgetSettings
from infra.site import Site

CLOUDTRAIL = "cloudtrail.amazonaws.com"
KEY = "aws:kms/key:Key"
# Type and percentage of the monthly limit at which somebody is told.
NOTIFICATIONS = (("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100))


def trail_arn(site: Site) -> pulumi.Output[str]:
    """The stack's trail, named before it exists, for its bucket and key speak of it and have to be there first."""
    return site.arn(service="cloudtrail", resource=f"trail/{site.name}")


def trail_bucket_statements(site: Site, bucket_arn: pulumi.Input[str]) -> list[Statement]:
    """This trail alone stores objects, and nobody takes one away before its lock ends.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-s3-bucket-policy-for-cloudtrail.html
    """
    source = {"aws:SourceArn": trail_arn(site)}
    everything = pulumi.Output.concat(bucket_arn, "/*")
    return [
        Statement(
            sid="TrailChecksBucket",
            actions=["s3:GetBucketAcl"],
            resources=[bucket_arn],
            principals={"Service": CLOUDTRAIL},
            conditions={"StringEquals": source},
        ),
        Statement(
            sid="TrailWrites",
            actions=["s3:PutObject"],
            resources=[pulumi.Output.concat(bucket_arn, "/AWSLogs/", site.account_id, "/*")],
            principals={"Service": CLOUDTRAIL},
            conditions={"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control", **source}},
        ),
        Statement(
            sid="DenyOtherWriters",
            effect="Deny",
            actions=["s3:PutObject"],
            resources=[everything],
            principals=ANYONE,
            # Only a request of a service's own has the key; IfExists counts one without it as another's.
            conditions={"StringNotEqualsIfExists": {"aws:PrincipalServiceName": CLOUDTRAIL}},
        ),
        Statement(
            sid="DenyEarlyDeletion",
            effect="Deny",
            actions=["s3:BypassGovernanceRetention"],
            resources=[everything],
            principals=ANYONE,
        ),
    ]


def stream_statement(site: Site, *, group_arn: pulumi.Input[str]) -> Statement:
    """A grant to write to the streams that CloudTrail makes for this account and region.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-required-policy-for-cloudwatch-logs.html
    """
    streams = pulumi.Output.concat(group_arn, ":log-stream:", site.account_id, f"_CloudTrail_{site.region}*")
    return Statement(sid="WriteEvents", actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[streams])


def event_selectors(
    bucket_arns: Sequence[pulumi.Input[str]],
) -> list[aws.cloudtrail.TrailAdvancedEventSelectorArgsDict]:
    """Every management event, and every event of an object in these buckets, read or write."""
    return [
        {
            "name": "management",
            "field_selectors": [{"field": "eventCategory", "equals": ["Management"]}],
        },
        {
            "name": "objects",
            "field_selectors": [
                {"field": "eventCategory", "equals": ["Data"]},
                {"field": "resources.type", "equals": ["AWS::S3::Object"]},
                # The slash ends the name, lest it be the start of another bucket's.
                {"field": "resources.ARN", "starts_withs": [pulumi.Output.concat(arn, "/") for arn in bucket_arns]},
            ],
        },
    ]


def kept_when_destroyed(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
    """Leaves a key, or a bucket with all that protects it, in the account when the stack goes.

    Whoever takes the records away, once their days are over, deletes the bucket and schedules the key's deletion.
    """
    if args.type_ != KEY and not args.type_.startswith("aws:s3/"):
        return None
    options = ResourceOptions.merge(args.opts, ResourceOptions(retain_on_delete=True))
    return pulumi.ResourceTransformationResult(props=args.props, opts=options)


def costs_with_tags(tags: Mapping[str, str]) -> Any:
    """A filter of the costs that have all these tags; only tags that are active as cost allocation tags count.

    https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/activating-tags.html
    """
    return {"ands": [{"tags": {"key": key, "values": [value]}} for key, value in tags.items()]}


@dataclass(frozen=True)
class AuditArgs:
    """Whether there is a trail and for how long it is kept, what it watches, the budget, and who hears of it.

    Without `protect_data` a trail that is not locked goes with its files when the stack does.
    """

    site: Site
    audit: AuditSettings
    budget: BudgetSettings
    protect_data: bool
    storage: Storage
    logs: Logs
    topic_arn: pulumi.Input[str]


class Audit(pulumi.ComponentResource):
    """A trail of every region with the events of models and data, unless the organisation has one, and a budget."""

    def __init__(self, name: str, args: AuditArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Audit", name, None, opts)
        self._name, self._args = name, args
        if args.audit.trail:
            self._trail()
        self._budget()
        self.register_outputs({})

    def _trail(self) -> None:
        name, args = self._name, self._args
        # Locked records outlive the stack, since nobody can delete them, and nobody could read them without their key.
        kept = ResourceOptions(
            parent=self, transformations=[kept_when_destroyed] if args.audit.locked_days is not None else None
        )
        key = EncryptionKey(
            f"{name}-trail-key",
            EncryptionKeyArgs(
                site=args.site,
                purpose="CloudTrail",
                policy=[
                    administered_by_iam(args.site),
                    *used_through(args.site, "s3", reads_only=True),
                    *used_by_trail(args.site, trail_arn=trail_arn(args.site)),
                ],
            ),
            opts=kept,
        )
        # A bucket of its own: the log bucket is under S3's own key, and takes no lock since access logs are delivered
        # to none that has one.
        bucket = PrivateBucket(
            f"{name}-trail",
            PrivateBucketArgs(
                key=key,
                log_bucket=args.storage.logs.id,
                expire_after_days=args.audit.retention_days,
                statements=partial(trail_bucket_statements, args.site),
                empties=not args.protect_data,
                lock_days=args.audit.locked_days,
                # A bucket key's encryption context is the bucket alone, and the key's policy asks for the trail's
                # (https://docs.aws.amazon.com/AmazonS3/latest/userguide/configuring-bucket-key.html).
                bucket_key=False,
            ),
            opts=kept,
        )
        group = args.logs.group(f"{name}-trail-logs", parent=self)
        role, policy = self._log_role(group)
        aws.cloudtrail.Trail(
            f"{name}-trail",
            name=args.site.name,
            s3_bucket_name=bucket.id,
            kms_key_id=key.arn,
            is_multi_region_trail=True,
            include_global_service_events=True,
            enable_log_file_validation=True,
            enable_logging=True,
            cloud_watch_logs_group_arn=pulumi.Output.concat(group.arn, ":*"),
            cloud_watch_logs_role_arn=role.arn,
            advanced_event_selectors=event_selectors(
                [each.arn for each in (args.storage.models, args.storage.data, args.storage.results)]
            ),
            # CloudTrail tries bucket and log group when the trail is made.
            opts=ResourceOptions(parent=self, depends_on=[bucket, policy]),
        )

    def _log_role(self, group: aws.cloudwatch.LogGroup) -> tuple[aws.iam.Role, aws.iam.RolePolicy]:
        """CloudTrail sends neither aws:SourceArn nor aws:SourceAccount here, so its trust has no condition."""
        role = aws.iam.Role(
            f"{self._name}-trail-role", assume_role_policy=assume_role(CLOUDTRAIL), opts=ResourceOptions(parent=self)
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-trail-policy",
            role=role.name,
            policy=document([stream_statement(self._args.site, group_arn=group.arn)]),
            opts=ResourceOptions(parent=self),
        )
        return role, policy

    def _budget(self) -> None:
        site = self._args.site
        aws.budgets.Budget(
            f"{self._name}-budget",
            account_id=site.account_id,
            name=site.name,
            budget_type="COST",
            time_unit="MONTHLY",
            limit_amount=str(self._args.budget.monthly_usd),
            limit_unit="USD",
            filter_expression=costs_with_tags({key: site.tags[key] for key in ("project", "stack")}),
            metrics="UnblendedCost",
            notifications=[
                {
                    "notification_type": kind,
                    "comparison_operator": "GREATER_THAN",
                    "threshold": percentage,
                    "threshold_type": "PERCENTAGE",
                    "subscriber_sns_topic_arns": [self._args.topic_arn],
                }
                for kind, percentage in NOTIFICATIONS
            ],
            opts=ResourceOptions(parent=self),
        )
