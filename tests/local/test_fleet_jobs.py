"""Jobs that are submitted to the emulator's Batch run as processes, one at a time, and end as Batch ends them."""

import itertools
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from local.emulators import Emulators
from local.fleet import job_run
from local.fleet.job_requests import is_tried_again
from local.fleet.jobs import Jobs
from local.processes import ProcessLedger
from tests.local.test_fleet import until

FAKE = (sys.executable, str(Path(__file__).with_name("fake_job.py")))
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
STRATEGY = {
    "attempts": 3,
    "evaluateOnExit": [{"onExitCode": "75", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}],
}
_numbers = itertools.count()


@dataclass
class Batch:
    """Two queues, and definitions as the program would make them."""

    emulators: Emulators
    queue: str
    other_queue: str
    role_arn: str

    @property
    def client(self) -> Any:
        return self.emulators.client("batch")

    def define(self, *command: str, **more: Any) -> str:
        container = {
            "image": "model@sha256:0",
            "command": list(command),
            "jobRoleArn": self.role_arn,
            "environment": [{"name": "MODELKEEP_STACK", "value": "local"}],
            "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}],
        }
        found: str = self.client.register_job_definition(
            jobDefinitionName=f"definition-{next(_numbers)}", type="container", containerProperties=container, **more
        )["jobDefinitionArn"]
        return found

    def submit(self, *command: str, queue: str | None = None, name: str = "small-1", **more: Any) -> str:
        """A job whose last argument is the parameter `config`."""
        definition = self.define(*command[:-1], "Ref::config", **more)
        found: str = self.client.submit_job(
            jobName=name,
            jobQueue=queue or self.queue,
            jobDefinition=definition,
            parameters={"config": command[-1]},
        )["jobId"]
        return found

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.describe_jobs(jobs=[job_id])["jobs"][0]
        return found

    def until(self, job_id: str, status: str) -> dict[str, Any]:
        until(lambda: self.job(job_id)["status"] == status, seconds=30)
        return self.job(job_id)


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    """Emulators of their own: jobs that other tests have submitted would be run, and first."""
    with Emulators(region="eu-west-1", log_dir=tmp_path_factory.mktemp("emulator-logs")) as running:
        yield running


@pytest.fixture(scope="module")
def batch(emulators: Emulators) -> Batch:
    moto = boto3.client(
        "iam", endpoint_url=emulators.endpoints["batch"], region_name="eu-west-1", aws_access_key_id="test",
        aws_secret_access_key="test", config=Config(proxies={}),
    )  # fmt: skip
    service = moto.create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    client = emulators.client("batch")
    client.create_compute_environment(computeEnvironmentName="machine", type="UNMANAGED", serviceRole=service)
    for queue in ("first", "second"):
        client.create_job_queue(
            jobQueueName=queue, state="ENABLED", priority=1,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "machine"}],
        )  # fmt: skip
    role = emulators.client("iam").create_role(RoleName="training", AssumeRolePolicyDocument=json.dumps(TRUST))
    return Batch(emulators, queue="first", other_queue="second", role_arn=role["Role"]["Arn"])


@pytest.fixture
def jobs(batch: Batch, tmp_path: Path) -> Iterator[Jobs]:
    running = make_jobs(batch, tmp_path)
    with running:
        yield running
    assert ProcessLedger(tmp_path / "pids.json").entries() == []


def make_jobs(batch: Batch, directory: Path) -> Jobs:
    return Jobs(
        client=batch.emulators.client,
        environment=batch.emulators.environment(),
        state_dir=directory / "jobs",
        log_dir=directory / "logs",
        ledger_file=directory / "pids.json",
        command=FAKE,
    )


def queue_of_events(emulators: Emulators) -> str:
    """A queue that is sent what Batch says of its jobs."""
    sqs, events = emulators.client("sqs"), emulators.client("events")
    url: str = sqs.create_queue(QueueName="batch-events")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="batch-events", EventPattern=json.dumps({"source": ["aws.batch"]}))
    events.put_targets(Rule="batch-events", Targets=[{"Id": "queue", "Arn": arn}])
    return url


