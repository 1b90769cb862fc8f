"""The fleet against a real group, launch template, target group and balancer in the emulator, with real processes."""

import base64
import http.client
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.balancer import Target
from local.emulators import Emulators
from local.errors import LocalError
from local.fleet import Fleet, InstanceStatus
from local.processes import ProcessLedger, start_mark

FAKE = (sys.executable, str(Path(__file__).with_name("fake_server.py")))


@dataclass
class Deployed:
    """What the program would have deployed, made by boto3."""

    emulators: Emulators
    group: str
    target_group_arn: str
    load_balancer_dns: str
    load_balancer_arn: str
    template_id: str

    def set_capacity(self, desired: int) -> None:
        self.emulators.client("autoscaling").set_desired_capacity(
            AutoScalingGroupName=self.group, DesiredCapacity=desired
        )

    def ids(self) -> set[str]:
        groups = self.emulators.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[self.group])
        return {item["InstanceId"] for item in groups["AutoScalingGroups"][0]["Instances"]}

    def healthy(self) -> dict[str, int]:
        answer = self.emulators.client("elbv2").describe_target_health(TargetGroupArn=self.target_group_arn)
        return {
            item["Target"]["Id"]: item["Target"]["Port"]
            for item in answer["TargetHealthDescriptions"]
            if item["TargetHealth"]["State"] == "healthy"
        }


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    with Emulators(region="eu-west-1", log_dir=tmp_path_factory.mktemp("emulators")) as running:
        yield running


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        return int(probe.getsockname()[1])


def deploy(emulators: Emulators, *, name: str, port: int, mode: str = "serve", desired: int = 2) -> Deployed:
    ec2, elbv2 = emulators.client("ec2"), emulators.client("elbv2")
    subnets = ec2.describe_subnets()["Subnets"][:2]
    environment = (
        f"# made at boot\nMODELKEEP_PORT={port}\nMODELKEEP_DRAIN_SECONDS=60\nMODELKEEP_MODELS=[]\nFAKE_MODE={mode}\n"
    )
    document = {"write_files": [{"path": "/etc/modelkeep/server.env", "content": environment}], "runcmd": ["true"]}
    user_data = "#cloud-config\n" + yaml.safe_dump(document)
    template = ec2.create_launch_template(
        LaunchTemplateName=f"{name}-template",
        LaunchTemplateData={
            "ImageId": "ami-12345678",
            "InstanceType": "g5.xlarge",
            "UserData": base64.b64encode(user_data.encode()).decode(),
        },
    )["LaunchTemplate"]
    target_group = elbv2.create_target_group(
        Name=f"{name}-tg", Protocol="HTTPS", Port=8443, VpcId=subnets[0]["VpcId"], TargetType="instance",
        HealthCheckProtocol="HTTPS", HealthCheckPath="/ready", HealthCheckIntervalSeconds=5,
        HealthCheckTimeoutSeconds=3, HealthyThresholdCount=2, UnhealthyThresholdCount=2, Matcher={"HttpCode": "200"},
    )["TargetGroups"][0]  # fmt: skip
    elbv2.modify_target_group_attributes(
        TargetGroupArn=target_group["TargetGroupArn"],
        Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "60"}],
    )
    balancer = elbv2.create_load_balancer(
        Name=f"{name}-LB", Subnets=[item["SubnetId"] for item in subnets], Scheme="internal"
    )["LoadBalancers"][0]
    elbv2.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": target_group["TargetGroupArn"]}],
    )  # fmt: skip
    specification = {"LaunchTemplateId": template["LaunchTemplateId"], "Version": "1"}
    emulators.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=name, MinSize=1, MaxSize=4, DesiredCapacity=desired,
        VPCZoneIdentifier=subnets[0]["SubnetId"], TargetGroupARNs=[target_group["TargetGroupArn"]],
        HealthCheckType="ELB", HealthCheckGracePeriod=120,
        MixedInstancesPolicy={"LaunchTemplate": {"LaunchTemplateSpecification": specification}},
    )  # fmt: skip
    return Deployed(
        emulators=emulators, group=name, target_group_arn=target_group["TargetGroupArn"],
        load_balancer_dns=balancer["DNSName"], load_balancer_arn=balancer["LoadBalancerArn"],
        template_id=template["LaunchTemplateId"],
    )  # fmt: skip


