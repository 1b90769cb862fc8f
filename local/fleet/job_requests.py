"""Reads what was submitted to Batch, through boto3 alone: which job is next, and what its definition has it run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local.errors import LocalError
from local.fleet.deployed import Client
from local.job_states import QUEUED

_REFERENCE = "Ref::"


@dataclass(frozen=True)
class JobRequest:
    """A job as it is to be run; `summary` is what Batch says of it, `command` and `variables` are of its container."""

    summary: Mapping[str, Any]
    command: tuple[str, ...]
    variables: Mapping[str, str]
    role_arn: str | None
    nodes: int
    retry_strategy: Mapping[str, Any]
    timeout_seconds: float | None

    @property
    def id(self) -> str:
        """Its id in Batch."""
        return str(self.summary["jobId"])

    @property
    def attempt(self) -> int:
        """Which one this is, from 1."""
        return len(self.summary.get("attempts", [])) + 1

    @property
    def name(self) -> str:
        """As whoever submitted it called it."""
        return str(self.summary["jobName"])


def waiting(client: Client) -> list[Mapping[str, Any]]:
    """The summaries of the jobs that wait in any queue, the oldest first."""
    batch = client("batch")
    found = [
        {**job, "jobQueue": queue["jobQueueArn"]}
        for queue in batch.describe_job_queues()["jobQueues"]
        for job in batch.list_jobs(jobQueue=queue["jobQueueName"], jobStatus=QUEUED)["jobSummaryList"]
    ]
    return sorted(found, key=lambda job: job["createdAt"])


def read_request(client: Client, job_id: str) -> JobRequest:
    """What a job is to run; raises LocalError where its definition has nothing that can be run here."""
    batch = client("batch")
    job = batch.describe_jobs(jobs=[job_id])["jobs"][0]
    definitions = batch.describe_job_definitions(jobDefinitions=[job["jobDefinition"]])["jobDefinitions"]
    if not definitions:
        raise LocalError(f"job definition {job['jobDefinition']} does not exist; submit the job with another")
    definition = definitions[0]
    container = _container(definition)
    environment = [*container.get("environment", []), *job.get("container", {}).get("environment", [])]
    command = job.get("container", {}).get("command") or container["command"]
    timeout = (job.get("timeout") or definition.get("timeout") or {}).get("attemptDurationSeconds")
    return JobRequest(
        summary=job,
        command=tuple(_filled_in(command, job.get("parameters", {}))),
        variables={each["name"]: each["value"] for each in environment},
        role_arn=container.get("jobRoleArn"),
        nodes=int(job.get("nodeProperties", {}).get("numNodes", 1)),
        retry_strategy=definition.get("retryStrategy") or {},
        timeout_seconds=None if timeout is None else float(timeout),
    )


def is_terminated(client: Client, job_id: str) -> str | None:
    """Why somebody has asked for the end of a job; None where nobody has."""
    job = client("batch").describe_jobs(jobs=[job_id])["jobs"][0]
    return str(job.get("statusReason", "")) if job.get("isTerminated") else None


def _container(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """The container of a definition; that of the first nodes where there are several."""
    ranges = definition.get("nodeProperties", {}).get("nodeRangeProperties", [{}])
    container: Mapping[str, Any] | None = definition.get("containerProperties") or ranges[0].get("container")
    if not container or not container.get("command"):
        name = definition["jobDefinitionName"]
        raise LocalError(f"job definition {name} has no container with a command, and there is no image here to ask")
    return container


def _filled_in(command: Sequence[str], parameters: Mapping[str, str]) -> Iterator[str]:
    """The command with the values of the parameters that it refers to; raises LocalError for one that has none."""
    for part in command:
        if not part.startswith(_REFERENCE):
            yield part
        elif (value := parameters.get(part.removeprefix(_REFERENCE))) is not None:
            yield value
        else:
            raise LocalError(f"the command refers to {part}, and the job has no such parameter; submit it with one")


def is_tried_again(strategy: Mapping[str, Any], *, attempt: int, exit_code: int, status_reason: str) -> bool:
    """
    Whether Batch starts a job again whose attempt (from 1) ended so; the first rule that fits decides.

    Source: https://docs.aws.amazon.com/batch/latest/APIReference/API_EvaluateOnExit.html
    """
    if attempt >= int(strategy.get("attempts", 1)):
        return False
    seen = {"onExitCode": str(exit_code), "onStatusReason": status_reason, "onReason": ""}
    for rule in strategy.get("evaluateOnExit", []):
        if all(_fits(seen[key], rule[key]) for key in seen if rule.get(key)):
            return str(rule["action"]).upper() == "RETRY"
    return True


def _fits(value: str, pattern: str) -> bool:
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern
