"""`modelkeep env` against the emulators: an account is prepared once, compared ever after, and checked read-only."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from typer.testing import CliRunner, Result

from local.emulators import ACCOUNT_ID, Emulators
from local.layout import PROJECT_ROOT
from ops.cli import app
from ops.env_command import read_stack
from ops.environment.account import Clients, Environment, prepare
from ops.environment.answers import Unknown
from ops.environment.capacity import Quota
from ops.environment.questions import ask_all, identity
from ops.environment.state_bucket import WantedBucket, prepare_bucket
from ops.errors import OpsError

REGION = "eu-west-1"
BUCKET = f"modelkeep-state-{ACCOUNT_ID}-{REGION}"
KEY_ALIASES = ("alias/modelkeep-state", "alias/modelkeep-dev-secrets")
WRITES = ("Create", "Put", "Delete", "Enable", "Disable", "Update", "Tag", "Untag", "Schedule", "Request")


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    with Emulators(region=REGION, log_dir=tmp_path_factory.mktemp("emulators") / "logs") as running:
        yield running


class Recorder:
    """boto3's clients on the emulators, and the operations that were called through them."""

    def __init__(self, emulators: Emulators) -> None:
        self._emulators = emulators
        self.operations: list[str] = []

    def __call__(self, service: str, region: str) -> Any:
        # moto answers for what the split of services does not name.
        endpoint = self._emulators.endpoints.get(service, self._emulators.endpoints["ec2"])
        client = boto3.client(
            service,
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            verify=self._emulators.environment()["AWS_CA_BUNDLE"],
        )
        client.meta.events.register("before-call", self._record)
        return client

    def _record(self, model: Any, **rest: Any) -> None:
        self.operations.append(model.name)

    @property
    def writes(self) -> list[str]:
        return [each for each in self.operations if each.startswith(WRITES)]


@pytest.fixture
def clients(emulators: Emulators) -> Iterator[Recorder]:
    yield Recorder(emulators)
    s3, kms = emulators.client("s3"), emulators.client("kms")
    for bucket in s3.list_buckets()["Buckets"]:
        s3.delete_bucket(Bucket=bucket["Name"])
    for alias in kms.list_aliases()["Aliases"]:
        if alias["AliasName"] in KEY_ALIASES:
            kms.delete_alias(AliasName=alias["AliasName"])


def prepared(clients: Clients, **changes: Any) -> Environment:
    return prepare(clients, **{"project": "modelkeep", "stack": "dev", "region": REGION, **changes})


def test_a_new_account_gets_a_closed_bucket_and_two_keys(clients: Recorder, emulators: Emulators) -> None:
    done = prepared(clients)
    assert done.differences == []
    assert done.commands == (
        f"pulumi login 's3://{BUCKET}?region=eu-west-1'",
        'pulumi stack init dev --secrets-provider "awskms://alias/modelkeep-dev-secrets?region=eu-west-1"',
    )
    s3, kms = emulators.client("s3"), emulators.client("kms")
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    assert set(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values()) == {True}
    (ownership,) = s3.get_bucket_ownership_controls(Bucket=BUCKET)["OwnershipControls"]["Rules"]
    assert ownership == {"ObjectOwnership": "BucketOwnerEnforced"}
    (encryption,) = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert encryption["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == done.state_key.name
    assert encryption["BucketKeyEnabled"] is True
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 90}
    assert "Expiration" not in rule
    assert {"Key": "project", "Value": "modelkeep"} in s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"]
    assert "aws:SecureTransport" in s3.get_bucket_policy(Bucket=BUCKET)["Policy"]
    arns = {kms.describe_key(KeyId=alias)["KeyMetadata"]["Arn"] for alias in KEY_ALIASES}
    assert arns == {done.state_key.name, done.secrets_key.name}
    assert len(arns) == 2
    for arn in arns:
        assert kms.get_key_rotation_status(KeyId=arn)["KeyRotationEnabled"]
        assert "kms:*" not in kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"]


def test_a_second_time_changes_nothing(clients: Recorder) -> None:
    first = prepared(clients)
    clients.operations.clear()
    second = prepared(clients)
    assert clients.writes == []
    assert second.changes == []
    assert second.commands == first.commands