def make_fleet(deployed: Deployed, directory: Path, *, command: tuple[str, ...] = FAKE) -> Fleet:
    return Fleet(
        client=deployed.emulators.client,
        environment=deployed.emulators.environment(),
        group=deployed.group,
        target_group_arn=deployed.target_group_arn,
        state_dir=directory / "state",
        log_dir=directory / "logs",
        command=command,
    )


def get(url: str, path: str) -> tuple[int, dict[str, Any]]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, _, port = url.rpartition("/")[2].partition(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=20, context=context)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def assert_nothing_remains(statuses: list[InstanceStatus], directory: Path) -> None:
    for status in statuses:
        assert start_mark(status.pid) is None
        host, _, port = status.url.rpartition("/")[2].partition(":")
        with socket.socket() as probe:
            assert probe.connect_ex((host, int(port))) != 0
    assert ProcessLedger(directory / "state" / "pids.json").entries() == []
    assert not any((directory / "state" / "instances").iterdir())
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("fleet-", "instance-"))]


def test_serves_the_desired_capacity_each_on_its_own_address(
    emulators: Emulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the user")
    monkeypatch.setenv("MODELKEEP_HOST", "of the user")
    port = free_port()
    deployed = deploy(emulators, name="serving", port=port)
    with make_fleet(deployed, tmp_path) as fleet:
        fleet.wait_ready(30)
        statuses = fleet.instances()
        assert {status.id for status in statuses} == deployed.ids()
        assert sorted(status.url for status in statuses) == [f"https://127.0.0.{last}:{port}" for last in (2, 3)]
        assert {status.state for status in statuses} == {"ready"}
        assert {status.models for status in statuses} == {("tiny/1",)}
        assert deployed.healthy() == dict.fromkeys(deployed.ids(), port)
        _, answer = get(statuses[0].url, "/")
        seen = answer["environment"]
        assert seen["MODELKEEP_MODELS"] == "[]"
        assert seen["MODELKEEP_PORT"] == str(port)
        assert seen["MODELKEEP_HOST"] == "127.0.0.2"
        # Neither the user's credentials nor the emulators' root's: an SDK asks the metadata service.
        assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"} & seen.keys()
        assert seen["AWS_EC2_METADATA_SERVICE_ENDPOINT"].endswith(f"/{statuses[0].id}")
        assert seen["AWS_ENDPOINT_URL_S3"] == emulators.endpoints["s3"]
        assert seen["MODELKEEP_CACHE_DIR"] == str(tmp_path / "state" / "cache")
        assert (tmp_path / "logs" / f"server-{statuses[0].id}.log").stat().st_mode & 0o077 == 0
        recorded = {entry.pid for entry in ProcessLedger(tmp_path / "state" / "pids.json").alive()}
        assert recorded == {status.pid for status in statuses}
    assert_nothing_remains(statuses, tmp_path)
    fleet.stop()


def test_picks_the_least_busy_target_of_its_own_load_balancer_only(emulators: Emulators, tmp_path: Path) -> None:
    deployed = deploy(emulators, name="picking", port=free_port())
    fleet = make_fleet(deployed, tmp_path)
    assert fleet.pick(deployed.load_balancer_dns) is None
    with fleet:
        fleet.wait_ready(30)
        assert fleet.pick("other.elb.amazonaws.com") is None
        first = fleet.pick(deployed.load_balancer_dns.lower())
        second = fleet.pick(deployed.load_balancer_arn)
        assert isinstance(first, Target)
        assert isinstance(second, Target)
        assert {first.id, second.id} == deployed.ids()
        fleet.release(second)
        assert fleet.pick(deployed.load_balancer_dns) == second
        assert fleet.pick(deployed.load_balancer_dns, exclude=[first.id]) == second
        assert fleet.pick(deployed.load_balancer_dns, exclude=deployed.ids()) is None


def test_replaces_a_killed_server(emulators: Emulators, tmp_path: Path) -> None:
    deployed = deploy(emulators, name="killed", port=free_port())
    with make_fleet(deployed, tmp_path) as fleet:
        fleet.wait_ready(30)
        before = deployed.ids()
        victim, survivor = fleet.instances()
        os.kill(victim.pid, signal.SIGKILL)
        until(lambda: fleet.pick(deployed.load_balancer_dns, exclude=[survivor.id]) is None, seconds=5)
        until(lambda: deployed.ids() != before)
        fleet.wait_ready(30)
        assert deployed.ids() == {status.id for status in fleet.instances()}
        assert survivor.id in deployed.ids()
        assert victim.id not in deployed.ids()
        assert set(deployed.healthy()) == deployed.ids()
        assert {status.url for status in fleet.instances()} == {victim.url, survivor.url}


def test_replaces_a_server_that_is_no_longer_healthy(emulators: Emulators, tmp_path: Path) -> None:
    deployed = deploy(emulators, name="sick", port=free_port(), desired=1)
    with make_fleet(deployed, tmp_path) as fleet:
        fleet.wait_ready(30)
        (before,) = fleet.instances()
        get(before.url, "/sick")
        until(lambda: before.id not in deployed.ids())
        until(lambda: [status.state for status in fleet.instances()] == ["ready"])
        assert start_mark(before.pid) is None


@pytest.mark.parametrize("picked", [True, False], ids=["picked", "unknown-to-the-balancer"])
def test_scale_in_waits_for_the_request_under_way(emulators: Emulators, tmp_path: Path, picked: bool) -> None:
    deployed = deploy(emulators, name=f"scaling-{picked}", port=free_port())
    with make_fleet(deployed, tmp_path) as fleet:
        fleet.wait_ready(30)
        before = {status.id: status for status in fleet.instances()}
        answers: dict[str, int] = {}

        def call(target: Target) -> None:
            answers[target.id] = get(target.url, "/hold")[0]
            if picked:
                fleet.release(target)

        if picked:
            targets = [fleet.pick(deployed.load_balancer_dns) for _ in before]
        else:
            targets = [Target(id=status.id, url=status.url) for status in before.values()]
        calls = [threading.Thread(target=call, args=(target,)) for target in targets]
        for thread in calls:
            thread.start()
        until(lambda: all(connected(status.url) for status in before.values()))
        deployed.set_capacity(1)
        until(lambda: any(status.state == "draining" for status in fleet.instances()))
        until(lambda: set(deployed.healthy()) == deployed.ids())
        (gone,) = before.keys() - deployed.ids()
        assert fleet.pick(deployed.load_balancer_dns, exclude=deployed.ids()) is None
        assert start_mark(before[gone].pid) is not None
        assert answers == {}
        (tmp_path / "state" / "gate").touch()
        for thread in calls:
            thread.join()
        assert answers == dict.fromkeys(before, 200)
        until(lambda: {status.id for status in fleet.instances()} == deployed.ids())
        assert start_mark(before[gone].pid) is None


def connected(url: str) -> bool:
    """Whether the server at `url` has taken a request on /hold, as it says itself."""
    return int(get(url, "/")[1]["held"]) > 0


def test_scale_out_is_followed(emulators: Emulators, tmp_path: Path) -> None:
    deployed = deploy(emulators, name="growing", port=free_port(), desired=1)
    with make_fleet(deployed, tmp_path) as fleet:
        fleet.wait_ready(30)
        deployed.set_capacity(3)
        until(lambda: len(fleet.instances()) == 3)
        fleet.wait_ready(30)
        assert len({status.url for status in fleet.instances()}) == 3
        assert set(deployed.healthy()) == deployed.ids()


def test_a_server_that_crashes_at_start_is_reported_with_its_last_line(emulators: Emulators, tmp_path: Path) -> None:
    deployed = deploy(emulators, name="crashing", port=free_port(), mode="crash")
    with make_fleet(deployed, tmp_path) as fleet:
        with pytest.raises(LocalError, match=r"ended with status 1: model tiny 1: expected sha256 aa, found bb"):
            fleet.wait_ready(30)
        assert {status.state for status in fleet.instances()} <= {"failed", "starting"}
        until(lambda: len(list((tmp_path / "logs").glob("server-*.log"))) > 2)  # it does go on trying
    starts = len(list((tmp_path / "logs").glob("server-*.log")))
    told = (tmp_path / "logs" / "fleet.log").read_text().count("expected sha256 aa, found bb; publish it again; see ")
    assert told >= starts - 2, "a restart went untold"


def test_a_server_that_never_gets_ready_is_named(emulators: Emulators, tmp_path: Path) -> None:
    deployed = deploy(emulators, name="never", port=free_port(), mode="never", desired=1)
    with make_fleet(deployed, tmp_path) as fleet:
        with pytest.raises(
            LocalError, match=r"not ready after 2 s: i-\w+ \(https://127.0.0.2:\d+\) is starting: /ready"
        ):
            fleet.wait_ready(2)
        statuses = fleet.instances()
    assert_nothing_remains(statuses, tmp_path)


def test_stop_ends_what_has_only_just_been_started(emulators: Emulators, tmp_path: Path) -> None:
    deployed = deploy(emulators, name="halfway", port=free_port(), desired=3)
    fleet = make_fleet(deployed, tmp_path)
    fleet.start()
    until(lambda: len(fleet.instances()) > 0)
    statuses = fleet.instances()
    fleet.stop()
    assert fleet.instances() == []
    assert_nothing_remains(statuses, tmp_path)


SUPERVISOR = """
import json, sys, time
from pathlib import Path
import boto3
from local.fleet import Fleet
environment, group, target_group_arn, directory, command = json.loads(sys.argv[1])
fleet = Fleet(
    client=boto3.client,  # its environment has the endpoints
    environment=environment, group=group, target_group_arn=target_group_arn,
    state_dir=Path(directory) / "state", log_dir=Path(directory) / "logs", command=command,
)
fleet.start()
fleet.wait_ready(30)
print(json.dumps([status.pid for status in fleet.instances()]), flush=True)
time.sleep(60)
"""


def test_no_server_outlives_a_supervisor_that_is_killed(emulators: Emulators, tmp_path: Path) -> None:
    deployed = deploy(emulators, name="orphans", port=free_port())
    environment = emulators.environment()
    parts = (environment, deployed.group, deployed.target_group_arn, str(tmp_path), FAKE)
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, json.dumps(parts)], env=os.environ | environment, stdout=subprocess.PIPE
    )
    try:
        assert supervisor.stdout is not None
        pids = json.loads(supervisor.stdout.readline())
        assert all(start_mark(pid) is not None for pid in pids)
        assert {entry.pid for entry in ProcessLedger(tmp_path / "state" / "pids.json").alive()} == set(pids)
    finally:
        supervisor.kill()
        supervisor.communicate()
    until(lambda: all(start_mark(pid) is None for pid in pids))


def test_a_taken_port_is_passed_over(emulators: Emulators, tmp_path: Path) -> None:
    port = free_port()
    deployed = deploy(emulators, name="taken", port=port, desired=1)
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))
        other.listen()
        with make_fleet(deployed, tmp_path) as fleet:
            fleet.wait_ready(30)
            (status,) = fleet.instances()
            assert status.url == f"https://127.0.0.2:{port + 1}"
            assert deployed.healthy() == {status.id: port + 1}


def test_what_is_not_deployed_or_cannot_run_is_one_line(emulators: Emulators, tmp_path: Path) -> None:
    deployed = deploy(emulators, name="broken", port=free_port())
    fleet = make_fleet(deployed, tmp_path, command=("/no/such/server",))
    with fleet, pytest.raises(LocalError, match=r"^cannot start /no/such/server: no such program.*$"):
        fleet.wait_ready(30)
    for field, value in (("group", "nowhere"), ("target_group_arn", deployed.target_group_arn + "0")):
        wrong = Deployed(**{**vars(deployed), field: value})
        with pytest.raises(LocalError) as caught:
            make_fleet(wrong, tmp_path).start()
        assert "\n" not in str(caught.value)
    assert logging.getLogger("local.fleet.nowhere").handlers == []
