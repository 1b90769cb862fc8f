"""What the engine relies on in the provider protocol, call by call."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from typing import Any

import grpc
import pulumi
import pytest
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2, status_pb2

from local.calls import ApiError, Caller
from local.emulators import Emulators
from local.errors import LocalError
from local.plugin import PluginServers, packages
from local.provider import Subject
from local.wire import UNKNOWN, UNKNOWN_TEXT, decode, empty, encode, has_unknown
from tests.local.plugin.conftest import Connect
from tests.local.plugin.engine_client import EngineLog

SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def subject(kind: str, name: str) -> Subject:
    return Subject(urn=f"urn:pulumi:dev::wire::{kind}::{name}", type=kind, name=name)


PARAMETER = subject("aws:ssm/parameter:Parameter", "parameter")
BUCKET = subject("aws:s3/bucket:Bucket", "bucket")


def failure(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, Any]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details(), caught.value


def test_the_handshake_takes_secrets_and_the_version_is_the_sdks(connect: Connect) -> None:
    for package, distribution in (
        ("aws", "pulumi-aws"),
        ("tls", "pulumi-tls"),
        ("docker-build", "pulumi-docker-build"),
    ):
        client = connect(package)
        assert client.version == importlib.metadata.version(distribution)
        assert client.handshake.accept_secrets
        assert not client.handshake.accept_resources  # the engine then sends ids in place of references
        assert not client.handshake.accept_outputs


def test_what_the_provider_has_not_is_unimplemented_which_the_engine_understands(connect: Connect) -> None:
    stub = connect().stub
    for call in (
        lambda: stub.GetSchema(provider_pb2.GetSchemaRequest()),
        lambda: stub.Construct(provider_pb2.ConstructRequest()),
        lambda: stub.GetMapping(provider_pb2.GetMappingRequest(key="terraform")),
    ):
        assert failure(call)[0] is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({}, "region is not set; add aws:region to the stack's configuration file"),
        ({"region": "us-east-1"}, "region is us-east-1, but the emulators are in eu-west-1"),
        ({"region": "eu-west-1", "profile": "work"}, "profile is not taken by the local aws provider"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_by_its_key(
    connect: Connect, configuration: dict[str, Any], message: str
) -> None:
    with pytest.raises(LocalError, match=message):
        connect(configuration=configuration)
    stub = connect().stub
    code, text, _ = failure(lambda: stub.Configure(provider_pb2.ConfigureRequest(args=encode(configuration))))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert message in text


def test_another_region_replaces_the_provider_and_other_tags_do_not(connect: Connect) -> None:
    def difference(old: dict[str, Any], new: dict[str, Any]) -> Any:
        return connect().stub.DiffConfig(provider_pb2.DiffRequest(old_inputs=encode(old), news=encode(new)))

    assert difference({"region": "a"}, {"region": "a"}).changes == provider_pb2.DiffResponse.DIFF_NONE
    assert list(difference({"region": "a"}, {"region": "b"}).replaces) == ["region"]
    tags = difference({"region": "a"}, {"region": "a", "defaultTags": "{}"})
    assert (list(tags.diffs), list(tags.replaces)) == (["defaultTags"], [])
    assert tags.detailedDiff["defaultTags"].kind == provider_pb2.PropertyDiff.ADD


def test_connections_keep_their_configurations_apart(connect: Connect, servers: PluginServers) -> None:
    """Requests name no provider, and a program may have two."""
    tags = json.dumps({"tags": {"team": "one"}})
    one = connect(configuration={"region": "eu-west-1", "defaultTags": tags})
    two = connect()
    assert one.check(BUCKET, {})["tags"] == {"team": "one"}
    assert "tags" not in two.check(BUCKET, {})
    channel = grpc.insecure_channel(f"127.0.0.1:{servers.ports['aws']}", [("grpc.use_local_subchannel_pool", 1)])
    with channel:
        check = channel.unary_unary(
            "/pulumirpc.ResourceProvider/Check",
            request_serializer=provider_pb2.CheckRequest.SerializeToString,
            response_deserializer=provider_pb2.CheckResponse.FromString,
        )
        code, text, _ = failure(lambda: check(provider_pb2.CheckRequest(urn=BUCKET.urn)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert text == "this connection was not configured, or lay idle and was replaced; run pulumi again"


def test_inputs_that_cannot_work_are_failures_by_their_names_and_tell_no_secret(connect: Connect) -> None:
    news = encode({"name": "n", "kind": "x", "type": "hunter2"}, {("type",)})
    answer = connect().stub.Check(provider_pb2.CheckRequest(urn=PARAMETER.urn, news=news))
    assert [(each.property, each.reason) for each in answer.failures] == [("kind", "is not an input of this type")]
    news = encode({"name": "n", "type": "hunter2"}, {("type",)})
    answer = connect().stub.Check(provider_pb2.CheckRequest(urn=PARAMETER.urn, news=news))
    assert [each.property for each in answer.failures] == ["type"]
    assert "must be one of String, StringList, SecureString" in answer.failures[0].reason
    unknown = subject("aws:nowhere/thing:Thing", "thing")
    with pytest.raises(LocalError, match=r"thing: the local engine does not know this type; add it to local/types"):
        connect().check(unknown, {})


def test_check_fills_in_a_name_keeps_the_old_one_and_makes_another_for_a_replacement(connect: Connect) -> None:
    stub = connect().stub

    def name(seed: bytes, **olds: Any) -> Any:
        request = provider_pb2.CheckRequest(urn=BUCKET.urn, olds=encode(olds), news=encode({}), randomSeed=seed)
        return decode(stub.Check(request).inputs)[0]["bucket"]

    first = name(b"one")
    assert first.startswith("bucket-")
    assert name(b"two", bucket=first) == first  # the engine sends another seed with every Check
    assert name(b"two") != first


def test_secrets_and_unknowns_go_through_check_and_preview(connect: Connect) -> None:
    client = connect()
    news = encode({"name": UNKNOWN, "type": "SecureString", "value": "hunter2"}, {("value",)})
    checked = client.stub.Check(provider_pb2.CheckRequest(urn=PARAMETER.urn, news=news)).inputs
    assert checked["name"] == UNKNOWN_TEXT
    assert dict(checked["value"]) == {rpc._special_sig_key: SECRET_SIGNATURE, "value": "hunter2"}
    answer = client.stub.Create(provider_pb2.CreateRequest(urn=PARAMETER.urn, properties=checked, preview=True))
    assert answer.id == ""
    outputs = rpc.deserialize_properties(answer.properties, keep_unknowns=True)
    assert rpc.is_rpc_secret(outputs["value"])
    assert rpc.unwrap_rpc_secret(outputs["value"]) == "hunter2"
    assert outputs["type"] == "SecureString"
    assert {name for name in outputs if isinstance(outputs[name], pulumi.output.Unknown)} >= {"name", "arn", "version"}


def test_a_secret_comes_back_from_a_creation_as_a_secret(connect: Connect, emulators: Emulators) -> None:
    properties = encode({"name": "wire-secret", "type": "SecureString", "value": "hunter2"}, {("value",)})
    answer = connect().stub.Create(provider_pb2.CreateRequest(urn=PARAMETER.urn, properties=properties))
    outputs, secrets = decode(answer.properties)
    assert secrets == {("value",)}
    assert outputs["value"] == "hunter2"
    assert not has_unknown(outputs)
    kept = emulators.client("ssm").get_parameter(Name=answer.id, WithDecryption=True)["Parameter"]["Value"]
    assert kept == "hunter2"


def test_an_api_failure_is_one_line_without_secrets(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Caller, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        raise ApiError(f"{service}:{operation}: Invalid: {parameters['Value']}\nis no good", code="Invalid")

    client = connect()
    monkeypatch.setattr(Caller, "__call__", refuse)
    properties = encode({"name": "n", "type": "String", "value": "hunter2"}, {("value",)})
    request = provider_pb2.CreateRequest(urn=PARAMETER.urn, properties=properties)
    code, text, error = failure(lambda: client.stub.Create(request))
    assert code is grpc.StatusCode.FAILED_PRECONDITION  # which the engine takes for: nothing was made
    assert text == "ssm:PutParameter: Invalid: <secret> is no good"
    assert "hunter2" not in repr(error)


def test_a_lost_answer_leaves_the_engine_in_doubt(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(self: Caller, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        raise ApiError(f"{service}:{operation}: read timeout", lost=True)

    client = connect()
    monkeypatch.setattr(Caller, "__call__", lose)
    request = provider_pb2.CreateRequest(urn=PARAMETER.urn, properties=encode({"name": "n", "type": "String"}))
    assert failure(lambda: client.stub.Create(request))[:2] == (
        grpc.StatusCode.UNKNOWN,
        "ssm:PutParameter: read timeout",
    )


def test_a_defect_is_told_as_one(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(self: Caller, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        raise KeyError("Parameter")

    client = connect()
    monkeypatch.setattr(Caller, "__call__", break_down)
    request = provider_pb2.CreateRequest(urn=PARAMETER.urn, properties=encode({"name": "n", "type": "String"}))
    assert failure(lambda: client.stub.Create(request))[:2] == (
        grpc.StatusCode.INTERNAL,
        "the local provider failed with KeyError: 'Parameter'",
    )


def test_a_half_made_resource_stays_the_engines_and_is_made_anew(
    connect: Connect, emulators: Emulators, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group is made and its retention is refused: the engine must know of the group."""
    original = Caller.__call__

    def refuse(self: Caller, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        if operation == "PutRetentionPolicy":
            raise ApiError("logs:PutRetentionPolicy: LimitExceededException: no", code="LimitExceededException")
        return original(self, service, operation, **parameters)

    monkeypatch.setattr(Caller, "__call__", refuse)
    group = subject("aws:cloudwatch/logGroup:LogGroup", "half")
    properties = encode({"name": "wire-half", "retentionInDays": 7, "tags": {"a": "hunter2"}}, {("tags", "a")})
    client = connect()
    code, text, error = failure(
        lambda: client.stub.Create(provider_pb2.CreateRequest(urn=group.urn, properties=properties))
    )
    assert (code, text) == (grpc.StatusCode.UNKNOWN, "logs:PutRetentionPolicy: LimitExceededException: no")
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert (status.code, status.message) == (grpc.StatusCode.UNKNOWN.value[0], text)
    details = provider_pb2.ErrorResourceInitFailed()
    assert status.details[0].Unpack(details)
    assert (details.id, list(details.reasons)) == ("wire-half", [text])
    values, secrets = decode(details.properties)
    assert (values["name"], secrets) == ("wire-half", {("tags", "a")})
    assert decode(details.inputs) == decode(properties)
    found = emulators.client("logs").describe_log_groups(logGroupNamePrefix="wire-half")["logGroups"]
    assert len(found) == 1

    monkeypatch.undo()  # and the next run, with the very same inputs
    assert client.refreshed(group, details.id, values, values) == ("wire-half", values)
    difference = client.diff(group, details.id, decode(properties)[0], values, decode(properties)[0])
    assert difference.replaces
    assert difference.delete_before_replace
    client.delete(group, details.id, decode(properties)[0], values)
    _, outputs = client.create(group, decode(properties)[0])
    assert not client.diff(group, details.id, decode(properties)[0], outputs, decode(properties)[0]).changed


def test_data_sources_answer_and_mark_what_is_secret(connect: Connect, emulators: Emulators) -> None:
    client = connect()
    answer = client.invoke("aws:index/getCallerIdentity:getCallerIdentity", {})
    assert answer["accountId"] == emulators.client("sts").get_caller_identity()["Account"]
    token = "aws:ecr/getAuthorizationToken:getAuthorizationToken"
    struct = getattr(client.stub.Invoke(provider_pb2.InvokeRequest(tok=token, args=encode({}))), "return")
    values, secrets = decode(struct)
    assert secrets == {("authorizationToken",), ("password",)}
    assert values["userName"] == "AWS"
    with pytest.raises(LocalError, match="invoke aws:x:y is not known to the local engine"):
        client.invoke("aws:x:y", {})
    with pytest.raises(LocalError, match=r"managed prefix list none: 0 found"):
        client.invoke("aws:ec2/getManagedPrefixList:getManagedPrefixList", {"name": "none"})


def test_cancel_ends_one_engines_run_and_no_other(connect: Connect) -> None:
    cancelled, other = connect(), connect()
    cancelled.stub.Cancel(empty())
    request = provider_pb2.CreateRequest(urn=PARAMETER.urn, properties=encode({"name": "never", "type": "String"}))
    code, text, _ = failure(lambda: cancelled.stub.Create(request))
    assert (code, text) == (grpc.StatusCode.CANCELLED, "the engine cancelled this run; nothing more is begun")
    assert other.check(BUCKET, {})


def test_what_is_not_emulated_comes_as_a_warning(connect: Connect, log: EngineLog) -> None:
    validation = subject("aws:acm/certificateValidation:CertificateValidation", "validation")
    made, _ = connect().create(validation, {"certificateArn": "arn:aws:acm:eu-west-1:123456789012:certificate/a"})
    assert made.startswith("not-emulated-")
    assert (
        validation.urn,
        "it is not emulated here, only recorded: nobody answers DNS challenges here; taken as validated",
    ) in log.told


def test_a_taken_port_is_told(servers: PluginServers, emulators: Emulators, tmp_path: Any) -> None:
    taken = servers.ports["aws"]
    served = packages(client=emulators.client, region="eu-west-1", program=tmp_path)
    with pytest.raises(LocalError, match=f"cannot serve provider aws: port {taken} of 127.0.0.1 is not free"):
        PluginServers(served, program=tmp_path, port=taken)


def test_the_ports_follow_each_other_and_are_named_for_the_cli(emulators: Emulators, tmp_path: Any) -> None:
    served = packages(client=emulators.client, region="eu-west-1", program=tmp_path)
    servers = PluginServers(served, program=tmp_path, port=0)
    assert list(servers.ports) == ["aws", "docker-build", "tls"]
    assert servers.debug_providers == ",".join(f"{name}:{port}" for name, port in servers.ports.items())