def received(emulators: Emulators, url: str) -> list[dict[str, Any]]:
    found = []
    while messages := emulators.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for each in messages:
            found.append(json.loads(each["Body"])["detail"])
            emulators.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
    return found


def test_a_job_runs_as_its_role_with_what_its_definition_says(jobs: Jobs, batch: Batch, tmp_path: Path) -> None:
    events = queue_of_events(batch.emulators)
    told = tmp_path / "told.json"
    job_id = batch.submit("tell", str(told), queue=batch.other_queue)
    job = batch.until(job_id, "SUCCEEDED")
    assert job["container"]["exitCode"] == 0
    assert len(job["attempts"]) == 1
    found = json.loads(told.read_text())
    assert found["identity"] == f"arn:aws:sts::123456789012:assumed-role/training/{job_id}"
    environment = found["environment"]
    assert environment["MODELKEEP_STACK"] == "local"
    assert (environment["AWS_BATCH_JOB_ID"], environment["AWS_BATCH_JOB_ATTEMPT"]) == (job_id, "1")
    assert environment["TMPDIR"].startswith(str(tmp_path / "jobs"))
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MODELKEEP_HOME"} & set(environment)
    until(lambda: not any((tmp_path / "jobs").iterdir()))
    (status,) = jobs.jobs()
    assert (status.id, status.name, status.state, status.attempt, status.reason) == (
        job_id, "small-1", "SUCCEEDED", 1, "",
    )  # fmt: skip
    assert Path(status.log).parent == tmp_path / "logs"
    details = received(batch.emulators, events)
    assert [each["status"] for each in details] == ["STARTING", "RUNNING", "SUCCEEDED"]
    assert {(each["jobId"], each["jobName"], each["jobQueue"].rpartition("/")[2]) for each in details} == {
        (job_id, "small-1", "second")
    }


def test_one_job_runs_at_a_time_the_oldest_first(jobs: Jobs, batch: Batch, tmp_path: Path) -> None:
    first = batch.submit("sleep", str(tmp_path / "first"))
    second = batch.submit("sleep", str(tmp_path / "second"), queue=batch.other_queue)
    until((tmp_path / "first").exists, seconds=30)
    until(lambda: [job.state for job in jobs.jobs()] == ["RUNNING", "RUNNABLE"])
    assert batch.job(second)["status"] == "RUNNABLE"
    batch.client.terminate_job(jobId=first, reason="enough")
    ended = batch.until(first, "FAILED")
    assert (ended["statusReason"], ended["container"]["exitCode"]) == ("enough", 143)
    until((tmp_path / "second").exists, seconds=30)
    batch.client.terminate_job(jobId=second, reason="enough")
    batch.until(second, "FAILED")


def test_a_job_that_waits_is_cancelled_at_once(jobs: Jobs, batch: Batch, tmp_path: Path) -> None:
    first = batch.submit("sleep", str(tmp_path / "first"))
    second = batch.submit("sleep", str(tmp_path / "second"))
    until((tmp_path / "first").exists, seconds=30)
    batch.client.cancel_job(jobId=second, reason="not needed")
    assert (batch.job(second)["status"], batch.job(second)["statusReason"]) == ("FAILED", "not needed")
    batch.client.terminate_job(jobId=first, reason="enough")
    batch.until(first, "FAILED")
    assert not (tmp_path / "second").exists()


def test_what_its_strategy_says_is_tried_again(jobs: Jobs, batch: Batch) -> None:
    saved = batch.until(batch.submit("exit", "75", "75", "0", retryStrategy=STRATEGY), "SUCCEEDED")
    assert [each["container"]["exitCode"] for each in saved["attempts"]] == [75, 75, 0]
    failed = batch.until(batch.submit("exit", "75", "1", "0", retryStrategy=STRATEGY), "FAILED")
    assert (failed["statusReason"], failed["container"]["exitCode"]) == ("Essential container in task exited", 1)
    batch.until(batch.submit("exit", "75", "75", "75", retryStrategy=STRATEGY), "FAILED")
    assert [job.attempt for job in jobs.jobs()] == [3, 2, 3]


