"""A training job brings, trains, judges, signs and publishes; it survives an interruption and says what came of it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.emulators import Emulators
from model_image import train
from model_image.artefacts import Manifest, fetch_from_s3, publish, published_manifest, verify
from model_image.errors import ConfigError
from model_image.signature import Signer
from model_image.train.datasets import write_dataset
from model_image.train.job_settings import Node, job_name, read_job_settings
from tests import tiny_models
from tests.model_image.test_train_resume import at_step
from tests.signing import SigningKey

DATA, MODELS, RESULTS = "job-data", "job-models", "job-results"
PARAMETER = "/job/promotions"
SECRET = "xylophone"  # a word of every row: it must not be said anywhere


@dataclass
class Account:
    """The buckets, key and parameter of a stack, on emulators; `served` are versions of its models by name."""

    emulators: Emulators
    key_arn: str
    served: dict[str, str] = field(default_factory=dict)

    @property
    def s3(self) -> Any:
        return self.emulators.client("s3")

    @property
    def signer(self) -> Signer:
        return Signer(client=self.emulators.client("kms"), key_arn=self.key_arn)

    @property
    def environment(self) -> dict[str, str]:
        """What a job's definition and Batch tell it."""
        models = [{"name": name, "version": version, "tasks": ["completions"]} for name, version in self.served.items()]
        return {
            "MODELKEEP_STACK": "local",
            "MODELKEEP_DATA_BUCKET": DATA,
            "MODELKEEP_MODELS_BUCKET": MODELS,
            "MODELKEEP_RESULTS_BUCKET": RESULTS,
            "MODELKEEP_SIGNING_KEY": self.key_arn,
            "MODELKEEP_PROMOTIONS_PARAMETER": PARAMETER,
            "MODELKEEP_MODELS": json.dumps(models),
            "AWS_BATCH_JOB_ID": "job-1",
        }

    def land(self, name: str, value: dict[str, Any] | bytes) -> list[str]:
        """Puts a configuration where it lands; the arguments of its job."""
        body = value if isinstance(value, bytes) else yaml.safe_dump(value).encode()
        self.s3.put_object(Bucket=DATA, Key=f"training/{name}.yaml", Body=body)
        return ["--job", f"s3://{DATA}/training/{name}.yaml"]

    def result(self, name: str, file: str) -> Any:
        return json.loads(self.s3.get_object(Bucket=RESULTS, Key=f"training/{name}/{file}")["Body"].read())

    def results(self, name: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=RESULTS, Prefix=f"training/{name}/").get("Contents", [])
        return [item["Key"].removeprefix(f"training/{name}/") for item in found]

    def published(self, name: str, version: str) -> Manifest | None:
        return published_manifest(self.s3, MODELS, name, version)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account with a data set and a signed base model in it."""
    place = tmp_path_factory.mktemp("job")
    with Emulators(region="eu-west-1", log_dir=place / "logs") as running:
        for bucket in (DATA, MODELS, RESULTS):
            location = {"LocationConstraint": "eu-west-1"}
            running.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=location)
        key = running.client("kms").create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
        account = Account(running, key)
        words = random.Random(0)
        rows = [
            {
                "text": " ".join([SECRET, *words.choices(("good", "bad", "old", "red", "cat"), k=8)]),
                "label": f"l{n % 2}",
            }
            for n in range(90)
        ]
        splits = {"train": rows[20:], "heldout": rows[:20]}
        write_dataset(place / "rows", splits=splits, source="test", licence="MIT")
        for path in (place / "rows").iterdir():
            account.s3.upload_file(str(path), DATA, f"datasets/rows/{path.name}")
        publish(account.s3, MODELS, tiny_models.bert_embeddings(place, name="tiny-base"), signer=account.signer)
        yield account


@pytest.fixture
def account(emulated: Account, monkeypatch: pytest.MonkeyPatch) -> Account:
    """The account, its job's variables set in this process, and no model served."""
    emulated.served.clear()
    promote(emulated, {})
    for name, value in {**emulated.emulators.environment(), **emulated.environment}.items():
        monkeypatch.setenv(name, value)
    return emulated


def promote(account: Account, models: dict[str, Any]) -> None:
    value = json.dumps({"models": models})
    account.emulators.client("ssm").put_parameter(Name=PARAMETER, Value=value, Type="String", Overwrite=True)


