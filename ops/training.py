"""`modelkeep train --submit`: a configuration is checked and uploaded, which starts a job, and that is followed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from pydantic import ValidationError

from lambdas.errors import TrainingError
from lambdas.training import LARGEST_CONFIG
from lambdas.training_config import read_distribution
from model_image.artefacts import digest_of, published_manifest
from model_image.recipes import TrainRecipe, load_recipe, read_yaml
from model_image.train.datasets import DATASET, DATASET_LIMIT_BYTES, DatasetManifest
from model_image.train.job import DATASETS
from model_image.train.job_results import OUTCOME, PROGRESS
from ops.datasets.uploading import refuse_unencrypted
from ops.errors import OpsError
from ops.targets import Target

POLL_SECONDS = 1.0
SUBMIT_SECONDS = 120.0  # for the stack's function to see the configuration and to submit the job
ENDED = frozenset({"SUCCEEDED", "FAILED"})
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})


@dataclass(frozen=True)
class Submitted:
    """A configuration that lies in the data bucket; `before` are the ids of older jobs of its name."""

    recipe: TrainRecipe
    name: str
    uri: str
    before: frozenset[str]


def submit(target: Target, config: Path) -> Submitted:
    """
    Upload a configuration to where it starts a job, once nothing is seen that the job would fail for.

    Raises ConfigError for what is no training configuration, and OpsError for data or a base model that is not there, a
    version that is published already, or a job of its name that has not ended.
    """
    recipe = load_recipe(config)
    if not isinstance(recipe, TrainRecipe):
        raise OpsError(f"{config}: kind is 'fetch', which is not trained; bring it with python -m model_image fetch")
    _check_start(config)
    client, bucket = target.client("s3"), target.output("data_bucket")
    for part in recipe.data.datasets:
        _check_data(client, bucket, part.name, digest=part.digest)
    _check_models(client, target.output("model_bucket"), recipe, config)
    name = f"{recipe.name}-{recipe.version}".replace(".", "-")  # the names of jobs know no dots
    jobs = list(_jobs(target.client("batch"), _queues(target), name))
    for job in jobs:
        if job["status"] not in ENDED:
            raise OpsError(f"job {name} ({job['jobId']}) is {job['status']}: wait for its end, or terminate it first")
    refuse_unencrypted(client, bucket)
    key = f"training/{name}.yaml"
    client.put_object(
        Bucket=bucket,
        Key=key,
        Body=config.read_bytes(),
        ContentType="application/yaml",
        ChecksumAlgorithm="SHA256",
    )
    before = frozenset(job["jobId"] for job in jobs)
    return Submitted(recipe=recipe, name=name, uri=f"s3://{bucket}/{key}", before=before)


def wait(target: Target, submitted: Submitted, *, on_progress: Callable[[float, str], None]) -> str:
    """Wait until the job has ended and return the model's address; raises OpsError with why there is none."""
    batch = target.client("batch")
    job_id = _started(batch, _queues(target), submitted)
    results = _Results(target.client("s3"), target.output("results_bucket"), submitted.name, job_id)
    fraction = 0.0
    while True:
        job = batch.describe_jobs(jobs=[job_id])["jobs"][0]
        if job["status"] in ENDED:
            break
        told = results.read(PROGRESS)
        steps = told.get("steps") or 0
        text = f"step {told['step']}/{steps}, loss {told['loss']}" if steps else told.get("phase", job["status"])
        fraction = told["step"] / steps if steps else fraction
        on_progress(fraction, f"{submitted.name}: {text}")
        time.sleep(POLL_SECONDS)
    outcome = results.read(OUTCOME)
    if outcome.get("state") == "published":
        return f"s3://{target.output('model_bucket')}/{outcome['model']}/{outcome['version']}/"
    if outcome:
        raise OpsError(f"job {submitted.name} {outcome['state']}: {outcome['reason']}")
    reason = job.get("statusReason") or "no reason was given"
    raise OpsError(f"job {submitted.name} ({job_id}) is {job['status']}: {reason}; see its log")


