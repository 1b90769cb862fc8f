"""Deployments of small programs into the running emulators."""

import itertools
import json
import os
import re
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.calls import Caller
from local.emulators import Emulators
from local.engine import Deployment, Progress, to_json, up
from local.errors import LocalError
from local.state import read_state

_names = (
    f"small{number}" for number in itertools.count()
)  # names follow from the project's, and the account is shared

Project = Callable[..., Path]
Up = Callable[..., Deployment]


@pytest.fixture
def deploy(project: Project, emulators: Emulators, tmp_path: Path) -> Up:
    def run(program: str, *, on_progress: Callable[[Progress], None] | None = None, **more: Any) -> Deployment:
        return up(
            root=project(program, **{"name": next(_names), **more}),
            stack="dev",
            emulators=emulators,
            state_file=tmp_path / "state" / "state.json",
            on_progress=on_progress,
        )

    return run


SECRETS = """
    import pulumi, pulumi_aws as aws, pulumi_tls as tls
    key = tls.PrivateKey("key", algorithm="ECDSA", ecdsa_curve="P256")
    cert = tls.SelfSignedCert(
        "cert", private_key_pem=key.private_key_pem, allowed_uses=["digital_signature", "server_auth"],
        validity_period_hours=24, subject={"common_name": "a.test"}, dns_names=["a.test"])
    imported = aws.acm.Certificate("imported", certificate_body=cert.cert_pem, private_key=key.private_key_pem)
    parameter = aws.ssm.Parameter("password", type="SecureString", value=pulumi.Output.secret("hunter2"))
    role = aws.iam.Role("role", assume_role_policy={"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]})
    pulumi.export("certificate", imported.arn)
    pulumi.export("trust", role.assume_role_policy)
    pulumi.export("password", parameter.value)
"""


