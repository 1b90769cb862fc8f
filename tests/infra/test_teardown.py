"""What is left of full buckets, tables and a locked trail when their stack goes, on the emulators."""

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from local.emulators import Emulators
from local.engine import Deployment, up
from local.errors import LocalError

PROGRAM = """
    from pathlib import Path
    import pulumi, pulumi_aws as aws
    from infra.components.audit import Audit, AuditArgs
    from infra.components.consumers import Consumers, ConsumersArgs
    from infra.components.logs import Logs, LogsArgs
    from infra.components.storage import Storage, StorageArgs
    from infra.settings import AuditSettings, BudgetSettings, StorageSettings
    from infra.site import Site, tags
    provider = aws.Provider("aws", region="eu-west-1", default_tags={"tags": tags(project="full", stack="dev")})
    on = pulumi.ResourceOptions(provider=provider)
    account = aws.get_caller_identity_output(opts=pulumi.InvokeOptions(provider=provider)).account_id
    site = Site(project="full", stack="dev", region="eu-west-1", account_id=account, root=Path("."))
    protect_data = PROTECT
    storage = Storage("storage", StorageArgs(
        site=site, storage=StorageSettings(protect_data=protect_data), log_retention_days=30, reader_role_name="reader"
    ), opts=on)
    Consumers("consumers", ConsumersArgs(site=site, reader_role_name="reader", protect_data=protect_data), opts=on)
    Audit("audit", AuditArgs(
        site=site,
        audit=AuditSettings(retention_days=30, trail=True, lock_days=LOCK),
        budget=BudgetSettings(monthly_usd=120),
        protect_data=protect_data,
        storage=storage,
        logs=Logs("logs", LogsArgs(site=site, retention_days=30), opts=on),
        topic_arn=aws.sns.Topic("topic", opts=on).arn,
    ), opts=on)
"""
Deploy = Callable[[str], Deployment]


@pytest.fixture
def emulators(tmp_path: Path) -> Iterator[Emulators]:
    """Of each test its own, since what stays of one stack would be in the next one's way."""
    with Emulators(region="eu-west-1", log_dir=tmp_path / "logs") as running:
        yield running


@pytest.fixture
def deploy(emulators: Emulators, tmp_path: Path) -> Deploy:
    """Makes what a program declares, and takes away what it declares no longer."""
    (tmp_path / "program").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: full\nruntime: python\nmain: program\n")
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  aws:region: eu-west-1\n")

    def run(program: str) -> Deployment:
        (tmp_path / "program" / "__main__.py").write_text(dedent(program))
        return up(root=tmp_path, stack="dev", emulators=emulators, state_file=tmp_path / "state" / "state.json")

    return run


def program(*, protect: bool, lock: int) -> str:
    return PROGRAM.replace("PROTECT", str(protect)).replace("LOCK", str(lock))


def buckets(deployment: Deployment) -> dict[str, str]:
    return {each.name: each.id for each in deployment.resources if each.type == "aws:s3/bucket:Bucket"}


def fill(s3: Any, names: list[str]) -> None:
    """Two versions of one object, a deleted one, and the first part of an upload that goes no further."""
    for name in names:
        for key, body in (("kept", b"1"), ("kept", b"2"), ("gone", b"3")):
            s3.put_object(Bucket=name, Key=key, Body=body)
        s3.delete_object(Bucket=name, Key="gone")


def existing(s3: Any) -> set[str]:
    return {each["Name"] for each in s3.list_buckets()["Buckets"]}


def test_a_stack_for_trying_goes_with_full_buckets_and_tables(deploy: Deploy, emulators: Emulators) -> None:
    made = deploy(program(protect=False, lock=0))
    s3, names = emulators.client("s3"), buckets(made)
    assert set(names) == {"storage-models", "storage-data", "storage-results", "storage-logs", "audit-trail"}
    fill(s3, list(names.values()))
    deploy("pass")
    assert not existing(s3) & set(names.values())
    assert emulators.client("dynamodb").list_tables()["TableNames"] == []


def test_a_locked_trail_stays_with_its_policy_its_lock_and_its_key(deploy: Deploy, emulators: Emulators) -> None:
    made = deploy(program(protect=False, lock=30))
    s3, names = emulators.client("s3"), buckets(made)
    trail = names.pop("audit-trail")
    fill(s3, [*names.values(), trail])
    deploy("pass")
    assert existing(s3) == {trail}
    assert "DenyEarlyDeletion" in s3.get_bucket_policy(Bucket=trail)["Policy"]
    assert s3.get_public_access_block(Bucket=trail)["PublicAccessBlockConfiguration"]["BlockPublicPolicy"] is True
    assert s3.get_object_lock_configuration(Bucket=trail)["ObjectLockConfiguration"]["ObjectLockEnabled"] == "Enabled"
    key = made.resource("aws:kms/key:Key", "audit-trail-key").id
    assert emulators.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
    assert emulators.client("cloudtrail").describe_trails()["trailList"] == []


def test_protected_data_is_not_deleted(deploy: Deploy, emulators: Emulators) -> None:
    made = deploy(program(protect=True, lock=30))
    names = buckets(made)
    with pytest.raises(LocalError, match="protect"):
        deploy("pass")
    assert {names[f"storage-{each}"] for each in ("models", "data", "results")} <= existing(emulators.client("s3"))
