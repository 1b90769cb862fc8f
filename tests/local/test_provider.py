"""The providers by themselves: what they check, name, leave out, read and make."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from local.aws import AwsProvider, provider_configuration
from local.emulation import has_path, without_path
from local.emulators import Emulators
from local.engine import preview, up
from local.errors import LocalError
from local.provider import Subject, automatic_name
from local.schema import type_schema
from local.tls import PRIVATE_KEY, SELF_SIGNED, TlsProvider
from local.types import NOT_EMULATED, TYPES
from local.types.spec import Autoname

Project = Callable[..., Path]
Check = Callable[..., dict[str, Any]]


@pytest.fixture
def check() -> Check:
    provider = AwsProvider(configuration={"region": "eu-west-1"}, caller=None)

    def run(token: str, **inputs: Any) -> dict[str, Any]:
        return provider.check(Subject(urn=f"urn:{token}", type=token, name="x"), inputs)

    return run


@pytest.mark.parametrize("token", sorted(TYPES))
def test_every_type_of_the_table_is_one_of_pulumis_and_names_inputs_that_exist(token: str) -> None:
    schema = type_schema(token)
    spec = TYPES[token]
    named = {name for step in spec.follow for name in step.inputs} | spec.steering
    if spec.autoname is not None:
        named.add(spec.autoname.property)
    assert named <= schema.inputs
    assert set(spec.outputs) <= schema.outputs | {"registryId"}


@pytest.mark.parametrize("entry", sorted(NOT_EMULATED))
def test_what_is_not_emulated_exists_and_has_its_reason(entry: str) -> None:
    token, _, path = entry.partition(".")
    assert len(NOT_EMULATED[entry]) > 10
    if path:
        assert path.split(".")[0] in type_schema(token).inputs


@given(st.from_regex(r"[a-z]{1,20}", fullmatch=True), st.integers(9, 40), st.booleans())
def test_automatic_names_fit_or_are_refused(name: str, limit: int, lower: bool) -> None:
    subject = Subject(urn=f"urn:pulumi:s::p::t::{name}", type="t", name=name.upper())
    rule = Autoname("name", limit=limit, lower=lower)
    if len(name) + 8 > limit:
        with pytest.raises(LocalError, match="characters long"):
            automatic_name(subject, rule)
        return
    made = automatic_name(subject, rule)
    assert made == automatic_name(subject, rule)
    assert made.lower().startswith(f"{name}-")
    assert (made == made.lower()) or not lower


def test_required_and_strange_inputs_are_named_together(check: Check) -> None:
    with pytest.raises(LocalError) as caught:
        check("aws:lambda/function:Function", handler="x", colour="red")
    assert str(caught.value) == (
        "aws:lambda/function:Function x: colour is not an input of this type; role is required"
    )


def test_a_nested_input_that_maps_to_nothing_is_named_by_its_path(check: Check) -> None:
    with pytest.raises(LocalError, match=r"metadataOptions\.httpColour meets no parameter"):
        check("aws:ec2/launchTemplate:LaunchTemplate", metadataOptions={"httpTokens": "required", "httpColour": "red"})
    inputs = {"restApi": "a", "stageName": "v1", "methodPath": "*/*", "settings": {"colour": 1}}
    with pytest.raises(LocalError, match=r"settings\.colour meets no parameter of UpdateStageRequest"):
        check("aws:apigateway/methodSettings:MethodSettings", **inputs)
    with pytest.raises(LocalError, match=r"healthCheck\.colour meets no parameter"):
        check("aws:lb/targetGroup:TargetGroup", port=1, protocol="HTTP", vpcId="v", healthCheck={"colour": "red"})


def test_properties_that_are_not_emulated_are_not_sent(check: Check) -> None:
    inputs = {"restApi": "a", "resourceId": "r", "httpMethod": "GET", "type": "HTTP_PROXY"}
    checked = check("aws:apigateway/integration:Integration", **inputs, responseTransferMode="STREAM")
    assert checked["responseTransferMode"] == "STREAM"  # kept in the record, for previews and reviews
    provider = AwsProvider(configuration={"region": "eu-west-1"}, caller=None)
    subject = Subject(urn="u", type="aws:apigateway/integration:Integration", name="x")
    assert [entry.property for entry in provider.not_emulated(subject, checked)] == ["responseTransferMode"]


@pytest.mark.parametrize("bad", ["", "UNKNOWN-MODE"])
def test_values_outside_an_enumeration_are_refused(check: Check, bad: str) -> None:
    with pytest.raises(LocalError, match="apiKeySource must be one of HEADER, AUTHORIZER"):
        check("aws:apigateway/restApi:RestApi", apiKeySource=bad)


def test_paths_are_found_and_taken_out_through_lists() -> None:
    value = {"a": [{"b": 1, "c": 2}, {"c": 3}], "d": 4}
    assert has_path(value, ["a", "b"])
    assert not has_path(value, ["d", "b"])
    assert without_path(value, ["a", "c"]) == {"a": [{"b": 1}, {}], "d": 4}
    assert value["a"] == [{"b": 1, "c": 2}, {"c": 3}]


def test_a_providers_structured_configuration_is_decoded() -> None:
    given_values = {"region": "eu-west-1", "defaultTags": '{"tags": {"a": "b"}}', "skip": True}
    assert provider_configuration(given_values) == {**given_values, "defaultTags": {"tags": {"a": "b"}}}


@pytest.mark.parametrize(
    "inputs",
    [{"algorithm": "RSA", "rsaBits": 2048}, {"algorithm": "ECDSA", "ecdsaCurve": "P384"}, {"algorithm": "ED25519"}],
)
def test_keys_are_real_and_sign_their_certificates(inputs: dict[str, Any]) -> None:
    provider = TlsProvider()
    _, key = provider.create(Subject("u", PRIVATE_KEY, "key"), inputs)
    wanted = {
        "privateKeyPem": key["privateKeyPem"],
        "allowedUses": ["digital_signature", "server_auth"],
        "validityPeriodHours": 5,
        "subject": {"commonName": "a.test"},
        "dnsNames": ["a.test"],
        "ipAddresses": ["127.0.0.1"],
    }
    _, made = provider.create(Subject("u", SELF_SIGNED, "cert"), wanted)
    certificate = x509.load_pem_x509_certificate(made["certPem"].encode())
    certificate.verify_directly_issued_by(certificate)
    private = load_pem_private_key(key["privateKeyPemPkcs8"].encode(), password=None)
    assert private.public_key() == load_pem_public_key(key["publicKeyPem"].encode()) == certificate.public_key()
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds() == 5 * 3600


def test_what_the_tls_provider_does_not_know_is_refused() -> None:
    with pytest.raises(LocalError, match="cannot take setSubjectKeyId"):
        TlsProvider().check(Subject("u", SELF_SIGNED, "c"), {"setSubjectKeyId": True})
    with pytest.raises(LocalError, match="curve P224 cannot be made here; use RSA, ED25519, or ECDSA with P256"):
        TlsProvider().create(Subject("u", PRIVATE_KEY, "k"), {"algorithm": "ECDSA", "ecdsaCurve": "P224"})


def test_an_existing_resource_is_read(project: Project, emulators: Emulators, tmp_path: Path) -> None:
    vpc = emulators.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    group = emulators.client("ec2").create_security_group(GroupName="made-before", Description="by hand", VpcId=vpc)
    root = project(f"""
        import pulumi, pulumi_aws as aws
        pulumi.export("text", aws.ec2.SecurityGroup.get("found", "{group["GroupId"]}").description)
    """)
    assert preview(root=root, stack="dev").resource("aws:ec2/securityGroup:SecurityGroup", "found").external
    deployment = up(root=root, stack="dev", emulators=emulators, state_file=tmp_path / "state.json")
    assert deployment.outputs == {"text": "by hand"}


def test_a_secret_inside_a_document_keeps_the_whole_text_secret(project: Project) -> None:
    root = project("""
        import pulumi, pulumi_aws as aws
        policy = {"Version": "2012-10-17", "Statement": [{"Sid": pulumi.Output.secret("hunter2"), "Effect": "Deny"}]}
        role = aws.iam.Role("role", assume_role_policy=policy)
        pulumi.export("text", role.assume_role_policy)
    """)
    deployment = preview(root=root, stack="dev")
    record = deployment.resource("aws:iam/role:Role", "role")
    assert record.secret_inputs == {("assumeRolePolicy", "Statement", 0, "Sid")}
    assert record.secret_outputs == {("assumeRolePolicy",)}
    assert deployment.secret_outputs == {("text",)}