def test_a_second_stack_shares_the_bucket_and_has_secrets_of_its_own(clients: Recorder, emulators: Emulators) -> None:
    first = prepared(clients)
    second = prepared(clients, stack="staging")
    emulators.client("kms").delete_alias(AliasName="alias/modelkeep-staging-secrets")
    assert second.bucket.name == first.bucket.name
    assert second.state_key.name == first.state_key.name
    assert second.secrets_key.name != first.secrets_key.name
    assert second.changes == ["key alias/modelkeep-staging-secrets: made, rotates every year"]


def test_a_weaker_bucket_is_named_and_left_until_repair(clients: Recorder, emulators: Emulators) -> None:
    s3 = emulators.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.delete_public_access_block(Bucket=BUCKET)
    theirs = {"Sid": "Theirs", "Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": "*"}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [theirs]}))
    before = s3.get_bucket_policy(Bucket=BUCKET)["Policy"]
    left = prepared(clients)
    named = [each.text.partition(": ")[2].partition(" is ")[0] for each in left.differences]
    assert {"public access block", "encryption", "policy", "versioning", "lifecycle", "tagging"} <= set(named)
    assert all("--repair" in each.remedy for each in left.differences)
    assert "PutBucketPolicy" not in clients.operations
    assert s3.get_bucket_policy(Bucket=BUCKET)["Policy"] == before
    assert "Status" not in s3.get_bucket_versioning(Bucket=BUCKET)

    assert prepared(clients, repair=True).differences == []
    sids = [each["Sid"] for each in json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]]
    assert "Theirs" in sids
    assert "DenyPlainHttp" in sids
    assert prepared(clients).changes == []
    assert prepared(clients).differences == []


def test_a_lifecycle_that_keeps_longer_is_left_as_it_is(clients: Recorder, emulators: Emulators) -> None:
    prepared(clients)
    s3 = emulators.client("s3")
    seven_years = {
        "ID": "keep-7-years",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 2557},
    }
    s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": [seven_years]})
    (left,) = prepared(clients).differences
    assert "lifecycle is parts of broken uploads are kept for ever, wanted" in left.text
    prepared(clients, repair=True)
    rules = {each["ID"]: each for each in s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]}
    assert rules["keep-7-years"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 2557}
    assert "NoncurrentVersionExpiration" not in rules["old-versions"]
    assert prepared(clients).differences == []


def test_repair_never_takes_a_grant_away_and_goes_on_naming_it(clients: Recorder, emulators: Emulators) -> None:
    prepared(clients)
    s3 = emulators.client("s3")
    policy = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
    grant = {"Effect": "Allow", "Principal": {"AWS": "999999999999"}, "Action": "s3:GetObject", "Resource": "*"}
    policy["Statement"].append({"Sid": "Partner", **grant})
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    (left,) = prepared(clients, repair=True).differences
    assert left.text == f"bucket {BUCKET}: Partner of its policy allows somebody outside account {ACCOUNT_ID}"
    assert not left.repairable


def test_a_key_that_does_not_rotate_is_named_and_left_until_repair(clients: Recorder, emulators: Emulators) -> None:
    kms = emulators.client("kms")
    key = kms.create_key()["KeyMetadata"]
    kms.create_alias(AliasName="alias/modelkeep-dev-secrets", TargetKeyId=key["KeyId"])
    (left,) = prepared(clients).differences
    assert left.text == "key alias/modelkeep-dev-secrets does not rotate"
    assert not kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"]
    assert prepared(clients, repair=True).secrets_key.name == key["Arn"]
    assert kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"]


def test_a_key_that_somebody_may_use_past_iam_is_named(clients: Recorder, emulators: Emulators) -> None:
    first = prepared(clients)
    kms = emulators.client("kms")
    policy = json.loads(kms.get_key_policy(KeyId=first.secrets_key.name, PolicyName="default")["Policy"])
    intern = f"arn:aws:iam::{ACCOUNT_ID}:user/intern"
    policy["Statement"].append({"Effect": "Allow", "Principal": {"AWS": intern}, "Action": "kms:*", "Resource": "*"})
    kms.put_key_policy(KeyId=first.secrets_key.name, PolicyName="default", Policy=json.dumps(policy))
    (left,) = prepared(clients, repair=True).differences
    assert left.text == (
        "key alias/modelkeep-dev-secrets: statement 3 of its policy lets "
        f"{intern} kms:PutKeyPolicy, which should be IAM's to allow"
    )
    assert not left.repairable


