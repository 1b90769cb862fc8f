"""Resources of the program's kinds from Check to Delete over the wire: `pulumi up`, `refresh` and `destroy`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2

from local.emulators import Emulators
from local.provider import Subject
from local.wire import UNKNOWN, Archive, Asset, decode, encode
from tests.local.plugin.conftest import Connect
from tests.local.plugin.engine_client import EngineLog
from tests.local.plugin.test_protocol import TRUST, subject


@dataclass(frozen=True)
class Case:
    """A resource, what of it changes in place, and what makes another of it."""

    kind: str
    inputs: dict[str, Any]
    update: dict[str, Any]
    replace: dict[str, Any] = field(default_factory=dict)


GRANT: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::wire/*"]}],
}
CASES = [
    Case(
        "aws:s3/bucket:Bucket", {"forceDestroy": True}, {"tags": {"team": "models"}}, {"bucket": "wire-another-bucket"}
    ),
    Case("aws:kms/key:Key", {"description": "one", "enableKeyRotation": True}, {"description": "two"}),
    Case(
        "aws:iam/role:Role",
        {"assumeRolePolicy": json.dumps(TRUST), "tags": {"a": "1"}},
        {"tags": {"a": "2"}},
        {"name": "wire-another-role"},
    ),
    Case(
        "aws:dynamodb/table:Table",
        {
            "attributes": [{"name": "id", "type": "S"}],
            "hashKey": "id",
            "billingMode": "PAY_PER_REQUEST",
            "ttl": {"attributeName": "until", "enabled": True},
        },
        {"tags": {"team": "models"}},
        {"hashKey": "other", "attributes": [{"name": "other", "type": "S"}]},
    ),
    Case(
        "aws:ec2/vpc:Vpc",
        {"cidrBlock": "10.66.0.0/16", "tags": {"Name": "one"}},
        {"tags": {"Name": "two"}},
        {"cidrBlock": "10.67.0.0/16"},
    ),
    Case(
        "aws:cloudwatch/logGroup:LogGroup", {"retentionInDays": 7}, {"retentionInDays": 14}, {"name": "/wire/another"}
    ),
    Case(
        "aws:iam/policy:Policy",
        {"policy": json.dumps({**GRANT, "Statement": [{**GRANT["Statement"][0], "Effect": "Deny"}]})},
        {"policy": json.dumps(GRANT)},
        {"name": "wire-another-policy"},
    ),
    Case("aws:sns/topic:Topic", {"displayName": "one"}, {"displayName": "two"}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.rpartition(":")[2])
def test_a_resource_from_check_to_delete(connect: Connect, case: Case) -> None:
    client, what = connect(), subject(case.kind, "wire")
    inputs = client.check(what, case.inputs)
    planned = client.planned(what, inputs)
    assert planned["arn"] is UNKNOWN
    resource_id, outputs = client.create(what, inputs)
    assert outputs["arn"].startswith("arn:aws:")
    assert set(outputs) <= set(planned)

    again = client.check(what, case.inputs, inputs)
    assert again == inputs
    assert not client.diff(what, resource_id, inputs, outputs, again).changed
    found, refreshed = client.refreshed(what, resource_id, inputs, outputs)
    assert found == resource_id
    assert refreshed["arn"] == outputs["arn"]

    changed = client.check(what, {**case.inputs, **case.update}, inputs)
    difference = client.diff(what, resource_id, inputs, outputs, changed)
    assert (set(difference.changed), difference.replaces) == (set(case.update), ())
    assert client.planned(what, changed, outputs)["arn"] == outputs["arn"]
    updated = client.update(what, resource_id, inputs, outputs, changed)
    assert {name: updated[name] for name in case.update} == case.update

    if case.replace:
        other = client.check(what, {**case.inputs, **case.replace}, inputs)
        assert set(client.diff(what, resource_id, inputs, updated, other).replaces) <= set(case.replace)
        assert client.diff(what, resource_id, inputs, updated, other).replaces
    client.delete(what, resource_id, changed, updated)
    client.delete(what, resource_id, changed, updated)  # gone already: as when `destroy` is run again
    assert client.refreshed(what, resource_id, changed, updated) == ("", {})


def test_a_resource_that_is_gone_is_refreshed_away(connect: Connect, emulators: Emulators) -> None:
    client, what = connect(), subject("aws:ec2/securityGroup:SecurityGroup", "gone")
    vpc = emulators.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    inputs = client.check(what, {"vpcId": vpc, "description": "d"})
    resource_id, outputs = client.create(what, inputs)
    emulators.client("ec2").delete_security_group(GroupId=resource_id)
    answer = client.stub.Read(
        provider_pb2.ReadRequest(id=resource_id, urn=what.urn, properties=encode(outputs), inputs=encode(inputs))
    )
    assert answer.id == ""


def test_an_existing_resource_is_read_by_its_id(connect: Connect, emulators: Emulators) -> None:
    vpc = emulators.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    group = emulators.client("ec2").create_security_group(GroupName="wire-found", Description="by hand", VpcId=vpc)
    what = subject("aws:ec2/securityGroup:SecurityGroup", "found")
    assert connect().read(what, group["GroupId"], {})["description"] == "by hand"


def test_a_state_that_nothing_can_read_back_stays_with_its_secrets(connect: Connect, log: EngineLog) -> None:
    def refreshed(package: str, what: Subject, inputs: dict[str, Any]) -> bool:
        client = connect(package)
        resource_id, outputs = client.create(what, inputs)
        state = encode(outputs, {(next(iter(outputs)),)})
        answer = client.stub.Read(
            provider_pb2.ReadRequest(id=resource_id, urn=what.urn, properties=state, inputs=encode(inputs))
        )
        return (answer.id, answer.properties) == (resource_id, state)

    key = subject("tls:index/privateKey:PrivateKey", "key")  # lives in the state alone
    assert refreshed("tls", key, {"algorithm": "ED25519"})
    account = subject("aws:apigateway/account:Account", "account")
    assert refreshed("aws", account, {"cloudwatchRoleArn": "arn:aws:iam::123456789012:role/logs"})
    warning = "aws:apigateway/account:Account account: nothing here can ask whether it still exists"
    assert (account.urn, f"{warning}; its state is taken as it is") in log.told
    assert key.urn not in dict(log.told)


def test_a_refresh_keeps_secret_what_was_secret(connect: Connect, emulators: Emulators) -> None:
    client, what = connect(), subject("aws:ec2/vpc:Vpc", "secret")
    resource_id, outputs = client.create(what, client.check(what, {"cidrBlock": "10.68.0.0/16"}))
    answer = client.stub.Read(
        provider_pb2.ReadRequest(
            id=resource_id,
            urn=what.urn,
            properties=encode(outputs, {("arn",)}),
            inputs=encode({"cidrBlock": "10.68.0.0/16"}),
        )
    )
    assert decode(answer.properties)[1] == {("arn",)}


def test_files_come_with_the_programs_paths_and_go_by_their_hash(connect: Connect, emulators: Emulators) -> None:
    client = connect()
    role, _ = client.create(*_checked(client, "aws:iam/role:Role", {"assumeRolePolicy": json.dumps(TRUST)}))
    what = subject("aws:lambda/function:Function", "wire")
    arn = emulators.client("iam").get_role(RoleName=role)["Role"]["Arn"]
    program = {"runtime": "python3.13", "handler": "main.handler", "role": arn, "code": Archive(path="code")}
    inputs = client.check(what, program)
    assert inputs["code"].path == "code"  # no path of this machine goes into the engine's state
    resource_id, outputs = client.create(what, inputs)
    assert outputs["code"] == inputs["code"]
    answer = emulators.client("lambda").invoke(FunctionName=resource_id, Payload=b"{}")
    assert json.loads(answer["Payload"].read()) == "moin"

    assert not client.diff(what, resource_id, inputs, outputs, inputs).changed
    files = {"main.py": Asset(text="def handler(event, context):\n    return 'tach'\n")}
    changed = client.check(what, {**program, "code": Archive(assets=files)}, inputs)
    assert client.diff(what, resource_id, inputs, outputs, changed).changed == ("code",)
    updated = client.update(what, resource_id, inputs, outputs, changed)
    assert updated["code"] == changed["code"]
    answer = emulators.client("lambda").invoke(FunctionName=resource_id, Payload=b"{}")
    assert json.loads(answer["Payload"].read()) == "tach"
    client.delete(what, resource_id, changed, updated)


def test_an_image_is_recorded_with_a_digest_of_its_context(connect: Connect, program: Path) -> None:
    (program / "code" / "Dockerfile").write_text("FROM scratch\n", encoding="utf-8")
    inputs = {
        "context": {"location": "code"},
        "dockerfile": {"location": "code/Dockerfile"},
        "tags": ["repository:1"],
        "push": True,
    }
    client = connect("docker-build")
    what, checked = _checked(client, "docker-build:index:Image", inputs)
    assert client.planned(what, checked)["ref"] is UNKNOWN
    digest, outputs = client.create(what, checked)
    assert outputs["ref"] == f"repository:1@{digest}"


def _checked(client: Any, kind: str, inputs: dict[str, Any]) -> tuple[Subject, dict[str, Any]]:
    what = subject(kind, "checked")
    return what, client.check(what, inputs)