def test_secrets_are_made_for_real_and_stand_nowhere_in_plain(deploy: Up, emulators: Emulators, tmp_path: Path) -> None:
    deployment = deploy(SECRETS)
    name = deployment.resource("aws:ssm/parameter:Parameter", "password").id
    kept = emulators.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    assert kept == "hunter2"
    described = emulators.client("acm").describe_certificate(CertificateArn=deployment.outputs["certificate"])
    assert described["Certificate"]["DomainName"] == "a.test"

    pem = deployment.resource("tls:index/privateKey:PrivateKey", "key").outputs["privateKeyPem"]
    body = "".join(pem.splitlines()[1:-1])
    state_file = tmp_path / "state" / "state.json"
    for text in (state_file.read_text(encoding="utf-8"), json.dumps(to_json(deployment)), repr(deployment)):
        assert "hunter2" not in text
        assert "PRIVATE KEY" not in text
        assert body[:40] not in text
    assert {stat.S_IMODE(path.stat().st_mode) for path in state_file.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(state_file.parent.stat().st_mode) == 0o700
    state = read_state(state_file)
    assert state["outputs"]["password"] == "hunter2"
    assert [
        entry["outputs"]["privateKeyPem"] for entry in state["deployment"]["resources"] if entry["name"] == "key"
    ] == [pem]


def test_a_document_comes_back_as_text(deploy: Up) -> None:
    trust = json.loads(deploy(SECRETS).outputs["trust"])
    assert trust["Statement"][0]["Principal"] == {"Service": "ec2.amazonaws.com"}


def test_what_is_made_is_really_there_with_its_default_tags(deploy: Up, emulators: Emulators) -> None:
    deployment = deploy("""
        import pulumi, pulumi_aws as aws
        provider = aws.Provider("p", region="eu-west-1", default_tags={"tags": {"stack": "dev"}})
        on = pulumi.ResourceOptions(provider=provider)
        vpc = aws.ec2.Vpc("vpc", cidr_block="10.7.0.0/16", enable_dns_hostnames=True, tags={"Name": "x"}, opts=on)
        default = aws.ec2.DefaultSecurityGroup("default", vpc_id=vpc.id, opts=on)
        group = aws.ec2.SecurityGroup("group", vpc_id=vpc.id, description="d", opts=on)
        aws.vpc.SecurityGroupEgressRule(
            "rule", security_group_id=group.id, ip_protocol="tcp", from_port=443, to_port=443,
            cidr_ipv4="10.7.0.0/16", description="https", opts=on)
        pulumi.export("ids", [vpc.id, vpc.default_security_group_id, default.id, group.id, vpc.arn])
    """)
    vpc, default, adopted, group, arn = deployment.outputs["ids"]
    ec2 = emulators.client("ec2")
    found = ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == {"stack": "dev", "Name": "x"}
    assert ec2.describe_vpc_attribute(VpcId=vpc, Attribute="enableDnsHostnames")["EnableDnsHostnames"] == {
        "Value": True
    }
    assert adopted == default
    assert arn == f"arn:aws:ec2:eu-west-1:{found['OwnerId']}:vpc/{vpc}"
    rules = {
        entry["GroupId"]: entry for entry in ec2.describe_security_groups(GroupIds=[default, group])["SecurityGroups"]
    }
    assert (rules[default]["IpPermissions"], rules[default]["IpPermissionsEgress"]) == ([], [])
    assert [(rule["FromPort"], rule["IpRanges"]) for rule in rules[group]["IpPermissionsEgress"]] == [
        (443, [{"CidrIp": "10.7.0.0/16", "Description": "https"}])
    ]


def test_data_sources_answer_from_the_account(deploy: Up, emulators: Emulators) -> None:
    outputs = deploy("""
        import pulumi, pulumi_aws as aws
        pulumi.export("account", aws.get_caller_identity_output().account_id)
        pulumi.export("region", aws.get_region_output().region)
        pulumi.export("partition", aws.get_partition_output().dns_suffix)
        pulumi.export("zones", aws.get_availability_zones_output(state="available").names)
        pulumi.export("list", aws.ec2.get_managed_prefix_list_output(name="com.amazonaws.eu-west-1.s3").id)
        pulumi.export("plain", aws.get_region().region)
        pulumi.export("registry", aws.ecr.get_authorization_token_output().password)
    """)
    values = outputs.outputs
    assert values["account"] == emulators.client("sts").get_caller_identity()["Account"]
    assert (values["region"], values["plain"], values["partition"]) == ("eu-west-1", "eu-west-1", "amazonaws.com")
    assert values["zones"][:2] == ["eu-west-1a", "eu-west-1b"]
    assert values["list"].startswith("pl-")
    assert outputs.secret_outputs == {("registry",)}


def test_the_lambda_archive_runs(deploy: Up, emulators: Emulators) -> None:
    program = """
        import json, pulumi, pulumi_aws as aws
        role = aws.iam.Role("role", assume_role_policy=json.dumps({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}))
        files = {"pack/main.py": pulumi.FileAsset("main.py"), "pack/text.txt": pulumi.StringAsset("hi")}
        code = pulumi.AssetArchive(files)
        f = aws.lambda_.Function("f", role=role.arn, runtime="python3.13", handler="pack.main.handler", code=code,
                                 environment={"variables": {"GREETING": "moin"}})
        pulumi.export("name", f.name)
        pulumi.export("invoke", f.invoke_arn)
    """
    main = (
        "import os, pathlib\ndef handler(event, context):\n"
        "    return os.environ['GREETING'] + pathlib.Path(__file__).with_name('text.txt').read_text()\n"
    )
    outputs = deploy(program, files={"main.py": main}).outputs
    answer = emulators.client("lambda").invoke(FunctionName=outputs["name"], Payload=b"{}")
    assert json.loads(answer["Payload"].read()) == "moinhi"
    assert re.fullmatch(
        r"arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/arn:aws:lambda:.*:function:f-\w{7}/invocations",
        outputs["invoke"],
    )


def test_a_failing_call_is_named_with_resource_call_and_awss_own_message(deploy: Up, tmp_path: Path) -> None:
    program = """
        import pulumi, pulumi_aws as aws
        vpc = aws.ec2.Vpc("vpc", cidr_block="10.8.0.0/16")
        bad = aws.ec2.Subnet("bad", vpc_id=vpc.id, cidr_block="10.99.0.0/24")
        after = aws.ec2.NetworkAcl("after", vpc_id=vpc.id, subnet_ids=[bad.id])
    """
    with pytest.raises(LocalError) as caught:
        deploy(program)
    assert str(caught.value).startswith(
        "aws:ec2/subnet:Subnet bad: ec2:CreateSubnet: InvalidSubnet.Range: The CIDR '10.99.0.0/24'"
    )
    assert "\n" not in str(caught.value)
    state = read_state(tmp_path / "state" / "state.json")
    assert [entry["name"] for entry in state["deployment"]["resources"]][1:] == ["vpc"]


def test_a_secret_that_aws_repeats_is_taken_out_of_the_message(deploy: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Caller, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        raise LocalError(f"{service}:{operation}: Invalid: {parameters['Value']} is no good")

    monkeypatch.setattr(Caller, "__call__", refuse)
    program = """
        import pulumi, pulumi_aws as aws
        aws.ssm.Parameter("p", type="String", value=pulumi.Output.secret("hunter2"))
    """
    with pytest.raises(LocalError, match=r"Parameter p: ssm:PutParameter: Invalid: <secret> is no good"):
        deploy(program)


def test_after_a_failure_nothing_new_is_made(deploy: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    original = Caller.__call__

    def counted(self: Caller, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        calls.append(operation)
        if operation == "CreateTopic":
            raise LocalError("sns:CreateTopic: Broken: no")
        return original(self, service, operation, **parameters)

    monkeypatch.setattr(Caller, "__call__", counted)
    program = """
        import pulumi, pulumi_aws as aws
        topic = aws.sns.Topic("topic")
        group = aws.cloudwatch.LogGroup("late", opts=pulumi.ResourceOptions(depends_on=[topic]))
        aws.cloudwatch.LogGroup("later", opts=pulumi.ResourceOptions(depends_on=[group]))
    """
    with pytest.raises(LocalError, match="aws:sns/topic:Topic topic: sns:CreateTopic: Broken: no"):
        deploy(program)
    assert "CreateLogGroup" not in calls


def test_resources_are_made_together_but_after_what_they_depend_on(deploy: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=30)
    order: list[str] = []
    original = Caller.__call__

    def watched(self: Caller, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        if operation == "CreateLogGroup":
            name = parameters["logGroupName"].split("-")[0]
            if name in ("one", "two"):
                both.wait()  # passes only when both are under way at the same time
                time.sleep(0.05)
            order.append(name)
        return original(self, service, operation, **parameters)

    monkeypatch.setattr(Caller, "__call__", watched)
    seen: list[Progress] = []
    deploy(
        """
        import pulumi, pulumi_aws as aws
        one, two = aws.cloudwatch.LogGroup("one"), aws.cloudwatch.LogGroup("two")
        both = aws.cloudwatch.LogGroup("both", opts=pulumi.ResourceOptions(depends_on=[one, two]))
        aws.cloudwatch.LogGroup("last", name=pulumi.Output.concat("last-", both.name))
        """,
        on_progress=seen.append,
    )
    assert set(order[:2]) == {"one", "two"}
    assert order[2:] == ["both", "last"]
    assert sorted(progress.done for progress in seen) == [1, 2, 3, 4]
    assert {progress.name for progress in seen} == {"one", "two", "both", "last"}


def test_an_output_that_the_engine_does_not_give_is_an_error_and_no_silence(deploy: Up) -> None:
    program = """
        import pulumi_aws as aws
        vpc = aws.ec2.Vpc("vpc", cidr_block="10.6.0.0/16")
        aws.cloudwatch.LogGroup("group", tags={"a": vpc.ipv6_association_id})
    """
    with pytest.raises(
        LocalError, match=r"LogGroup group: input tags\.a comes from an output that the local engine does not"
    ):
        deploy(program)
    with pytest.raises(LocalError, match=r"Stack second-dev: output x comes from an output that the local engine"):
        deploy(
            """
            import pulumi, pulumi_aws as aws
            pulumi.export("x", aws.ec2.Vpc("v", cidr_block="10.0.0.0/16").ipv6_association_id)
            """,
            name="second",
        )


def test_what_the_emulators_do_not_take_is_reported_and_listed(deploy: Up) -> None:
    deployment = deploy(
        """
        import pulumi, pulumi_docker_build as docker_build
        image = docker_build.Image("image", context={"location": "."}, dockerfile={"location": "Dockerfile"},
                                   tags=["registry/x:1"], push=False)
        pulumi.export("ref", image.ref)
    """,
        files={"Dockerfile": "FROM scratch\n"},
    )
    assert re.fullmatch(r"registry/x:1@sha256:[0-9a-f]{64}", deployment.outputs["ref"])
    assert [(entry.type, entry.property) for entry in deployment.not_emulated] == [("docker-build:index:Image", "")]


def test_an_interruption_stops_the_deployment_and_keeps_what_was_made(
    deploy: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Caller.__call__
    made: list[str] = []

    def interrupted(self: Caller, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        answer = original(self, service, operation, **parameters)
        if operation == "CreateLogGroup":
            made.append(parameters["logGroupName"].split("-")[0])
            if made[-1] == "b":
                os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C does, while a call is under way
                time.sleep(0.5)
        return answer

    monkeypatch.setattr(Caller, "__call__", interrupted)
    program = """
        import pulumi, pulumi_aws as aws
        before = None
        for name in "abcde":
            before = aws.cloudwatch.LogGroup(name, opts=pulumi.ResourceOptions(depends_on=[before] if before else []))
    """
    with pytest.raises(KeyboardInterrupt):
        deploy(program)
    assert made == ["a", "b"]
    state = read_state(tmp_path / "state" / "state.json")
    assert [entry["name"] for entry in state["deployment"]["resources"]][1:] == ["a", "b"]