def test_a_key_that_is_to_be_deleted_is_refused(clients: Recorder, emulators: Emulators) -> None:
    kms = emulators.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/modelkeep-state", TargetKeyId=key)
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    with pytest.raises(OpsError, match=r"alias/modelkeep-state .* is in state PendingDeletion"):
        prepared(clients, repair=True)
    assert emulators.client("s3").list_buckets()["Buckets"] == []


def stubbed_s3() -> tuple[Any, Stubber]:
    s3 = boto3.client("s3", region_name=REGION, aws_access_key_id="x", aws_secret_access_key="x")
    return s3, Stubber(s3)


WANTED = WantedBucket(
    name=BUCKET,
    region=REGION,
    account=ACCOUNT_ID,
    partition="aws",
    key_arn="arn:key",
    policy={"Statement": []},
    tags={},
)


@pytest.mark.parametrize("repair", [False, True])
def test_a_bucket_of_another_account_is_left_alone(repair: bool) -> None:
    s3, stub = stubbed_s3()
    stub.add_client_error("head_bucket", "403", http_status_code=403)
    with stub, pytest.raises(OpsError, match=r"belongs to another account.*name another bucket by --bucket"):
        prepare_bucket(s3, WANTED, repair=repair)
    stub.assert_no_pending_responses()


def test_a_name_that_is_taken_elsewhere_is_told() -> None:
    s3, stub = stubbed_s3()
    stub.add_client_error("head_bucket", "404", http_status_code=404)
    stub.add_client_error("create_bucket", "BucketAlreadyExists", http_status_code=409)
    with stub, pytest.raises(OpsError, match="belongs to another account"):
        prepare_bucket(s3, WANTED, repair=False)


def test_a_bucket_of_another_region_is_refused() -> None:
    s3, stub = stubbed_s3()
    stub.add_response("head_bucket", {"BucketRegion": "us-west-2"})
    with stub, pytest.raises(OpsError, match="is in region us-west-2, and the stack in eu-west-1"):
        prepare_bucket(s3, WANTED, repair=True)


def test_a_denied_question_about_the_bucket_is_no_absence() -> None:
    s3, stub = stubbed_s3()
    stub.add_response("head_bucket", {"BucketRegion": REGION})
    stub.add_client_error("get_bucket_ownership_controls", "AccessDenied", http_status_code=403)
    with stub, pytest.raises(ClientError, match="AccessDenied"):
        prepare_bucket(s3, WANTED, repair=True)


def command(*arguments: str, emulators: Emulators, monkeypatch: pytest.MonkeyPatch, path: Path) -> Result:
    """`modelkeep env`, with nothing on PATH and the emulators where boto3 looks for endpoints."""
    for name, value in emulators.environment().items():
        monkeypatch.setenv(name, value)
    for service in ("SERVICE_QUOTAS", "ROUTE_53"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", emulators.endpoints["ec2"])
    monkeypatch.setenv("PATH", str(path))
    return CliRunner().invoke(app, ["env", *arguments])


def test_init_prints_the_lines_for_the_cli_alone(
    clients: Recorder, emulators: Emulators, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = command("init", "dev", emulators=emulators, monkeypatch=monkeypatch, path=tmp_path)
    assert done.exit_code == 0, done.exception
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["pulumi", "login"], ["pulumi", "stack"]]
    assert f"bucket {BUCKET}: made in eu-west-1" in done.stderr
    emulators.client("s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
    weaker = command("init", "dev", emulators=emulators, monkeypatch=monkeypatch, path=tmp_path)
    assert weaker.exit_code == 1
    assert weaker.stdout == ""
    assert 'versioning is "Suspended", wanted Enabled; call again with --repair' in weaker.stderr


def test_check_reads_and_fails_where_something_lacks(
    emulators: Emulators, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = command("check", "dev", "--json", emulators=emulators, monkeypatch=monkeypatch, path=tmp_path)
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    found = {(each["check"], each["level"]) for each in document["findings"]}
    assert ("credentials", "ok") in found
    assert ("ami", "ok") in found
    assert ("quota", "warning") in found  # moto has no such quota, and what is not known is never ok
    assert ("pulumi", "failure") in found
    assert all(each["remedy"] for each in document["findings"] if each["level"] != "ok")
    table = command("check", "dev", emulators=emulators, monkeypatch=monkeypatch, path=tmp_path)
    assert table.exit_code == 1
    assert "g5.xlarge is offered in eu-west-1a, eu-west-1b" in table.stdout


def test_check_without_credentials_says_so_and_looks_at_the_machine(
    emulators: Emulators, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command("check", "dev", emulators=emulators, monkeypatch=monkeypatch, path=tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    done = CliRunner().invoke(app, ["env", "check", "dev", "--json"])
    assert done.exit_code == 1
    checks = [each["check"] for each in json.loads(done.stdout)["findings"]]
    assert checks[:2] == ["credentials", "pulumi"]


def settings_with(tmp_path: Path, **changes: Any) -> Any:
    content = yaml.safe_load((PROJECT_ROOT / "Pulumi.dev.yaml").read_text(encoding="utf-8"))
    for section, values in changes.items():
        content["config"][f"modelkeep:{section}"].update(values)
    file = tmp_path / "stack.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return read_stack("dev", root=PROJECT_ROOT, config_file=file)[1]


def test_the_questions_are_read_only_and_answered(clients: Recorder, emulators: Emulators, tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    image = f"{ACCOUNT_ID}.dkr.ecr.{REGION}.amazonaws.com/nowhere/model-server@{digest}"
    settings = settings_with(tmp_path, fleet={"image": image}, api={"domain": "api.models.example.com"})
    clients("route53", REGION).create_hosted_zone(Name="example.com", CallerReference="one")
    acm = clients("acm", REGION)
    acm.request_certificate(DomainName="api.models.example.com", ValidationMethod="DNS")
    clients("iam", REGION).create_service_linked_role(AWSServiceName="elasticloadbalancing.amazonaws.com")
    clients.operations.clear()
    facts = ask_all(clients, settings)
    assert clients.writes == []
    assert not isinstance(identity(clients, region=REGION), Unknown)
    assert facts.zones == ("eu-west-1a", "eu-west-1b", "eu-west-1c")
    assert facts.vcpus == {"g5.xlarge": 4, "g4dn.xlarge": 4, "g5.2xlarge": 8}
    assert facts.offerings["g5.xlarge"] == frozenset(facts.zones)
    assert facts.ami.startswith("ami-")
    assert facts.images == {image: False}
    assert facts.hosted_zone == "example.com"
    assert facts.certificate.status in {"PENDING_VALIDATION", "ISSUED"}
    assert "CNAME" in facts.certificate.record
    assert "elasticloadbalancing.amazonaws.com" in facts.service_roles


def test_a_private_zone_is_none_for_a_public_name(clients: Recorder, tmp_path: Path) -> None:
    vpc = clients("ec2", REGION).describe_vpcs()["Vpcs"][0]["VpcId"]
    clients("route53", REGION).create_hosted_zone(
        Name="corp.example",
        CallerReference="two",
        VPC={"VPCRegion": REGION, "VPCId": vpc},
        HostedZoneConfig={"PrivateZone": True},
    )
    facts = ask_all(clients, settings_with(tmp_path, api={"domain": "api.corp.example"}))
    assert facts.hosted_zone is None
    assert facts.certificate is None


def test_a_quota_is_read_by_its_code_and_a_denial_is_said(clients: Recorder, tmp_path: Path) -> None:
    settings = settings_with(tmp_path, fleet={"spot_percentage": 50})
    quotas = boto3.client("service-quotas", region_name=REGION, aws_access_key_id="x", aws_secret_access_key="x")
    stub = Stubber(quotas)
    name = "Running On-Demand G and VT instances"
    stub.add_response(
        "get_service_quota",
        {"Quota": {"QuotaName": name, "Value": 64.0}},
        {"ServiceCode": "ec2", "QuotaCode": "L-DB2E81BA"},
    )
    stub.add_client_error("get_service_quota", "AccessDeniedException", http_status_code=400)
    with stub:
        facts = ask_all(
            lambda service, region: quotas if service == "service-quotas" else clients(service, region), settings
        )
    assert facts.quotas == {
        "L-DB2E81BA": Quota(name, 64.0),
        "L-3819A6DF": Unknown("lacks servicequotas:GetServiceQuota"),
    }


def test_the_settings_are_those_of_the_program() -> None:
    project, settings = read_stack("prod", root=PROJECT_ROOT)
    assert project == "modelkeep"
    assert settings.fleet.instance_types == ("g5.4xlarge", "g5.2xlarge", "g5.16xlarge")
    assert settings.region == "eu-west-1"