def test_a_process_that_does_not_end_is_killed(
    jobs: Jobs, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_run, "TERMINATE_SECONDS", 0.5)
    job_id = batch.submit("stubborn", str(tmp_path / "there"), timeout={"attemptDurationSeconds": 1})
    ended = batch.until(job_id, "FAILED")
    assert (tmp_path / "there").exists()
    assert (ended["statusReason"], ended["container"]["exitCode"]) == ("Job attempt duration exceeded timeout", 137)


def test_every_node_is_told_which_one_it_is(jobs: Jobs, batch: Batch, tmp_path: Path) -> None:
    container = {"image": "model@sha256:0", "command": ["node", "Ref::config"], "jobRoleArn": batch.role_arn}
    definition = batch.client.register_job_definition(
        jobDefinitionName="nodes", type="multinode",
        nodeProperties={
            "numNodes": 3, "mainNode": 0, "nodeRangeProperties": [{"targetNodes": "0:", "container": container}],
        },
    )["jobDefinitionArn"]  # fmt: skip
    job_id = batch.client.submit_job(
        jobName="nodes-1", jobQueue=batch.queue, jobDefinition=definition,
        parameters={"config": str(tmp_path / "node")}, nodeOverrides={"numNodes": 2},
    )["jobId"]  # fmt: skip
    batch.until(job_id, "SUCCEEDED")
    main, other = (json.loads((tmp_path / f"node-{index}").read_text()) for index in (0, 1))
    both = {
        "AWS_BATCH_JOB_ATTEMPT": "1", "AWS_BATCH_JOB_NUM_NODES": "2", "AWS_BATCH_JOB_MAIN_NODE_INDEX": "0",
    }  # fmt: skip
    assert main == {**both, "AWS_BATCH_JOB_ID": f"{job_id}#0", "AWS_BATCH_JOB_NODE_INDEX": "0"}
    assert other == {
        **both, "AWS_BATCH_JOB_ID": f"{job_id}#1", "AWS_BATCH_JOB_NODE_INDEX": "1",
        "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": "127.0.0.1",
    }  # fmt: skip
    assert not (tmp_path / "node-2").exists()
    assert len(jobs.jobs()) == 1


def test_a_job_that_cannot_be_run_fails_with_the_reason(jobs: Jobs, batch: Batch) -> None:
    definition = batch.define("tell", "Ref::absent")
    job_id = batch.client.submit_job(jobName="odd", jobQueue=batch.queue, jobDefinition=definition)["jobId"]
    ended = batch.until(job_id, "FAILED")
    assert ended["statusReason"].startswith("the command refers to Ref::absent")
    assert [job.reason for job in jobs.jobs()] == [ended["statusReason"]]


def test_the_end_of_the_runner_ends_the_job(batch: Batch, tmp_path: Path) -> None:
    with make_jobs(batch, tmp_path) as jobs:
        batch.submit("sleep", str(tmp_path / "there"))
        until((tmp_path / "there").exists, seconds=30)
        (entry,) = ProcessLedger(tmp_path / "pids.json").alive()
        jobs.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(entry.pid, 0)
    assert not any((tmp_path / "jobs").iterdir())
    assert ProcessLedger(tmp_path / "pids.json").entries() == []


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], True),
        ([{"onExitCode": "75", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}], True),
        ([{"onExitCode": "7*", "action": "exit"}], False),
        ([{"onExitCode": "1", "action": "EXIT"}], True),
        ([{"onStatusReason": "Host EC2*", "onExitCode": "75", "action": "EXIT"}], True),
        ([{"onStatusReason": "Essential*", "onExitCode": "75", "action": "EXIT"}], False),
    ],
)
def test_the_first_rule_that_fits_decides_and_without_one_a_job_is_tried_again(
    rules: list[dict[str, str]], expected: bool
) -> None:
    strategy = {"attempts": 2, "evaluateOnExit": rules}
    reason = "Essential container in task exited"
    assert is_tried_again(strategy, attempt=1, exit_code=75, status_reason=reason) is expected
    assert not is_tried_again(strategy, attempt=2, exit_code=75, status_reason=reason)
    assert not is_tried_again({}, attempt=1, exit_code=75, status_reason=reason)
