"""Who may call: the tables of consumers and of token hashes, and the key that only the authorizer reads with."""

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra.components.keys import (
    EncryptionKey,
    EncryptionKeyArgs,
    administered_by_iam,
    decrypts_for_role,
    encrypts_for_account,
    used_through,
)
from infra.iam import Statement
from infra.site import Site

# A key that was encrypted for one consumer decrypts for no other: the context carries the consumer's id.
SECRETS_CONTEXT = "consumer"


@dataclass(frozen=True)
class ConsumersArgs:
    """The name of the one role that may decrypt the consumers' API Gateway keys, and whether data is protected."""

    site: Site
    reader_role_name: str
    protect_data: bool


class Consumers(pulumi.ComponentResource):
    """Tables `consumers` (by id) and `tokens` (by SHA-256 of the token); no token stands in either."""

    consumers_table: pulumi.Output[str]
    tokens_table: pulumi.Output[str]
    secrets_key_arn: pulumi.Output[str]

    def __init__(self, name: str, args: ConsumersArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Consumers", name, None, opts)
        self._name, self._args = name, args
        self._table_key = EncryptionKey(
            f"{name}-table-key",
            EncryptionKeyArgs(
                site=args.site,
                purpose="tables of consumers",
                policy=[administered_by_iam(args.site), *used_through(args.site, "dynamodb", grants=True)],
            ),
            opts=ResourceOptions(parent=self),
        )
        secrets_key = EncryptionKey(
            f"{name}-secrets-key",
            EncryptionKeyArgs(
                site=args.site,
                purpose="API Gateway keys of consumers",
                policy=[
                    administered_by_iam(args.site),
                    encrypts_for_account(args.site, context=SECRETS_CONTEXT),
                    decrypts_for_role(args.site, role_name=args.reader_role_name, context=SECRETS_CONTEXT),
                ],
            ),
            opts=ResourceOptions(parent=self),
        )
        self.secrets_key_arn = secrets_key.arn
        consumers = self._table("consumers", hash_key="id", ttl=None)
        tokens = self._table("tokens", hash_key="token_hash", ttl={"attribute_name": "expires", "enabled": True})
        self.consumers_table, self.tokens_table = consumers.name, tokens.name
        self._consumers_arn, self._tokens_arn = consumers.arn, tokens.arn
        self.register_outputs(
            {
                "consumers_table": self.consumers_table,
                "tokens_table": self.tokens_table,
                "secrets_key_arn": self.secrets_key_arn,
            }
        )

    def read_statements(self) -> list[Statement]:
        """A grant to look up tokens and consumers, and to decrypt a consumer's API Gateway key."""
        return [
            Statement(sid="ReadTokens", actions=["dynamodb:BatchGetItem"], resources=[self._tokens_arn]),
            Statement(sid="ReadConsumers", actions=["dynamodb:GetItem"], resources=[self._consumers_arn]),
            self._table_key.decrypt_statement(sid="DecryptTables", via="dynamodb"),
            Statement(sid="DecryptGatewayKeys", actions=["kms:Decrypt"], resources=[self.secrets_key_arn]),
        ]

    def note_use_statement(self) -> Statement:
        """A grant to write when a token was last used, and no other attribute of it, nor to read any by writing.

        https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html
        """
        return Statement(
            sid="NoteUse",
            actions=["dynamodb:UpdateItem"],
            resources=[self._tokens_arn],
            conditions={
                "ForAllValues:StringEquals": {"dynamodb:Attributes": ["token_hash", "last_used"]},
                "StringEqualsIfExists": {"dynamodb:ReturnValues": "NONE"},
            },
        )

    def _table(self, content: str, *, hash_key: str, ttl: Any) -> aws.dynamodb.Table:
        return aws.dynamodb.Table(
            f"{self._name}-{content}",
            billing_mode="PAY_PER_REQUEST",
            hash_key=hash_key,
            attributes=[{"name": hash_key, "type": "S"}],
            ttl=ttl,
            server_side_encryption={"enabled": True, "kms_key_arn": self._table_key.arn},
            point_in_time_recovery={"enabled": True},
            # A lost table locks every consumer out.
            deletion_protection_enabled=self._args.protect_data,
            opts=ResourceOptions(parent=self, protect=self._args.protect_data),
        )
