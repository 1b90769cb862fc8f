"""Jobs of moto's Batch as somebody else runs them: moto starts no container, and is told how each job goes on.

Who runs a job says so by a tag of the job, for moto has no other place for it. moto gives out no node properties of a
job definition, and forgets those of a request; both are added here.
"""

import json
from datetime import datetime
from typing import Any

from moto.batch.models import BatchBackend, Job, JobDefinition
from moto.batch.responses import BatchResponse

from local.job_states import ENDED, QUEUED, STATE_TAG

_describe: Any = Job.describe
_describe_definition: Any = JobDefinition.describe
_tag_resource: Any = BatchBackend.tag_resource
_submit: Any = BatchResponse.submitjob


def install() -> None:
    """Have moto keep submitted jobs until they are run, and answer what it is told of them."""
    Job.start = start  # type: ignore[assignment,method-assign]
    Job.status = property(status, set_status)  # type: ignore[assignment,method-assign]
    Job.describe = describe  # type: ignore[method-assign]
    Job.terminate = terminate  # type: ignore[method-assign]
    JobDefinition.describe = describe_definition  # type: ignore[method-assign]
    BatchBackend.tag_resource = tag_resource  # type: ignore[method-assign]
    BatchResponse.submitjob = submitjob  # type: ignore[method-assign]


def submitjob(self: BatchResponse) -> str:
    """A job, with as many nodes as the request asks for."""
    answer: str = _submit(self)
    job: Any = self.batch_backend.get_job_by_id(json.loads(answer)["jobId"])
    job.node_overrides = self._get_param("nodeOverrides") or {}
    return answer


def start(self: Job) -> None:
    """Nothing starts; the job waits to be run."""
    self._status = QUEUED


def status(self: Job) -> str | None:
    """As whoever runs the job has said last; no time and no question makes another of it."""
    return self._status


def set_status(self: Job, value: str) -> None:
    """Keep another status."""
    self._status = value


def tag_resource(self: BatchBackend, resource_arn: str, tags: dict[str, str]) -> None:
    """Tags of any resource; that of a job's state changes the job and is kept as well."""
    _tag_resource(self, resource_arn, tags)
    job = next((each for each in self._jobs.values() if each.arn == resource_arn), None)
    if job is not None and STATE_TAG in tags:
        _told(job, json.loads(tags[STATE_TAG]))


def _told(job: Job, state: dict[str, Any]) -> None:
    """The job is in another state; RUNNING begins an attempt, and whatever comes after it ends that."""
    job._status = state["status"]
    if "reason" in state:
        job.job_stopped_reason = state["reason"]
    if job._status == "RUNNING":
        job.job_started_at = datetime.now()  # noqa: DTZ005  (moto's own are without a zone)
        job.log_stream_name = job._stream_name
        job._start_attempt()
    elif job.latest_attempt is not None and "stoppedAt" not in job.latest_attempt:
        job.job_stopped_at = datetime.now()  # noqa: DTZ005
        job.exit_code = state.get("exitCode")
        job.latest_attempt["container"]["exitCode"] = job.exit_code
        job.latest_attempt["statusReason"] = state.get("reason", "")
        job._stop_attempt()
    if job._status in ENDED:
        job.job_stopped = True
        if job.job_stopped_at.year == 1970:  # it never ran
            job.job_stopped_at = datetime.now()  # noqa: DTZ005


def terminate(self: Job, reason: str) -> None:
    """A job that waits fails at once; one that runs is ended by whoever runs it, who sees `isTerminated`."""
    if self._status in ENDED or self.stop:
        return
    self.stop, self.job_stopped_reason = True, reason
    if self._status == QUEUED:
        _told(self, {"status": "FAILED", "reason": reason})


def describe(self: Job) -> dict[str, Any]:
    """What moto says, with the container's exit code and whether somebody has asked for the job's end."""
    found: dict[str, Any] = _describe(self)
    exit_code = {} if self.exit_code is None else {"exitCode": self.exit_code}
    container = {**found.get("container", {}), **exit_code}
    nodes = {}
    if "nodeProperties" in found:
        asked = getattr(self, "node_overrides", {}).get("numNodes")
        nodes = {"nodeProperties": {**found["nodeProperties"], **({"numNodes": asked} if asked else {})}}
    return {**found, "container": container, "isTerminated": self.stop, **nodes}


def describe_definition(self: JobDefinition) -> dict[str, Any]:
    """What moto says, with the nodes of a multi-node definition."""
    found: dict[str, Any] = _describe_definition(self)
    return found if self.node_properties is None else {**found, "nodeProperties": self.node_properties}
