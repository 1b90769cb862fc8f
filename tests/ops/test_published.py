"""What is published is listed with who signed it and what is served, and verified wherever it lies."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from model_image.artefacts import publish, write_manifest
from model_image.errors import ArtefactError
from ops import models_command, serving
from ops.errors import OpsError
from ops.published import list_published, verify_directory, verify_published
from tests.signing import SigningKey

KEY, FOREIGN = SigningKey(), SigningKey("foreign")


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    server.stop()


class Function:
    """Lambda and Auto Scaling: what was asked of the rollout, and how its refresh goes on."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.refusal = ""
        self.statuses = ["Pending", "InProgress", "Successful"]

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803  (boto3's own names)
        assert FunctionName == "rollout"
        self.orders.append(json.loads(Payload))
        if self.refusal:
            return {"FunctionError": "Unhandled", "Payload": _Body({"errorMessage": self.refusal})}
        return {"Payload": _Body({"served": {"a": "2"}, "refresh": "refresh-1"})}

    def describe_instance_refreshes(self, **wanted: Any) -> dict[str, Any]:
        assert wanted == {"AutoScalingGroupName": "fleet", "InstanceRefreshIds": ["refresh-1"]}
        return {"InstanceRefreshes": [{"Status": self.statuses.pop(0)}]}


class _Body:
    def __init__(self, value: Any) -> None:
        self.value = value

    def read(self) -> bytes:
        return json.dumps(self.value).encode()


class Ssm:
    value = '{"models": {"a": {"settings": "1", "version": "2", "previous": "1"}}}'

    def get_parameter(self, *, Name: str) -> dict[str, Any]:  # noqa: N803  (boto3's own name)
        assert Name == "/p"
        return {"Parameter": {"Value": self.value}}


@dataclass
class Stack:
    """As ops.targets.Target, with an emulated S3 and doubles of what the rollout and KMS are asked."""

    clients: dict[str, Any]
    outputs: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        return self.clients[service]

    def output(self, name: str) -> str:
        return str(self.outputs[name])


@pytest.fixture
def stack(s3: Any) -> Any:
    bucket = f"models-{uuid.uuid4()}"
    s3.create_bucket(Bucket=bucket)
    function = Function()
    clients = {"s3": s3, "kms": KEY, "ssm": Ssm(), "lambda": function, "autoscaling": function}
    outputs = {
        "model_bucket": bucket, "signing_key_arn": KEY.arn, "promotions_parameter": "/p", "rollout_function": "rollout",
        "autoscaling_group": "fleet", "models": {"a": "1", "b": "1"},
    }  # fmt: skip
    return Stack(clients=clients, outputs=outputs)


def make(directory: Path, *, name: str = "a", version: str = "1") -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({"is": [name, version]}))
    write_manifest(directory, name=name, version=version, tasks=["chat"], architecture="X")
    return directory


def put(stack: Any, directory: Path, *, key: SigningKey = KEY) -> str:
    address = publish(stack.client("s3"), stack.output("model_bucket"), directory, signer=key.signer)
    return address.rstrip("/")


def test_versions_are_listed_with_what_is_served_and_who_signed(stack: Any, tmp_path: Path) -> None:
    assert list_published(stack, served={}) == []
    for name, version, key in (("b", "1", KEY), ("a", "2", KEY), ("a", "1", FOREIGN)):
        put(stack, make(tmp_path / name / version, name=name, version=version), key=key)
    bucket, s3 = stack.output("model_bucket"), stack.client("s3")
    s3.put_object(Bucket=bucket, Key="half/1/config.json", Body=b"{}")  # no manifest yet: not published
    s3.delete_object(Bucket=bucket, Key="b/1/manifest.json.sig")

    found = list_published(stack, served=serving.served_versions(stack))

    assert [(each.manifest.name, each.manifest.version, each.served, each.signature) for each in found] == [
        ("a", "1", False, "not trusted"), ("a", "2", True, "trusted"), ("b", "1", True, "not trusted"),
    ]  # fmt: skip
    assert "foreign key" in found[0].refused
    assert "not signed" in found[2].refused
    stack.outputs["model_bucket"] = "no-such-bucket-at-all"
    with pytest.raises(OpsError, match="S3 answered NoSuchBucket"):
        list_published(stack, served={})


def test_a_model_is_verified_in_the_bucket_and_on_disk(stack: Any, tmp_path: Path) -> None:
    made = make(tmp_path / "a")
    address, trusted, s3 = put(stack, made), [KEY.signer.public_key()], stack.client("s3")
    assert verify_published(s3, address, trusted=trusted).version == "1"
    assert verify_directory(made, trusted=[])[1] is False
    with pytest.raises(ArtefactError, match="not signed"):
        verify_directory(made, trusted=trusted)
    with pytest.raises(ArtefactError, match="foreign key"):
        verify_published(s3, address, trusted=[FOREIGN.signer.public_key()])
    for wrong in ("s3://bucket", "s3://bucket/a", "s3://bucket/a/1/config.json"):
        with pytest.raises(OpsError, match=r"write it like s3://BUCKET/NAME/VERSION"):
            verify_published(s3, wrong, trusted=trusted)


def test_what_is_not_signed_is_not_promoted_and_the_function_not_asked(stack: Any, tmp_path: Path) -> None:
    put(stack, make(tmp_path / "a", version="2"), key=FOREIGN)
    with pytest.raises(ArtefactError, match="foreign key"):
        serving.promote(stack, name="a", version="2")
    with pytest.raises(ArtefactError, match="does not exist"):
        serving.promote(stack, name="a", version="3")
    assert stack.client("lambda").orders == []


def test_a_promotion_waits_for_its_refresh(stack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "POLL_SECONDS", 0.0)
    put(stack, make(tmp_path / "a", version="2"))
    manifest, rollout = serving.promote(stack, name="a", version="2")
    said: list[str] = []
    serving.wait(stack, rollout, on_progress=lambda _, status: said.append(status))
    assert (manifest.version, rollout.served, said) == ("2", {"a": "2"}, ["Pending", "InProgress"])

    rollout = serving.roll_back(stack, name="a")
    stack.client("autoscaling").statuses = ["InProgress", "Failed"]
    with pytest.raises(OpsError, match="refresh-1 of group fleet is Failed: the instances of before go on"):
        serving.wait(stack, rollout, on_progress=lambda _, __: None)
    assert stack.client("lambda").orders == [{"model": "a", "version": "2"}, {"model": "a", "rollback": True}]


def test_what_the_function_refuses_is_told_in_its_words(stack: Any) -> None:
    stack.client("lambda").refusal = "model a was not promoted"
    with pytest.raises(OpsError, match=r"^model a was not promoted$"):
        serving.roll_back(stack, name="a")


def test_a_model_in_a_bucket_is_verified_with_a_stacks_key_only() -> None:
    done = CliRunner().invoke(models_command.app, ["verify", "s3://bucket/a/1"])
    assert done.exit_code == 2
    assert "--stack" in done.output
