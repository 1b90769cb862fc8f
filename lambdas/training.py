"""Starts a training job when its configuration lands in the data bucket, as `training/NAME.yaml`.

The bucket calls it. S3 may tell of an object twice, and then there is one job all the same; another configuration of
the same name waits for nobody and is refused while a job of that name is not over, since both would write to the same
place. Runs with the standard library and boto3.
"""

import json
import os
import re
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
from botocore.config import Config

from lambdas.environment import Machine, TrainingEnvironment
from lambdas.errors import TrainingError
from lambdas.training_config import Distribution, read_distribution

# AWS Batch's own names of jobs.
_KEY = re.compile(r"training/(?P<name>[A-Za-z0-9][A-Za-z0-9_-]{0,127})\.yaml")
LARGEST_CONFIG = 64 * 1024
VERSION_TAG = "config-version"
_OVER = frozenset({"SUCCEEDED", "FAILED"})


def handler(event: Any, context: Any) -> list[dict[str, Any]]:  # noqa: ARG001 - Lambda's signature
    """Take an event of S3's; the jobs of its objects. Lambda logs what is raised, and an alarm tells of it."""
    environment = TrainingEnvironment.read(os.environ)
    options = Config(connect_timeout=2, read_timeout=20, retries={"mode": "standard", "max_attempts": 3})
    clients = {service: boto3.client(service, config=options) for service in ("s3", "batch")}
    jobs = []
    for record in event["Records"]:
        jobs.append(start(record["s3"], environment, clients=clients))
        sys.stdout.write(json.dumps({"event": "training", **jobs[-1]}) + "\n")
    return jobs


def start(landed: Mapping[str, Any], environment: TrainingEnvironment, *, clients: Mapping[str, Any]) -> dict[str, Any]:
    """The job of one object: {"name", "job": its id, "nodes", "new": whether it was submitted just now}."""
    bucket = str(landed["bucket"]["name"])
    key = urllib.parse.unquote_plus(str(landed["object"]["key"]))
    version = str(landed["object"].get("versionId", "null"))
    match = _KEY.fullmatch(key)
    if match is None:
        raise TrainingError(
            f"{key[:200]!r} is no name of a training job; name the file training/NAME.yaml, where NAME has letters, "
            "digits, - and _ alone"
        )
    name = match["name"]
    distribution = read_distribution(_text(clients["s3"], bucket, key))
    machine = environment.machine(distribution.processes_per_node)
    _fits(distribution, machine, environment)
    for job in _unfinished(clients["batch"], environment, name):
        if job["tags"].get(VERSION_TAG) == version:
            return {"name": name, "job": job["jobId"], "nodes": distribution.nodes, "new": False}
        raise TrainingError(f"job {name} ({job['jobId']}) is not over; wait for it or terminate it, then upload again")
    submitted = clients["batch"].submit_job(
        jobName=name,
        parameters={"config": f"s3://{bucket}/{key}"},
        tags={VERSION_TAG: version},
        **_place(distribution, machine, environment),
    )
    return {"name": name, "job": submitted["jobId"], "nodes": distribution.nodes, "new": True}


def _text(s3: Any, bucket: str, key: str) -> str:
    content = s3.get_object(Bucket=bucket, Key=key)["Body"].read(LARGEST_CONFIG + 1)
    if len(content) > LARGEST_CONFIG:
        raise TrainingError(f"{key} has more than {LARGEST_CONFIG} bytes, which no configuration needs; upload another")
    try:
        return str(content.decode())
    except UnicodeDecodeError:
        raise TrainingError(f"{key} is no text in UTF-8; upload a configuration in YAML") from None


def _fits(distribution: Distribution, machine: Machine, environment: TrainingEnvironment) -> None:
    """A job that no machine could ever run would wait for ever."""
    wanted = distribution.nodes * machine.vcpus
    if wanted > environment.max_vcpus:
        raise TrainingError(
            f"distribution asks for {distribution.nodes} machines of {machine.vcpus} vCPUs, and the stack may have "
            f"{environment.max_vcpus} vCPUs at a time; raise training.max_gpus or ask for fewer"
        )


def _place(distribution: Distribution, machine: Machine, environment: TrainingEnvironment) -> dict[str, Any]:
    """Where the job runs and what it gets of its machines: everything."""
    requirements = {"resourceRequirements": [dict(each) for each in machine.requirements]}
    if distribution.nodes == 1:
        return {
            "jobQueue": environment.queue,
            "jobDefinition": environment.definition,
            "containerOverrides": requirements,
        }
    nodes = [{"targetNodes": environment.every_node, "containerOverrides": requirements}]
    return {
        "jobQueue": environment.multi_node_queue,
        "jobDefinition": environment.multi_node_definition,
        "nodeOverrides": {"numNodes": distribution.nodes, "nodePropertyOverrides": nodes},
    }


def _unfinished(batch: Any, environment: TrainingEnvironment, name: str) -> Iterator[Mapping[str, Any]]:
    """The jobs of this name that are not over, each with its tags."""
    pages = batch.get_paginator("list_jobs")
    filters = [{"name": "JOB_NAME", "values": [name]}]
    found = [
        each["jobId"]
        for queue in sorted({environment.queue, environment.multi_node_queue})
        for page in pages.paginate(jobQueue=queue, filters=filters)
        for each in page["jobSummaryList"]
        if each["jobName"] == name and each["status"] not in _OVER  # the filter knows no capital letters
    ]
    if found:
        yield from batch.describe_jobs(jobs=found)["jobs"]