def _started(batch: Any, queues: Sequence[str], submitted: Submitted) -> str:
    """The id of the job that the configuration has started."""
    deadline = time.monotonic() + SUBMIT_SECONDS
    while True:
        found = [job["jobId"] for job in _jobs(batch, queues, submitted.name) if job["jobId"] not in submitted.before]
        if found:
            return str(found[0])
        if time.monotonic() > deadline:
            raise OpsError(
                f"{submitted.uri} has started no job in {SUBMIT_SECONDS:.0f} s: see the log of the stack's function "
                "training"
            )
        time.sleep(POLL_SECONDS)


def _queues(target: Target) -> list[str]:
    found = target.outputs.get("training_queues")
    if not isinstance(found, Mapping):
        raise OpsError("the stack has no output training_queues: deploy it with this version of the program first")
    return [str(queue) for queue in found.values()]


def _jobs(batch: Any, queues: Sequence[str], name: str) -> Iterator[Mapping[str, Any]]:
    """The jobs of a name, of any state that Batch still knows of, in any of these queues."""
    pages = batch.get_paginator("list_jobs")
    for queue in queues:
        for page in pages.paginate(jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [name]}]):
            yield from (job for job in page["jobSummaryList"] if job["jobName"] == name)


@dataclass(frozen=True)
class _Results:
    """What a job leaves in the results bucket; what another job of the same name has left there does not count."""

    client: Any
    bucket: str
    name: str
    job_id: str

    def read(self, file: str) -> dict[str, Any]:
        """A document of the job's; empty where there is none yet."""
        raw = _read(self.client, self.bucket, f"training/{self.name}/{file}")
        found: dict[str, Any] = json.loads(raw) if raw else {}
        return found if found.get("job") == self.job_id else {}


def _check_start(config: Path) -> None:
    """What the function that submits jobs would refuse: it reads no YAML but its plain form."""
    raw = config.read_bytes()
    if len(raw) > LARGEST_CONFIG:
        raise OpsError(f"{config} has {len(raw)} bytes, a configuration has at most {LARGEST_CONFIG}; shorten it")
    try:
        read_distribution(raw.decode())
    except TrainingError as error:
        raise OpsError(f"{config}: {error}") from error


def _check_data(client: Any, bucket: str, name: str, *, digest: str | None) -> None:
    key = f"{DATASETS}/{name}/{DATASET}"
    where, raw = f"s3://{bucket}/{DATASETS}/{name}", _read(client, bucket, key)
    if raw is None:
        raise OpsError(f"data set {name} is not at {where}: push it first, modelkeep data push {name} {where}")
    try:
        found = DatasetManifest.model_validate_json(raw).digest
    except ValidationError as error:
        raise OpsError(f"s3://{bucket}/{key} describes no data set; push it again") from error
    if digest not in (None, found):
        raise OpsError(f"data set {name} has the digest {found}, the configuration asks for {digest}; push that data")


def _check_models(client: Any, bucket: str, recipe: TrainRecipe, config: Path) -> None:
    there = published_manifest(client, bucket, recipe.name, recipe.version)
    if there is not None and there.config_digest != digest_of(read_yaml(config)):
        raise OpsError(f"{recipe.name} {recipe.version} is published; a version never changes: raise its number")
    if recipe.base is not None:
        name, _, version = recipe.base.partition("/")
        if published_manifest(client, bucket, name, version) is None:
            raise OpsError(f"base {recipe.base} is not published; bring it and call modelkeep models publish")


def _read(client: Any, bucket: str, key: str) -> bytes | None:
    """An object, of which no more than DATASET_LIMIT_BYTES are read; None where there is none."""
    try:
        body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read(DATASET_LIMIT_BYTES)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _MISSING:
            return None
        raise
    return body
