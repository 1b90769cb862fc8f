"""Where logs go: log groups under the stack's own key, kept for as long as the settings say."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_by_log_groups
from infra.iam import Statement
from infra.site import Site


@dataclass(frozen=True)
class LogsArgs:
    """How long logs are kept."""

    site: Site
    retention_days: int


class Logs(pulumi.ComponentResource):
    """The key of all log groups, and the one way to make such a group."""

    def __init__(self, name: str, args: LogsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Logs", name, None, opts)
        self.retention_days = args.retention_days
        self._key = EncryptionKey(
            f"{name}-key",
            EncryptionKeyArgs(
                site=args.site,
                purpose="log groups",
                policy=[administered_by_iam(args.site), used_by_log_groups(args.site)],
            ),
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({"key_arn": self._key.arn})

    def group(
        self, name: str, *, parent: pulumi.Resource, physical_name: pulumi.Input[str] | None = None
    ) -> aws.cloudwatch.LogGroup:
        """A log group of `parent`; its name is Pulumi's to make unless a service asks for one."""
        return aws.cloudwatch.LogGroup(
            name,
            name=physical_name,
            kms_key_id=self._key.arn,
            retention_in_days=self.retention_days,
            opts=ResourceOptions(parent=parent),
        )


def write_statement(group: aws.cloudwatch.LogGroup) -> Statement:
    """A grant to write to one log group."""
    return Statement(
        sid="WriteLogs",
        actions=["logs:CreateLogStream", "logs:PutLogEvents"],
        resources=[pulumi.Output.concat(group.arn, ":*")],
    )