def recipe(name: str, task: str = "causal-lm", **changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "kind": "train", "name": name, "version": "1", "task": task, "licence": "MIT", "threads": 1,
        "data": {"datasets": [{"name": "rows"}]},
        "optimisation": {"batch": 4, "learning_rate": 0.005, "warmup_steps": 2, "dropout": 0.1},
        "budget": {"steps": 12, "max_minutes": 5},
        "checkpoints": {"every_steps": 4},
    }  # fmt: skip
    if task == "causal-lm":
        value |= {"tasks": ["completions"], "architecture": {"layers": 1, "width": 16, "heads": 2}}
        value |= {"tokenizer": {"vocabulary": 300, "max_tokens": 16}}
    else:
        value |= {"tasks": ["sentiment"], "base": "tiny-base/1", "tokenizer": {"max_tokens": 24}}
        value["data"]["labels"] = ["l0", "l1"]
    return value | changes


def test_a_job_publishes_a_signed_model_with_its_card_and_says_no_row(
    account: Account, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = account.land("tiny-1", recipe("tiny", "sequence-classification"))
    assert train.main(arguments) == 0
    said = "".join(capfd.readouterr())
    assert [json.loads(line)["phase"] for line in said.splitlines() if line.startswith("{")][-2:] == [
        "done", "publishing",
    ]  # fmt: skip
    model = fetch_from_s3(account.s3, MODELS, "tiny", "1", tmp_path, trusted=[account.signer.public_key()])
    manifest = verify(model)
    assert manifest.parent == f"tiny-base/1@sha256:{account.published('tiny-base', '1').digest}"  # type: ignore[union-attr]
    assert account.results("tiny-1") == [
        "README.md", "calibration.svg", "loss.svg", "metrics.jsonl", "outcome.json", "progress.json",
    ]  # fmt: skip
    outcome = account.result("tiny-1", "outcome.json")
    assert (outcome["state"], outcome["model"], outcome["version"], outcome["job"]) == (
        "published", "tiny", "1", "job-1",
    )  # fmt: skip
    assert outcome["metrics"] == manifest.metrics
    assert account.result("tiny-1", "progress.json") == {
        **account.result("tiny-1", "progress.json"), "phase": "publishing", "job": "job-1",
    }  # fmt: skip
    left = [account.s3.get_object(Bucket=RESULTS, Key=f"training/tiny-1/{each}")["Body"].read() for each in
            account.results("tiny-1")]  # fmt: skip
    assert SECRET not in said
    assert not any(SECRET.encode() in each for each in left)


def test_the_same_job_again_trains_nothing_and_another_one_under_its_number_is_refused(
    account: Account, capfd: pytest.CaptureFixture[str]
) -> None:
    value = recipe("twice")
    arguments = account.land("twice-1", value)
    assert train.main(arguments) == 0
    first = account.published("twice", "1")
    account.s3.delete_object(Bucket=RESULTS, Key="training/twice-1/outcome.json")
    capfd.readouterr()
    assert train.main(arguments) == 0
    assert '"training"' not in capfd.readouterr().out
    assert account.published("twice", "1") == first
    assert account.result("twice-1", "outcome.json")["state"] == "published"

    assert train.main(account.land("twice-1", value | {"seed": 5})) == 1
    outcome = account.result("twice-1", "outcome.json")
    assert outcome["state"] == "failed"
    assert outcome["reason"].startswith("twice 1 is published, trained by another configuration")
    assert account.published("twice", "1") == first


def test_what_does_not_pass_its_gate_is_not_published_and_leaves_its_loss_curve(
    account: Account, capfd: pytest.CaptureFixture[str]
) -> None:
    gate = [{"metric": "heldout_bits_per_byte", "at_most": 0.01}]
    assert train.main(account.land("weak-1", recipe("weak", evaluation={"gate": gate}))) == 1
    outcome = account.result("weak-1", "outcome.json")
    assert (outcome["state"], outcome["model"], outcome["version"]) == ("refused", "weak", "1")
    assert "heldout_bits_per_byte at most 0.01, found" in outcome["reason"]
    assert capfd.readouterr().err.splitlines()[-1] == f"model_image train: {outcome['reason']}"
    assert account.published("weak", "1") is None
    assert account.results("weak-1") == ["metrics.jsonl", "outcome.json", "progress.json"]


def test_a_model_is_judged_by_the_version_that_serves_now(account: Account) -> None:
    assert train.main(account.land("served-1", recipe("served"))) == 0
    first = account.published("served", "1")
    account.served["served"] = "0"  # what the settings say, and in its place version 1 was promoted
    promote(account, {"served": {"settings": "0", "version": "1", "previous": "0"}})
    os.environ["MODELKEEP_MODELS"] = account.environment["MODELKEEP_MODELS"]
    gate = [{"metric": "heldout_bits_per_byte", "at_most": "production_bits_per_byte", "margin": -0.01}]
    better = {"version": "2", "budget": {"steps": 40, "max_minutes": 5}, "evaluation": {"gate": gate}}
    assert train.main(account.land("served-2", recipe("served", **better))) == 0
    second = account.published("served", "2")
    assert first is not None
    assert second is not None
    assert second.metrics["production_bits_per_byte"] == first.metrics["heldout_bits_per_byte"]
    assert second.metrics["heldout_bits_per_byte"] < first.metrics["heldout_bits_per_byte"]

    worse = {"version": "3", "evaluation": {"gate": gate}, "seed": 7}
    assert train.main(account.land("served-3", recipe("served", **worse))) == 1
    assert account.result("served-3", "outcome.json")["state"] == "refused"


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "model_image", "train", *arguments], stdout=subprocess.DEVNULL)


