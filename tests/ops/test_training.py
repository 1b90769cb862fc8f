"""A configuration is uploaded only where its job can succeed, and the job that it starts is followed to its end."""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from model_image.artefacts import publish, published_manifest, read_manifest, verify_signed
from model_image.errors import ConfigError
from model_image.train.datasets import write_dataset
from ops import cli, training
from ops.errors import OpsError
from ops.job_models import trained_by_jobs
from ops.models import Recipe
from ops.targets import Target
from tests import tiny_models
from tests.signing import SigningKey

KEY = SigningKey()


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    server.stop()


@dataclass
class Batch:
    """Batch: the jobs that are there, a list of states of each, and what is done when one is asked for."""

    jobs: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    reason: str = ""

    def get_paginator(self, operation: str) -> "Batch":
        assert operation == "list_jobs"
        return self

    def paginate(self, *, jobQueue: str, filters: Any) -> Iterator[dict[str, Any]]:  # noqa: N803  (boto3's own names)
        assert filters == [{"name": "JOB_NAME", "values": ["tiny-1-1"]}]
        ids = self.jobs if jobQueue == "spot" else ()
        yield {
            "jobSummaryList": [
                {"jobId": each, "jobName": self.names.get(each, "tiny-1-1"), "status": self.jobs[each][0]}
                for each in ids
            ]
        }

    def describe_jobs(self, *, jobs: list[str]) -> dict[str, Any]:
        states = self.jobs[jobs[0]]
        status = states.pop(0) if len(states) > 1 else states[0]
        return {"jobs": [{"status": status, "statusReason": self.reason}]}


@dataclass(frozen=True)
class Stack(Target):
    """A stack whose services are S3 of moto, and Batch above."""

    clients: Mapping[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        return self.clients[service]


@dataclass(frozen=True)
class Bench:
    stack: Stack
    batch: Batch
    config: Path

    @property
    def s3(self) -> Any:
        return self.stack.client("s3")

    def write(self, **changes: Any) -> Path:
        self.config.write_text(yaml.safe_dump(recipe(**changes)))
        return self.config

    def leave(self, file: str, value: dict[str, Any]) -> None:
        """What the job leaves in the results bucket."""
        body = json.dumps(value).encode()
        self.s3.put_object(Bucket=self.stack.output("results_bucket"), Key=f"training/tiny-1-1/{file}", Body=body)


def recipe(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "train", "name": "tiny", "version": "1.1", "tasks": ["completions"], "task": "causal-lm",
        "licence": "MIT", "architecture": {"layers": 1, "width": 16, "heads": 2},
        "data": {"datasets": [{"name": "texts"}]}, "tokenizer": {"vocabulary": 300, "max_tokens": 16},
        "optimisation": {"batch": 2, "learning_rate": 0.001}, "budget": {"steps": 2},
    } | changes  # fmt: skip


@pytest.fixture
def bench(s3: Any, tmp_path: Path) -> Bench:
    """A stack with one data set in its buckets."""
    outputs: dict[str, Any] = {
        f"{name}_bucket": f"{name}-{uuid.uuid4().hex[:12]}" for name in ("data", "model", "results")
    }
    for bucket in outputs.values():
        s3.create_bucket(Bucket=bucket)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY.arn}}
    s3.put_bucket_encryption(Bucket=outputs["data_bucket"], ServerSideEncryptionConfiguration={"Rules": [rule]})
    rows = [{"text": f"a small cat sees dog number {number}"} for number in range(9)]
    write_dataset(tmp_path / "texts", splits={"train": rows[3:], "heldout": rows[:3]}, source="test", licence="MIT")
    for path in (tmp_path / "texts").iterdir():
        s3.upload_file(str(path), outputs["data_bucket"], f"datasets/texts/{path.name}")
    outputs["signing_key_arn"] = KEY.arn
    outputs["training_queues"] = {"on_demand": "on-demand", "spot": "spot"}
    batch = Batch()
    stack = Stack(outputs=outputs, endpoints={}, environment={}, clients={"s3": s3, "batch": batch, "kms": KEY})
    return Bench(stack, batch, tmp_path / "tiny.yaml")


