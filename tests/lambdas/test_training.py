"""A configuration that lands starts one job, on machines that there are; what cannot run is refused with its reason."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from lambdas import training
from lambdas.environment import TrainingEnvironment
from lambdas.errors import ConfigurationError, TrainingError
from lambdas.training import LARGEST_CONFIG, start

SMALL = [{"type": "VCPU", "value": "4"}, {"type": "GPU", "value": "1"}]
LARGE = [{"type": "VCPU", "value": "48"}, {"type": "GPU", "value": "4"}]
VARIABLES = {
    "QUEUE": "arn:queue/spot",
    "DEFINITION": "arn:definition/single:3",
    "MULTI_NODE_QUEUE": "arn:queue/on-demand",
    "MULTI_NODE_DEFINITION": "arn:definition/multi:3",
    "EVERY_NODE": "0:",
    "MACHINES": json.dumps(
        [{"gpus": 1, "vcpus": 4, "requirements": SMALL}, {"gpus": 4, "vcpus": 48, "requirements": LARGE}]
    ),
    "MAX_VCPUS": "96",
}
ENVIRONMENT = TrainingEnvironment.read(VARIABLES)
KEY = "training/gpt2-2.yaml"


class Aws:
    """S3 with one configuration, and Batch with its jobs."""

    def __init__(self, text: str | bytes = "kind: train\n") -> None:
        self.content = text if isinstance(text, bytes) else text.encode()
        self.jobs: list[dict[str, Any]] = []
        self.read: list[tuple[str, str]] = []

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803  (boto3's own names)
        self.read.append((Bucket, Key))
        return {"Body": io.BytesIO(self.content)}

    def get_paginator(self, operation: str) -> "Aws":
        assert operation == "list_jobs"
        return self

    def paginate(self, *, jobQueue: str, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:  # noqa: N803
        (wanted,) = filters[0]["values"]
        found = [each for each in self.jobs if each["jobQueue"] == jobQueue]
        yield {"jobSummaryList": [each for each in found if each["jobName"].lower() == wanted.lower()]}

    def describe_jobs(self, *, jobs: list[str]) -> dict[str, Any]:
        return {"jobs": [each for each in self.jobs if each["jobId"] in jobs]}

    def submit_job(self, **wanted: Any) -> dict[str, Any]:
        self.jobs.append({**wanted, "jobId": f"job-{len(self.jobs) + 1}", "status": "RUNNABLE"})
        return self.jobs[-1]

    def land(self, *, key: str = KEY, version: str = "v1") -> dict[str, Any]:
        landed = {"bucket": {"name": "data"}, "object": {"key": key, "versionId": version}}
        return start(landed, ENVIRONMENT, clients={"s3": self, "batch": self})


def test_a_configuration_starts_a_job_of_its_name_on_the_smallest_machine() -> None:
    aws = Aws()
    assert aws.land() == {"name": "gpt2-2", "job": "job-1", "nodes": 1, "new": True}
    (job,) = aws.jobs
    assert job["jobName"] == "gpt2-2"
    assert (job["jobQueue"], job["jobDefinition"]) == ("arn:queue/spot", "arn:definition/single:3")
    assert job["parameters"] == {"config": "s3://data/training/gpt2-2.yaml"}
    assert job["containerOverrides"] == {"resourceRequirements": SMALL}
    assert aws.read == [("data", KEY)]


def test_a_job_of_several_gpus_gets_the_smallest_machine_that_has_them() -> None:
    aws = Aws("distribution: {processes_per_node: 2}\n")
    aws.land()
    assert aws.jobs[0]["containerOverrides"] == {"resourceRequirements": LARGE}


def test_a_job_of_several_nodes_is_a_multi_node_job_on_demand() -> None:
    aws = Aws("distribution: {nodes: 2, processes_per_node: 4}\n")
    assert aws.land()["nodes"] == 2
    (job,) = aws.jobs
    assert (job["jobQueue"], job["jobDefinition"]) == ("arn:queue/on-demand", "arn:definition/multi:3")
    assert job["nodeOverrides"] == {
        "numNodes": 2,
        "nodePropertyOverrides": [{"targetNodes": "0:", "containerOverrides": {"resourceRequirements": LARGE}}],
    }
    assert "containerOverrides" not in job


def test_machines_without_gpus_take_any_number_of_processes() -> None:
    machine = {"gpus": 0, "vcpus": 8, "requirements": []}
    environment = TrainingEnvironment.read({**VARIABLES, "MACHINES": json.dumps([machine])})
    assert environment.machine(64).vcpus == 8


def test_the_same_event_twice_is_one_job() -> None:
    aws = Aws()
    aws.land()
    assert aws.land() == {"name": "gpt2-2", "job": "job-1", "nodes": 1, "new": False}
    assert len(aws.jobs) == 1


def test_another_configuration_waits_for_no_job_of_its_name() -> None:
    aws = Aws()
    aws.land()
    with pytest.raises(TrainingError, match=r"job gpt2-2 \(job-1\) is not over; wait for it or terminate it"):
        aws.land(version="v2")
    aws.jobs[0]["status"] = "FAILED"
    assert aws.land(version="v2")["job"] == "job-2"


def test_a_job_of_a_name_in_other_letters_is_another() -> None:
    aws = Aws()
    aws.land(key="training/GPT2-2.yaml")
    assert aws.land()["new"] is True


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("distribution: {processes_per_node: 8}", "processes_per_node is 8, and no machine .* more than 4 GPUs"),
        ("distribution: {nodes: 3, processes_per_node: 4}", "3 machines of 48 vCPUs, and the stack may have 96"),
        ("distribution: [2]", "distribution is not understood"),
        (b"\xff\xfe", "no text in UTF-8"),
        ("#" * (LARGEST_CONFIG + 1), "more than 65536 bytes"),
    ],
)
def test_what_cannot_run_is_refused_and_submits_nothing(text: str | bytes, reason: str) -> None:
    aws = Aws(text)
    with pytest.raises(TrainingError, match=reason):
        aws.land()
    assert aws.jobs == []


@pytest.mark.parametrize(
    "key",
    ["training/a.b.yaml", "training/a/b.yaml", "training/.yaml", "training/-a.yaml", "training/a+b.yaml", "a.yaml"],
)
def test_a_name_that_is_no_jobs_is_refused(key: str) -> None:
    aws = Aws()
    with pytest.raises(TrainingError, match=r"is no name of a training job; name the file training/NAME\.yaml"):
        aws.land(key=key)
    assert (aws.jobs, aws.read) == ([], [])


def test_every_object_of_an_event_has_its_job_and_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = Aws()
    monkeypatch.setattr(training.boto3, "client", lambda *_, **__: aws)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    records = [
        {"s3": {"bucket": {"name": "data"}, "object": {"key": f"training/{name}.yaml", "versionId": "v"}}}
        for name in ("a", "b")
    ]
    assert [each["name"] for each in training.handler({"Records": records}, None)] == ["a", "b"]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line["job"]) for line in lines] == [("training", "job-1"), ("training", "job-2")]


@pytest.mark.parametrize("missing", sorted(VARIABLES))
def test_a_missing_variable_is_named(missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{missing} is not set"):
        TrainingEnvironment.read({**VARIABLES, missing: ""})