def until(found: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not found():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_job_that_is_stopped_or_killed_goes_on_from_s3_and_ends_as_if_it_had_not_been(
    account: Account, tmp_path: Path
) -> None:
    slow = {"budget": {"steps": 400, "max_minutes": 5}, "checkpoints": {"every_steps": 40}}
    whole = tmp_path / "whole"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(recipe("stopped", **slow)))
    assert train.main(["--config", str(config), "--out", str(whole), "--data", f"s3://{DATA}/datasets"]) == 0
    arguments = account.land("stopped-1", recipe("stopped", **slow))

    def kept() -> list[int]:
        keys = [key.split("/") for key in account.results("stopped-1") if key.endswith("/checkpoint.json")]
        return [int(key[-2].removeprefix("step-")) for key in keys]

    for number, code in ((signal.SIGTERM, 75), (signal.SIGKILL, -9)):
        before = max(kept(), default=0)
        with start(arguments) as process:
            try:
                until(lambda: max(kept(), default=0) > before, process)  # noqa: B023
                process.send_signal(number)
                assert process.wait(60) == code
            finally:
                process.kill()
        assert max(kept()) > before
        assert "outcome.json" not in account.results("stopped-1")
    assert train.main(arguments) == 0
    published = account.published("stopped", "1")
    assert published is not None
    assert published.digest == verify(whole / "stopped" / "1").digest
    assert not kept()


