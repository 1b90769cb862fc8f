"""The emulators: they answer, child processes reach them, and they never outlive whoever started them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import botocore.session
import pytest

from local.emulators import ACCOUNT_ID, SERVICES, Emulators
from local.errors import LocalError

START_AND_WAIT = """
import sys, time
from pathlib import Path
from local.emulators import Emulators
with Emulators(region="eu-west-1", log_dir=Path(sys.argv[1])) as emulators:
    print(*emulators.pids, flush=True)
    time.sleep(60)
"""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def _all_gone(pids: list[int], *, seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(_alive(pid) for pid in pids)


def test_both_emulators_are_the_same_account(emulators: Emulators) -> None:
    assert emulators.client("sts").get_caller_identity()["Account"] == ACCOUNT_ID
    vpcs = emulators.client("ec2").describe_vpcs()["Vpcs"]
    assert {vpc["OwnerId"] for vpc in vpcs} == {ACCOUNT_ID}


def test_an_account_is_born_with_what_the_program_reads(emulators: Emulators) -> None:
    name = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
    assert emulators.client("ssm").get_parameter(Name=name)["Parameter"]["Value"].startswith("ami-")
    lists = emulators.client("ec2").describe_managed_prefix_lists()["PrefixLists"]
    assert {"com.amazonaws.eu-west-1.s3", "com.amazonaws.eu-west-1.dynamodb"} <= {e["PrefixListName"] for e in lists}
    zones = emulators.client("ec2").describe_availability_zones()["AvailabilityZones"]
    assert len(zones) >= 3


def test_the_endpoint_variables_are_those_that_boto3_reads() -> None:
    session = botocore.session.get_session()
    expected = {name: session.get_service_model(name).service_id.replace(" ", "_").upper() for name in SERVICES}
    assert {name: suffix for name, (suffix, _) in SERVICES.items()} == expected


def test_a_child_process_reaches_both_emulators_by_its_environment(emulators: Emulators) -> None:
    program = (
        "import boto3\n"
        "print(boto3.client('sts').get_caller_identity()['Account'], boto3.client('ec2').meta.endpoint_url)\n"
    )
    environment = {"PATH": os.environ["PATH"], **emulators.environment()}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [ACCOUNT_ID, emulators.endpoints["ec2"]]


def test_a_service_without_emulator_is_refused(emulators: Emulators) -> None:
    with pytest.raises(LocalError, match="AWS service sagemaker is not emulated here; emulated: acm, apigateway"):
        emulators.client("sagemaker")


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalError, match=rf"emulator moto: port {port} of 127\.0\.0\.1 is not free .*; stop what"):
            Emulators(region="eu-west-1", log_dir=tmp_path, ports={"moto": port}).start()


def test_an_emulator_that_dies_at_start_is_told_with_the_last_line_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "local.emulators._command",
        lambda *_, **__: [sys.executable, "-c", "raise SystemExit('no more memory')"],
    )
    emulators = Emulators(region="eu-west-1", log_dir=tmp_path)
    with pytest.raises(LocalError, match=r"ended at start with status 1: no more memory; see .*\.log and start again"):
        emulators.start()
    assert emulators.pids == []


def test_stop_ends_the_processes_and_may_come_twice(tmp_path: Path) -> None:
    emulators = Emulators(region="eu-west-1", log_dir=tmp_path)
    emulators.start()
    pids = emulators.pids
    assert len(pids) == 2
    assert all(_alive(pid) for pid in pids)
    emulators.stop()
    emulators.stop()
    assert not any(_alive(pid) for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_emulators_end_with_their_parent_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    pids = [int(text) for text in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.send_signal(number)
    parent.wait(timeout=30)
    parent.stdout.close()
    assert _all_gone(pids)


def test_a_lambda_runs_and_reaches_services_of_both_emulators(emulators: Emulators) -> None:
    import io
    import zipfile

    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as target:
        target.writestr(
            "index.py",
            "import boto3\ndef handler(event, context):\n"
            "    return [boto3.client(name).meta.endpoint_url for name in ('dynamodb', 'apigateway')]\n",
        )
    role = emulators.client("iam").create_role(RoleName="test-lambda", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    function = {"FunctionName": "test-lambda", "Runtime": "python3.13", "Role": role, "Handler": "index.handler"}
    emulators.client("lambda").create_function(**function, Code={"ZipFile": code.getvalue()})
    answer = emulators.client("lambda").invoke(FunctionName="test-lambda", Payload=b"{}")
    assert json.loads(answer["Payload"].read()) == [emulators.endpoints["dynamodb"], emulators.endpoints["apigateway"]]