def test_a_configuration_lands_as_it_is_written(bench: Bench) -> None:
    config = bench.write()
    config.write_text(f"# by hand\n{config.read_text()}")
    submitted = training.submit(bench.stack, config)
    bucket = bench.stack.output("data_bucket")
    assert (submitted.name, submitted.uri) == ("tiny-1-1", f"s3://{bucket}/training/tiny-1-1.yaml")
    landed = bench.s3.get_object(Bucket=bucket, Key="training/tiny-1-1.yaml")
    assert landed["Body"].read() == config.read_bytes()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"budget": {"stepz": 2}}, "unknown key 'budget.stepz'"),
        ({"optimisation": {"batch": 0, "learning_rate": 0.001}}, "optimisation.batch is 0"),
        ({"kind": "fetch"}, "key 'package' is missing"),
        ({"data": {"datasets": [{"name": "nowhere"}]}}, "data set nowhere is not at s3://"),
        ({"data": {"datasets": [{"name": "texts", "digest": "0" * 64}]}}, "the configuration asks for 000"),
        ({"base": "nobody/1", "architecture": None, "tokenizer": {"max_tokens": 16}},
         "base nobody/1 is not published"),
    ],
)  # fmt: skip
def test_what_a_job_would_fail_for_is_not_uploaded(bench: Bench, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises((OpsError, ConfigError)) as refused:
        training.submit(bench.stack, bench.write(**changes))
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    listed = bench.s3.list_objects_v2(Bucket=bench.stack.output("data_bucket"), Prefix="training/")
    assert listed["KeyCount"] == 0


def test_a_version_that_is_published_and_a_job_that_runs_are_not_overtaken(bench: Bench, tmp_path: Path) -> None:
    made = tiny_models.gpt2(tmp_path, name="tiny", version="1.1", layers=1)
    publish(bench.s3, bench.stack.output("model_bucket"), made, signer=KEY.signer)
    with pytest.raises(OpsError, match=r"tiny 1\.1 is published; a version never changes: raise its number"):
        training.submit(bench.stack, bench.write())
    bench.s3.delete_object(Bucket=bench.stack.output("model_bucket"), Key="tiny/1.1/manifest.json")
    bench.batch.jobs = {"old": ["FAILED"], "other": ["RUNNING"], "now": ["RUNNING"]}
    bench.batch.names = {"other": "TINY-1-1"}
    with pytest.raises(OpsError, match=r"job tiny-1-1 \(now\) is RUNNING: wait for its end"):
        training.submit(bench.stack, bench.write())
    bench.batch.jobs["now"] = ["SUCCEEDED"]
    assert training.submit(bench.stack, bench.write()).before == {"old", "now"}


def test_a_bucket_that_does_not_encrypt_is_not_written_to(bench: Bench, s3: Any) -> None:
    s3.delete_bucket_encryption(Bucket=bench.stack.output("data_bucket"))
    with pytest.raises(OpsError, match="encrypt"):
        training.submit(bench.stack, bench.write())


def test_a_job_is_followed_from_its_start_to_its_model(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "POLL_SECONDS", 0.0)
    submitted = training.submit(bench.stack, bench.write())
    bench.leave("outcome.json", {"state": "refused", "reason": "of another job", "job": "old"})
    bench.leave("progress.json", {"job": "new", "phase": "training", "step": 1, "steps": 4, "loss": 2.5})
    bench.batch.jobs = {"new": ["RUNNABLE", "RUNNING", "SUCCEEDED"]}
    told: list[tuple[float, str]] = []

    def advance(fraction: float, text: str) -> None:
        told.append((fraction, text))
        bench.leave("outcome.json", {"state": "published", "model": "tiny", "version": "1.1", "job": "new"})

    address = training.wait(bench.stack, submitted, on_progress=advance)
    assert address == f"s3://{bench.stack.output('model_bucket')}/tiny/1.1/"
    assert told == [(0.25, "tiny-1-1: step 1/4, loss 2.5")] * 2


def test_why_there_is_no_model_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(training, "SUBMIT_SECONDS", 0.05)
    submitted = training.submit(bench.stack, bench.write())
    with pytest.raises(OpsError, match=r"tiny-1-1\.yaml has started no job in 0 s: see the log of the stack's func"):
        training.wait(bench.stack, submitted, on_progress=lambda *_: None)
    bench.batch.jobs, bench.batch.reason = {"new": ["FAILED"]}, "Host EC2 (instance i-1) terminated."
    with pytest.raises(OpsError, match=r"job tiny-1-1 \(new\) is FAILED: Host EC2 .* see its log"):
        training.wait(bench.stack, submitted, on_progress=lambda *_: None)
    bench.leave("outcome.json", {"state": "refused", "reason": "the gate", "job": "new"})
    with pytest.raises(OpsError, match=r"job tiny-1-1 refused: the gate$"):
        training.wait(bench.stack, submitted, on_progress=lambda *_: None)


def test_the_command_takes_nothing_that_a_job_would_not(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_target", lambda _: bench.stack)
    config = str(bench.write())
    done = CliRunner().invoke(cli.app, ["train", "--config", config, "--submit", "--fresh"])
    assert done.exit_code == 2
    assert "a job takes no --fresh" in done.output
    done = CliRunner().invoke(cli.app, ["train", "--config", config, "--submit", "--no-wait"])
    assert done.exit_code == 0
    assert done.stdout == f"s3://{bench.stack.output('data_bucket')}/training/tiny-1-1.yaml\n"


def test_a_recipe_is_trained_by_a_job_from_a_published_base_and_brought_home(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, bucket = tmp_path / "home", bench.stack.output("model_bucket")
    base = tiny_models.gpt2(home / "models", name="base", layers=1)
    path = bench.write(base="base/1", architecture=None, tokenizer={"max_tokens": 16})

    def job(_: Any, submitted: training.Submitted, *, on_progress: Any) -> str:
        assert published_manifest(bench.s3, bucket, "base", "1") == read_manifest(base)
        on_progress(0.5, submitted.name)
        made = tiny_models.gpt2(tmp_path, name="tiny", version="1.1", layers=1)
        return publish(bench.s3, bucket, made, signer=KEY.signer)

    monkeypatch.setattr(training, "wait", job)
    told: list[tuple[float, str]] = []
    train = trained_by_jobs(bench.stack, home=home)
    train(Recipe(path=path, value=yaml.safe_load(path.read_text())), lambda *each: told.append(each))
    assert told == [(0.5, "tiny-1-1")]
    assert verify_signed(home / "models" / "tiny" / "1.1", trusted=[KEY.signer.public_key()]).version == "1.1"