def test_a_signal_while_the_model_is_published_loses_nothing(
    account: Account, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from model_image.train import job

    def told(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    arguments = account.land("late-1", recipe("late"))
    with monkeypatch.context() as patched:
        patched.setattr(job, "publish", told)
        assert train.main(arguments) == 75
    assert account.published("late", "1") is None
    capfd.readouterr()
    assert train.main(arguments) == 0
    assert '"going on after step 12"' in capfd.readouterr().out
    assert account.published("late", "1") is not None


def test_an_interrupted_step_is_kept_and_a_changed_configuration_starts_again(
    account: Account, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    at_step(monkeypatch, 6, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train.main(account.land("changed-1", recipe("changed"))) == 75
    assert "step 6 is kept in s3://job-results/training/changed-1/checkpoints/" in capfd.readouterr().err
    assert train.main(account.land("changed-1", recipe("changed", seed=9))) == 0
    assert "going on" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"kind: [", "s3://job-data/training/wrong-1.yaml line 1 is not YAML"),
        (recipe("wrong", depth=3), "unknown key 'depth'"),
        ({"kind": "fetch", "name": "wrong", "version": "1", "tasks": ["chat"], "package": "p", "format": "gguf"},
         "kind is 'fetch', which is not trained"),
        (recipe("wrong", data={"datasets": [{"name": "elsewhere"}]}),
         "s3://job-data/datasets/elsewhere/dataset.json cannot be read: S3 answered NoSuchKey"),
        (recipe("wrong", data={"datasets": [{"name": "rows", "digest": "0" * 64}]}), "asks for 000"),
        (recipe("wrong", distribution={"nodes": 2}), "distribution.nodes is 2, and this job has 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(
    account: Account, value: dict[str, Any] | bytes, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train.main(account.land("wrong-1", value)) == 1
    outcome = account.result("wrong-1", "outcome.json")
    assert outcome["state"] == "failed"
    assert reason in outcome["reason"]
    assert capfd.readouterr().err == f"model_image train: {outcome['reason']}\n"
    assert account.published("wrong", "1") is None


def test_a_base_that_the_stacks_key_has_not_signed_is_not_trained_from(account: Account, tmp_path: Path) -> None:
    publish(account.s3, MODELS, tiny_models.bert_embeddings(tmp_path, name="strange"), signer=SigningKey().signer)
    value = recipe("foreign", "sequence-classification", base="strange/1")
    assert train.main(account.land("foreign-1", value)) == 1
    assert "is by the foreign key" in account.result("foreign-1", "outcome.json")["reason"]


def test_what_nobody_foresaw_is_an_outcome_too_and_its_words_are_not_repeated(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError(f"out of memory over {SECRET}")

    at_step(monkeypatch, 2, fail)
    with pytest.raises(RuntimeError):
        train.main(account.land("odd-1", recipe("odd")))
    outcome = account.result("odd-1", "outcome.json")
    assert outcome["state"] == "failed"
    assert outcome["reason"] == "it failed with RuntimeError; see the log of this job"


def test_processes_of_torchrun_say_why_they_were_refused(account: Account) -> None:
    gate = [{"metric": "heldout_bits_per_byte", "at_most": 0.01}]
    value = recipe("many", evaluation={"gate": gate}, distribution={"processes_per_node": 2})
    assert train.main(account.land("many-1", value)) == 1
    outcome = account.result("many-1", "outcome.json")
    assert (outcome["state"], outcome["model"]) == ("refused", "many")
    assert "heldout_bits_per_byte at most 0.01, found" in outcome["reason"]


def test_settings_that_are_missing_or_wrong_are_named(account: Account, capfd: pytest.CaptureFixture[str]) -> None:
    for name, value, reason in (
        ("MODELKEEP_RESULTS_BUCKET", None, "MODELKEEP_RESULTS_BUCKET is not set"),
        ("MODELKEEP_SIGNING_KEY", "alias/key", "MODELKEEP_SIGNING_KEY is 'alias/key'"),
        ("MODELKEEP_MODELS", "[{}]", "MODELKEEP_MODELS is"),
    ):
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv(name, value) if value else patched.delenv(name)
            assert train.main(["--job", f"s3://{DATA}/training/x-1.yaml"]) == 2
        assert reason in capfd.readouterr().err
    for uri in ("s3://other/training/x-1.yaml", f"s3://{DATA}/x-1.yaml", f"s3://{DATA}/training/a.b.yaml", "x.yaml"):
        assert train.main(["--job", uri]) == 2
        assert f"{uri} is no configuration of this stack" in capfd.readouterr().err
    with pytest.raises(SystemExit) as wrong:
        train.main(["--job", f"s3://{DATA}/training/x-1.yaml", "--fresh"])
    assert wrong.value.code == 2


def test_nodes_are_told_apart_by_batchs_variables() -> None:
    assert Node.of({}) == Node(batch_job="", index=0, nodes=1, is_main=True)
    told = {
        "AWS_BATCH_JOB_ID": "7f#1",
        "AWS_BATCH_JOB_NODE_INDEX": "1",
        "AWS_BATCH_JOB_NUM_NODES": "3",
        "AWS_BATCH_JOB_MAIN_NODE_INDEX": "0",
    }
    assert Node.of(told) == Node(batch_job="7f", index=1, nodes=3, is_main=False)


def test_the_region_is_the_keys_and_the_name_is_batchs(account: Account) -> None:
    assert read_job_settings(account.environment).region == "eu-west-1"
    assert job_name(f"s3://{DATA}/training/a_B-1.yaml", data_bucket=DATA) == "a_B-1"
    with pytest.raises(ConfigError):
        job_name(f"s3://{DATA}/training/a/b.yaml", data_bucket=DATA)
