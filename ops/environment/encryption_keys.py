"""The KMS keys of the state bucket and of a stack's secrets, found by alias or made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ops.environment.documents import grants_outside, grants_past_iam, parse_policy
from ops.environment.prepared import Difference, Prepared
from ops.errors import OpsError


@dataclass(frozen=True)
class WantedKey:
    """A symmetric key: its alias (`alias/…`), what it is for, in words, and its policy."""

    alias: str
    description: str
    policy: Mapping[str, Any]
    tags: Mapping[str, str]
    partition: str
    account: str


def prepare_key(kms: Any, wanted: WantedKey, *, repair: bool) -> Prepared:
    """Make the key where its alias is free; otherwise compare, and with `repair` set what is weaker.

    The answer's name is the key's ARN. Raises OpsError for a key that cannot be used as it is.
    """
    metadata = _find(kms, wanted.alias)
    if metadata is None:
        return _make(kms, wanted)
    _refuse_unusable(metadata, alias=wanted.alias)
    arn = str(metadata["Arn"])
    changes, differences = [], []
    if not kms.get_key_rotation_status(KeyId=arn)["KeyRotationEnabled"]:
        text = f"key {wanted.alias} does not rotate"
        if repair:
            kms.enable_key_rotation(KeyId=arn)
            changes.append(f"key {wanted.alias}: rotates every year now")
        else:
            differences.append(Difference(text, "call again with --repair, which switches rotation on", True))
    policy = parse_policy(kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"])
    differences += [
        Difference(
            f"key {wanted.alias}: {sid} of its policy allows somebody outside account {wanted.account}",
            "remove that statement with 'aws kms put-key-policy', or give the alias to a key of its own",
            False,
        )
        for sid in grants_outside(policy, partition=wanted.partition, account=wanted.account)
    ]
    differences += [
        Difference(
            f"key {wanted.alias}: {sid} of its policy lets {principal} {action}, which should be IAM's to allow",
            "remove that statement with 'aws kms put-key-policy', or give the alias to a key of its own",
            False,
        )
        for sid, principal, action in grants_past_iam(policy, partition=wanted.partition, account=wanted.account)
    ]
    return Prepared(arn, tuple(changes), tuple(differences))


def _find(kms: Any, alias: str) -> dict[str, Any] | None:
    try:
        metadata: dict[str, Any] = kms.describe_key(KeyId=alias)["KeyMetadata"]
    except kms.exceptions.NotFoundException:
        return None
    return metadata


def _refuse_unusable(metadata: Mapping[str, Any], *, alias: str) -> None:
    if metadata["KeyState"] != "Enabled":
        raise OpsError(
            f"key {alias} ({metadata['Arn']}) is in state {metadata['KeyState']}: what it encrypted cannot be read; "
            "enable it, or cancel its deletion, with 'aws kms enable-key' or 'cancel-key-deletion', and call again"
        )
    kind = (metadata["KeyUsage"], metadata["KeySpec"], metadata["KeyManager"])
    if kind != ("ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "CUSTOMER"):
        raise OpsError(
            f"key {alias} ({metadata['Arn']}) is {' '.join(kind)}, and a customer's symmetric key for encryption is "
            "needed; give the alias another name with 'aws kms create-alias' and 'delete-alias', and call again"
        )


def _make(kms: Any, wanted: WantedKey) -> Prepared:
    key = kms.create_key(
        Description=wanted.description,
        Policy=json.dumps(wanted.policy),
        Tags=[{"TagKey": name, "TagValue": value} for name, value in wanted.tags.items()],
    )["KeyMetadata"]
    kms.create_alias(AliasName=wanted.alias, TargetKeyId=key["KeyId"])
    kms.enable_key_rotation(KeyId=key["KeyId"])
    return Prepared(str(key["Arn"]), changes=(f"key {wanted.alias}: made, rotates every year",))
