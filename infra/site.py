"""Where a stack stands: its names, tags and the ARNs that follow from account and region."""

from dataclasses import dataclass
from pathlib import Path

import pulumi

_PARTITIONS = {"cn": "aws-cn", "us-gov": "aws-us-gov"}


def partition_of(region: str) -> str:
    """The partition that a region belongs to: aws, aws-cn or aws-us-gov."""
    return next((name for start, name in _PARTITIONS.items() if region.startswith(f"{start}-")), "aws")


@dataclass(frozen=True)
class Site:
    """Project, stack, region and account of one deployment, and the directory of the project's sources."""

    project: str
    stack: str
    region: str
    account_id: pulumi.Output[str]
    root: Path

    @property
    def name(self) -> str:
        """The prefix of the few physical names that are not made by Pulumi."""
        return f"{self.project}-{self.stack}"

    @property
    def partition(self) -> str:
        """The first part of every ARN of this stack."""
        return partition_of(self.region)

    @property
    def tags(self) -> dict[str, str]:
        """What every resource is tagged with."""
        return tags(project=self.project, stack=self.stack)

    @property
    def root_arn(self) -> pulumi.Output[str]:
        """The account as a principal: whoever its IAM policies let."""
        return pulumi.Output.format("arn:{0}:iam::{1}:root", self.partition, self.account_id)

    def arn(self, *, service: str, resource: pulumi.Input[str]) -> pulumi.Output[str]:
        """The ARN of a resource of this account and region."""
        return pulumi.Output.format(
            "arn:{0}:{1}:{2}:{3}:{4}", self.partition, service, self.region, self.account_id, resource
        )


def tags(*, project: str, stack: str) -> dict[str, str]:
    """What every resource of a stack is tagged with."""
    return {"project": project, "stack": stack, "managed-by": "pulumi"}
