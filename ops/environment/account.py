"""Prepares an account for a stack: where Pulumi keeps its state, and what it encrypts the stack's secrets with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infra.site import partition_of
from ops.environment.documents import secrets_key_policy, state_bucket_policy, state_key_policy
from ops.environment.encryption_keys import WantedKey, prepare_key
from ops.environment.prepared import Difference, Prepared
from ops.environment.state_bucket import WantedBucket, prepare_bucket

Clients = Callable[[str, str], Any]
"""Takes boto3's name of a service and a region."""


@dataclass(frozen=True)
class Environment:
    """What a stack's state needs, and the lines that tell the CLI of it."""

    bucket: Prepared
    state_key: Prepared
    secrets_key: Prepared
    commands: tuple[str, str]

    @property
    def changes(self) -> list[str]:
        return [change for each in (self.state_key, self.bucket, self.secrets_key) for change in each.changes]

    @property
    def differences(self) -> list[Difference]:
        return [found for each in (self.state_key, self.bucket, self.secrets_key) for found in each.differences]


def prepare(
    clients: Clients, *, project: str, stack: str, region: str, bucket: str | None = None, repair: bool = False
) -> Environment:
    """Make what is missing, and compare what is there.

    The bucket and its key are the account's and region's, shared by its stacks; each stack's secrets have a key of
    their own. Nothing that exists is changed unless `repair` is given. Raises OpsError where something is there that
    cannot be used.
    """
    account = str(clients("sts", region).get_caller_identity()["Account"])
    partition, kms = partition_of(region), clients("kms", region)
    name = bucket or f"{project}-state-{account}-{region}"
    tags = {"project": project, "managed-by": f"{project}-env"}

    def key(alias: str, description: str, policy: dict[str, Any], **more: str) -> Prepared:
        wanted = WantedKey(alias, description, policy, tags={**tags, **more}, partition=partition, account=account)
        return prepare_key(kms, wanted, repair=repair)

    state_key = key(
        f"alias/{project}-state",
        f"{project}: Pulumi's state",
        state_key_policy(partition=partition, account=account, region=region),
    )
    policy = state_bucket_policy(partition=partition, bucket=name, key_arn=state_key.name)
    wanted = WantedBucket(
        name=name,
        region=region,
        account=account,
        partition=partition,
        key_arn=state_key.name,
        policy=policy,
        tags=tags,
    )
    state = prepare_bucket(clients("s3", region), wanted, repair=repair)
    alias = f"alias/{project}-{stack}-secrets"
    secrets_key = key(
        alias,
        f"{project}-{stack}: secrets in the stack's configuration and state",
        secrets_key_policy(partition=partition, account=account),
        stack=stack,
    )
    commands = (
        f"pulumi login 's3://{name}?region={region}'",
        f'pulumi stack init {stack} --secrets-provider "awskms://{alias}?region={region}"',
    )
    return Environment(bucket=state, state_key=state_key, secrets_key=secrets_key, commands=commands)
