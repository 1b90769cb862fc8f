"""The policies of the state bucket and of both keys, and what makes a policy that is found weaker than them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from infra.iam import ANYONE, Principals, Statement, document

_TAKES_OVER = ("kms:PutKeyPolicy", "kms:CreateGrant", "kms:ScheduleKeyDeletion", "kms:DisableKey", "kms:Decrypt")
_THIS_KEY = ("*",)  # in a key's policy, the key that it is of
# Neither a cryptographic operation nor kms:CreateGrant, which could hand one to anybody.
_ADMINISTER = (
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:Describe*",
    "kms:Disable*",
    "kms:Enable*",
    "kms:Get*",
    "kms:List*",
    "kms:PutKeyPolicy",
    "kms:RotateKeyOnDemand",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
)


def secrets_key_policy(*, partition: str, account: str) -> dict[str, Any]:
    """IAM decides who administers the key, and who encrypts and decrypts a stack's secrets with it."""
    return _plain(
        [
            _administration(partition, account),
            Statement(
                sid="AccountUses",
                actions=("kms:Decrypt", "kms:Encrypt"),
                resources=_THIS_KEY,
                principals=_root(partition, account),
            ),
        ]
    )


def state_key_policy(*, partition: str, account: str, region: str) -> dict[str, Any]:
    """IAM decides who administers the key and who reads and writes with it, through S3 alone."""
    return _plain(
        [
            _administration(partition, account),
            Statement(
                sid="AccountUsesThroughS3",
                actions=("kms:Decrypt", "kms:GenerateDataKey"),
                resources=_THIS_KEY,
                principals=_root(partition, account),
                conditions={"StringEquals": {"kms:ViaService": f"s3.{region}.amazonaws.com"}},
            ),
        ]
    )


def state_bucket_policy(*, partition: str, bucket: str, key_arn: str) -> dict[str, Any]:
    """Nobody reaches the bucket without TLS 1.2 or newer, or stores an object under another key than its own."""
    everything = (f"arn:{partition}:s3:::{bucket}", f"arn:{partition}:s3:::{bucket}/*")
    encryption, key = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
    customer_key = "s3:x-amz-server-side-encryption-customer-algorithm"
    return _plain(
        [
            _deny("DenyPlainHttp", "s3:*", everything, {"Bool": {"aws:SecureTransport": "false"}}),
            _deny("DenyOldTls", "s3:*", everything, {"NumericLessThan": {"s3:TlsVersion": "1.2"}}),
            # A request that names no encryption takes the bucket's; IAM counts an absent key as "not equal".
            _deny("DenyOtherEncryption", "s3:PutObject", everything[1:], _named_and_not(encryption, "aws:kms")),
            _deny("DenyOtherKey", "s3:PutObject", everything[1:], _named_and_not(key, key_arn)),
            _deny("DenyCustomerKey", "s3:PutObject", everything[1:], {"Null": {customer_key: "false"}}),
        ]
    )


def missing_denials(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The Sids of the statements of `wanted` that deny, and that `found` does not have under any Sid."""
    present = [_canonical(_bare(each)) for each in found["Statement"]]
    denials = [each for each in wanted["Statement"] if each["Effect"] == "Deny"]
    return [each["Sid"] for each in denials if _canonical(_bare(each)) not in present]


def grants_outside(found: Mapping[str, Any], *, partition: str, account: str) -> list[str]:
    """The statements, by Sid or number, that allow something to others than principals of this account."""
    named = enumerate(_statements(found), start=1)
    return [
        str(each.get("Sid") or f"statement {number}")
        for number, each in named
        if each["Effect"] == "Allow" and not _within(each, partition=partition, account=account)
    ]


def grants_past_iam(found: Mapping[str, Any], *, partition: str, account: str) -> list[tuple[str, str, str]]:
    """What a key's policy allows somebody of this account by itself: Sid or number, principal, and the gravest action.

    What it allows the account's root is IAM's to hand out; what it allows anybody else, no policy of IAM's takes back.
    """
    root = {account, f"arn:{partition}:iam::{account}:root"}
    return [
        (str(each.get("Sid") or f"statement {number}"), named, action)
        for number, each in enumerate(_statements(found), start=1)
        if each["Effect"] == "Allow" and _within(each, partition=partition, account=account)
        for named in _listed(each["Principal"]["AWS"])
        if named not in root and (action := _gravest(each)) is not None
    ]


def merged(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`wanted`, and what `found` has beside it under other Sids."""
    sids = {each["Sid"] for each in wanted["Statement"]}
    others = [each for each in _statements(found) if each.get("Sid") not in sids]
    return {**wanted, "Statement": [*wanted["Statement"], *others]}


def parse_policy(text: str) -> dict[str, Any]:
    """A policy as AWS answers it, its statements always a list."""
    policy: dict[str, Any] = json.loads(text)
    return {**policy, "Statement": _statements(policy)}


def _plain(statements: Sequence[Statement]) -> dict[str, Any]:
    plain: dict[str, Any] = document(statements)
    return plain


def _root(partition: str, account: str) -> Principals:
    return {"AWS": f"arn:{partition}:iam::{account}:root"}


def _administration(partition: str, account: str) -> Statement:
    return Statement(
        sid="AccountAdministers", actions=_ADMINISTER, resources=_THIS_KEY, principals=_root(partition, account)
    )


def _deny(sid: str, action: str, resources: Sequence[str], conditions: Mapping[str, Mapping[str, str]]) -> Statement:
    return Statement(
        sid=sid, effect="Deny", actions=[action], resources=resources, principals=ANYONE, conditions=conditions
    )


def _named_and_not(condition_key: str, value: str) -> dict[str, dict[str, str]]:
    return {"StringNotEquals": {condition_key: value}, "Null": {condition_key: "false"}}


def _statements(policy: Mapping[str, Any]) -> list[dict[str, Any]]:
    statements = policy.get("Statement", [])
    return [statements] if isinstance(statements, dict) else list(statements)


def _bare(statement: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in statement.items() if key != "Sid"}


def _canonical(value: Any) -> Any:
    """One spelling of a policy element: AWS answers a list of one as its element, and lists in any order."""
    if isinstance(value, Mapping):
        plain = {key: _canonical(each) for key, each in value.items()}
        return "*" if plain == {"AWS": "*"} else plain
    if isinstance(value, list | tuple):
        items = sorted({json.dumps(_canonical(each), sort_keys=True) for each in value})
        return json.loads(items[0]) if len(items) == 1 else items
    return str(value).lower() if isinstance(value, bool) else str(value)


def _gravest(statement: Mapping[str, Any]) -> str | None:
    """The first of the actions by which a key is taken over, lost, or used by others that a statement allows."""
    patterns = [each.lower() for each in _listed(statement.get("Action", []))]
    excluded = [each.lower() for each in _listed(statement.get("NotAction", []))]
    for action in _TAKES_OVER:
        name = action.lower()
        if any(fnmatchcase(name, each) for each in patterns) or (
            excluded and not any(fnmatchcase(name, each) for each in excluded)
        ):
            return action
    return None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _within(statement: Mapping[str, Any], *, partition: str, account: str) -> bool:
    principal = statement.get("Principal")
    if not isinstance(principal, Mapping) or set(principal) != {"AWS"}:
        return False
    named = _listed(principal["AWS"])
    own = (f"arn:{partition}:iam::{account}:", f"arn:{partition}:sts::{account}:")
    return all(each == account or each.startswith(own) for each in named)
