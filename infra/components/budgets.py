"""What consumers have used of their tokens: the table of budgets, which the servers reserve from."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.keys import EncryptionKey, EncryptionKeyArgs, administered_by_iam, used_through
from infra.iam import Statement
from infra.site import Site


@dataclass(frozen=True)
class BudgetsArgs:
    """Where the table is, and whether data is protected."""

    site: Site
    protect_data: bool


class Budgets(pulumi.ComponentResource):
    """A table with a row for each consumer and month, whose stream tells how much of a budget is used."""

    table_name: pulumi.Output[str]
    table_arn: pulumi.Output[str]
    stream_arn: pulumi.Output[str]
    table_key: EncryptionKey

    def __init__(self, name: str, args: BudgetsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Budgets", name, None, opts)
        self.table_key = EncryptionKey(
            f"{name}-key",
            EncryptionKeyArgs(
                site=args.site,
                purpose="token budgets",
                policy=[administered_by_iam(args.site), *used_through(args.site, "dynamodb", grants=True)],
            ),
            opts=ResourceOptions(parent=self),
        )
        table = aws.dynamodb.Table(
            f"{name}-table",
            billing_mode="PAY_PER_REQUEST",
            hash_key="consumer",
            range_key="month",
            attributes=[{"name": "consumer", "type": "S"}, {"name": "month", "type": "S"}],
            ttl={"attribute_name": "expires", "enabled": True},
            stream_enabled=True,
            stream_view_type="NEW_AND_OLD_IMAGES",
            server_side_encryption={"enabled": True, "kms_key_arn": self.table_key.arn},
            point_in_time_recovery={"enabled": True},
            # A lost table gives every consumer its whole budget anew.
            deletion_protection_enabled=args.protect_data,
            opts=ResourceOptions(parent=self, protect=args.protect_data),
        )
        self.table_name, self.table_arn, self.stream_arn = table.name, table.arn, table.stream_arn
        self.register_outputs({"table_name": self.table_name, "stream_arn": self.stream_arn})

    def use_statements(self) -> list[Statement]:
        """A grant to reserve and settle.

        A server does so for every consumer, and with each attribute of a row, so no condition could name fewer.
        """
        return [
            Statement(
                sid="UseBudgets", actions=["dynamodb:GetItem", "dynamodb:UpdateItem"], resources=[self.table_arn]
            ),
            self.table_key.decrypt_statement(sid="DecryptBudgets", via="dynamodb"),
        ]
