"""The bucket that holds Pulumi's state: made closed, or compared with what it should be."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from ops.environment import state_lifecycle
from ops.environment.answers import error_code
from ops.environment.documents import grants_outside, merged, missing_denials, parse_policy
from ops.environment.prepared import Difference, Prepared
from ops.errors import OpsError

_UNSET = frozenset(
    {"NoSuchBucketPolicy", "NoSuchLifecycleConfiguration", "NoSuchPublicAccessBlockConfiguration", "NoSuchTagSet",
     "OwnershipControlsNotFoundError", "ServerSideEncryptionConfigurationNotFoundError"}
)  # fmt: skip
_CLOSED = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)


@dataclass(frozen=True)
class WantedBucket:
    """A bucket of this account and region, the ARN of its key, its policy, and its tags."""

    name: str
    region: str
    account: str
    partition: str
    key_arn: str
    policy: Mapping[str, Any]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class _Setting:
    """One setting: what is wrong with it as found (None if nothing), what it should be in words, and how to set it."""

    name: str
    wrong: Callable[[], str | None]
    wanted: str
    write: Callable[[], object]


def prepare_bucket(s3: Any, wanted: WantedBucket, *, repair: bool) -> Prepared:
    """Make the bucket where the name is free; otherwise compare, and with `repair` set what is weaker.

    Raises OpsError for a bucket of another account or region.
    """
    settings = _settings(s3, wanted)
    if not _exists(s3, wanted):
        _make(s3, wanted)
        for each in settings:
            each.write()
        return Prepared(wanted.name, changes=(f"bucket {wanted.name}: made in {wanted.region}",))
    changes, differences = [], []
    for each in settings:
        wrong = each.wrong()
        if wrong is None:
            continue
        if repair:
            each.write()
            changes.append(f"bucket {wanted.name}: {each.name} set to {each.wanted}")
        else:
            text = f"bucket {wanted.name}: {each.name} is {wrong}, wanted {each.wanted}"
            differences.append(Difference(text, f"call again with --repair, which sets {each.name}", True))
    differences += [
        Difference(
            f"bucket {wanted.name}: {sid} of its policy allows somebody outside account {wanted.account}",
            "remove that statement, or name another bucket by --bucket",
            False,
        )
        for sid in grants_outside(_policy(s3, wanted), partition=wanted.partition, account=wanted.account)
    ]
    return Prepared(wanted.name, tuple(changes), tuple(differences))


def _exists(s3: Any, wanted: WantedBucket) -> bool:
    try:
        head = s3.head_bucket(Bucket=wanted.name, ExpectedBucketOwner=wanted.account)
    except ClientError as error:
        if error_code(error) in {"404", "NoSuchBucket"}:
            return False
        if error_code(error) in {"403", "AccessDenied"}:
            raise _of_somebody_else(wanted) from error
        raise
    region = head.get("BucketRegion", wanted.region)
    if region != wanted.region:
        raise OpsError(
            f"bucket {wanted.name} is in region {region}, and the stack in {wanted.region}: name another by --bucket"
        )
    return True


def _of_somebody_else(wanted: WantedBucket) -> OpsError:
    return OpsError(
        f"bucket {wanted.name} belongs to another account, or these credentials lack s3:ListBucket on it: it was left "
        f"as it is; use credentials of account {wanted.account} that may, or name another bucket by --bucket"
    )


def _make(s3: Any, wanted: WantedBucket) -> None:
    # us-east-1 is the one region that a request must not name.
    place = {} if wanted.region == "us-east-1" else {"LocationConstraint": wanted.region}
    try:
        s3.create_bucket(
            Bucket=wanted.name,
            ObjectOwnership="BucketOwnerEnforced",
            **({"CreateBucketConfiguration": place} if place else {}),
        )
    except s3.exceptions.BucketAlreadyExists as error:
        raise _of_somebody_else(wanted) from error


def _settings(s3: Any, wanted: WantedBucket) -> list[_Setting]:
    """In the order in which they are set: closed first."""
    return [_ownership(s3, wanted), _public_access(s3, wanted), _encryption(s3, wanted), _access(s3, wanted),
            _versioning(s3, wanted), _lifecycle(s3, wanted), _tags(s3, wanted)]  # fmt: skip


def _read(call: Callable[..., Any], wanted: WantedBucket) -> dict[str, Any]:
    """A setting as S3 answers it; empty where it was never set."""
    try:
        answer: dict[str, Any] = call(Bucket=wanted.name, ExpectedBucketOwner=wanted.account)
    except ClientError as error:
        if error_code(error) in _UNSET:
            return {}
        raise
    return answer


def _other(found: object, right: object) -> str | None:
    """What is found, for people, where it is not what is right."""
    return None if found == right else (json.dumps(found, sort_keys=True) if found else "not set")


def _ownership(s3: Any, wanted: WantedBucket) -> _Setting:
    rules = [{"ObjectOwnership": "BucketOwnerEnforced"}]
    return _Setting(
        "object ownership",
        lambda: _other(
            _read(s3.get_bucket_ownership_controls, wanted).get("OwnershipControls", {}).get("Rules"), rules
        ),
        "BucketOwnerEnforced",
        lambda: s3.put_bucket_ownership_controls(
            Bucket=wanted.name, ExpectedBucketOwner=wanted.account, OwnershipControls={"Rules": rules}
        ),
    )


def _public_access(s3: Any, wanted: WantedBucket) -> _Setting:
    return _Setting(
        "public access block",
        lambda: _other(_read(s3.get_public_access_block, wanted).get("PublicAccessBlockConfiguration"), _CLOSED),
        "all four blocked",
        lambda: s3.put_public_access_block(
            Bucket=wanted.name, ExpectedBucketOwner=wanted.account, PublicAccessBlockConfiguration=_CLOSED
        ),
    )


def _encryption(s3: Any, wanted: WantedBucket) -> _Setting:
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": wanted.key_arn}

    def wrong() -> str | None:
        configuration = _read(s3.get_bucket_encryption, wanted).get("ServerSideEncryptionConfiguration", {})
        found = [
            (each.get("ApplyServerSideEncryptionByDefault"), each.get("BucketKeyEnabled"))
            for each in configuration.get("Rules", [])
        ]
        return _other(found, [(default, True)])

    return _Setting(
        "encryption",
        wrong,
        f"aws:kms with {wanted.key_arn} and a bucket key",
        lambda: s3.put_bucket_encryption(
            Bucket=wanted.name,
            ExpectedBucketOwner=wanted.account,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}]
            },
        ),
    )


def _policy(s3: Any, wanted: WantedBucket) -> dict[str, Any]:
    return parse_policy(_read(s3.get_bucket_policy, wanted).get("Policy", '{"Statement": []}'))


def _access(s3: Any, wanted: WantedBucket) -> _Setting:
    def wrong() -> str | None:
        missing = missing_denials(_policy(s3, wanted), wanted.policy)
        return f"without {', '.join(missing)}" if missing else None

    return _Setting(
        "policy",
        wrong,
        "one that denies plain HTTP, TLS below 1.2 and other encryption",
        lambda: s3.put_bucket_policy(
            Bucket=wanted.name,
            ExpectedBucketOwner=wanted.account,
            Policy=json.dumps(merged(_policy(s3, wanted), wanted.policy)),
        ),
    )


def _versioning(s3: Any, wanted: WantedBucket) -> _Setting:
    return _Setting(
        "versioning",
        lambda: _other(_read(s3.get_bucket_versioning, wanted).get("Status"), "Enabled"),
        "Enabled",
        lambda: s3.put_bucket_versioning(
            Bucket=wanted.name, ExpectedBucketOwner=wanted.account, VersioningConfiguration={"Status": "Enabled"}
        ),
    )


def _lifecycle(s3: Any, wanted: WantedBucket) -> _Setting:
    def found() -> list[dict[str, Any]]:
        rules: list[dict[str, Any]] = _read(s3.get_bucket_lifecycle_configuration, wanted).get("Rules", [])
        return rules

    return _Setting(
        "lifecycle",
        lambda: ", ".join(state_lifecycle.weaknesses(found())) or None,
        f"old versions kept {state_lifecycle.KEEP_OLD_VERSIONS_DAYS} days or longer, current ones for ever",
        lambda: s3.put_bucket_lifecycle_configuration(
            Bucket=wanted.name,
            ExpectedBucketOwner=wanted.account,
            LifecycleConfiguration={"Rules": state_lifecycle.strengthened(found())},
        ),
    )


def _tags(s3: Any, wanted: WantedBucket) -> _Setting:
    def found() -> dict[str, str]:
        return {each["Key"]: each["Value"] for each in _read(s3.get_bucket_tagging, wanted).get("TagSet", [])}

    def wrong() -> str | None:
        present = found()
        return None if wanted.tags.items() <= present.items() else _other(present, wanted.tags)

    return _Setting(
        "tagging",
        wrong,
        ", ".join(f"{key}={value}" for key, value in wanted.tags.items()),
        lambda: s3.put_bucket_tagging(
            Bucket=wanted.name,
            ExpectedBucketOwner=wanted.account,
            Tagging={"TagSet": [{"Key": key, "Value": value} for key, value in {**found(), **wanted.tags}.items()]},
        ),
    )
