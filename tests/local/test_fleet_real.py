"""The fleet with the real model server and a tiny model out of the emulated bucket."""

import base64
import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.user_data import Boot, ServerSettings, encode, render
from local.emulators import Emulators
from local.errors import LocalError
from local.fleet import Fleet
from local.processes import start_mark
from model_image.artefacts import publish
from tests import tiny_models
from tests.signing import SigningKey

REGION, BUCKET, MODEL = "eu-west-1", "models-of-the-fleet-test", "tiny-gpt2"
ROLE = "model-server"
KEY = SigningKey()


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    with Emulators(region=REGION, log_dir=tmp_path_factory.mktemp("emulators")) as running:
        s3 = running.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        publish(s3, BUCKET, tiny_models.gpt2(tmp_path_factory.mktemp("models"), name=MODEL), signer=KEY.signer)
        make_profile(running)
        yield running


def make_profile(emulators: Emulators) -> None:
    """An instance profile whose role may read the bucket and nothing else."""
    iam = emulators.client("iam")
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
    read = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
    iam.put_role_policy(RoleName=ROLE, PolicyName="read", PolicyDocument=json.dumps({"Statement": [read]}))
    iam.create_instance_profile(InstanceProfileName=ROLE)
    iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)


def deploy(emulators: Emulators, *, name: str, desired: int) -> str:
    """A group of the program's own user data; returns the ARN of its target group."""
    ec2, elbv2 = emulators.client("ec2"), emulators.client("elbv2")
    subnets = ec2.describe_subnets()["Subnets"][:2]
    server = ServerSettings(
        stack="local", region=REGION, models_bucket=BUCKET, autoscaling_group=name,
        signing_keys=KEY.public, promotions_parameter="",
        models=[{"name": MODEL, "version": "1", "tasks": ["completions"]}],
        target_inflight=8, body_limit_kb=64, timeout_seconds=60,
    )  # fmt: skip
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/modelkeep@sha256:0"
    user_data = encode(render(Boot(image=image, gpu=False, log_group="servers", server=server)))
    template = ec2.create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={"ImageId": "ami-12345678", "UserData": user_data, "IamInstanceProfile": {"Name": ROLE}},
    )["LaunchTemplate"]
    arn: str = elbv2.create_target_group(
        Name=name, Protocol="HTTPS", Port=8443, VpcId=subnets[0]["VpcId"], HealthCheckProtocol="HTTPS",
        HealthCheckPath="/ready", HealthCheckIntervalSeconds=10, HealthCheckTimeoutSeconds=5,
        HealthyThresholdCount=2, UnhealthyThresholdCount=3, Matcher={"HttpCode": "200"},
    )["TargetGroups"][0]["TargetGroupArn"]  # fmt: skip
    balancer = elbv2.create_load_balancer(Name=name, Subnets=[subnet["SubnetId"] for subnet in subnets])
    elbv2.create_listener(
        LoadBalancerArn=balancer["LoadBalancers"][0]["LoadBalancerArn"], Protocol="HTTP", Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": arn}],
    )  # fmt: skip
    emulators.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=name, MinSize=1, MaxSize=2, DesiredCapacity=desired, TargetGroupARNs=[arn],
        VPCZoneIdentifier=subnets[0]["SubnetId"], HealthCheckType="ELB", HealthCheckGracePeriod=300,
        LaunchTemplate={"LaunchTemplateId": template["LaunchTemplateId"], "Version": "1"},
    )  # fmt: skip
    return arn


def make_fleet(emulators: Emulators, directory: Path, *, name: str, desired: int) -> Fleet:
    return Fleet(
        client=emulators.client, environment=emulators.environment(), group=name,
        target_group_arn=deploy(emulators, name=name, desired=desired),
        state_dir=directory / "state", log_dir=directory / "logs", base_address="127.0.8.2",
    )  # fmt: skip


def complete(url: str) -> Any:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    body = json.dumps({"model": MODEL, "prompt": "The quick", "max_tokens": 4}).encode()
    connection = http.client.HTTPSConnection(url.removeprefix("https://"), timeout=30, context=context)
    try:
        connection.request("POST", "/v1/completions", body=body, headers={"content-type": "application/json"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_a_real_server_answers_and_ends(emulators: Emulators, tmp_path: Path) -> None:
    with make_fleet(emulators, tmp_path, name="real", desired=1) as fleet:
        fleet.wait_ready(120)
        statuses = fleet.instances()
        assert [status.models for status in statuses] == [(f"{MODEL}/1",)]
        for status in statuses:
            assert complete(status.url)["usage"]["completion_tokens"] > 0
    assert [start_mark(status.pid) for status in statuses] == [None]


def test_a_damaged_model_is_named(emulators: Emulators, tmp_path: Path) -> None:
    s3, key = emulators.client("s3"), f"{MODEL}/1/config.json"
    good = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    s3.put_object(Bucket=BUCKET, Key=key, Body=base64.b64encode(good)[: len(good)])
    try:
        fleet = make_fleet(emulators, tmp_path, name="damaged", desired=1)
        with fleet, pytest.raises(LocalError, match=r"ended with status 1: [^{]*config\.json has SHA-256") as caught:
            fleet.wait_ready(120)
        assert "\n" not in str(caught.value)
    finally:
        s3.put_object(Bucket=BUCKET, Key=key, Body=good)
