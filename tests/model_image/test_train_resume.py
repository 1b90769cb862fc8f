"""A training that is interrupted, by a signal or by a kill, ends as if it had not been."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from moto.server import ThreadedMotoServer

from model_image import train
from model_image.artefacts import Manifest, verify
from model_image.errors import ConfigError, TrainingError
from model_image.progress import Progress
from model_image.train.datasets import write_dataset
from tests import tiny_models

STEPS = 14
EVERY = 4


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `data` and `models`."""
    directory = tmp_path_factory.mktemp("place")
    words = random.Random(0)
    rows = [
        {
            "text": " ".join(words.choice(("good", "bad", "old", "red", "cat")) for _ in range(9)),
            "label": f"l{number % 2}",
        }
        for number in range(90)
    ]
    write_dataset(
        directory / "data" / "rows", splits={"train": rows[20:], "heldout": rows[:20]}, source="t", licence="MIT"
    )
    tiny_models.bert_embeddings(directory / "models", name="tiny-base")
    return directory


def recipe(task: str = "causal-lm", **changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "kind": "train", "name": "tiny", "version": "1", "task": task, "licence": "MIT", "threads": 1,
        "data": {"datasets": [{"name": "rows"}]},
        "optimisation": {"batch": 4, "learning_rate": 0.005, "warmup_steps": 2, "dropout": 0.1},
        "evaluation": {"validation_percent": 20, "every_steps": 3, "patience": 50},
        "budget": {"steps": STEPS, "max_minutes": 5},
        "checkpoints": {"every_steps": EVERY},
    }  # fmt: skip
    if task == "causal-lm":
        value |= {"tasks": ["completions"], "architecture": {"layers": 1, "width": 16, "heads": 2}}
        value |= {"tokenizer": {"vocabulary": 300, "max_tokens": 16}}
    else:
        value |= {"tasks": ["sentiment"], "base": "tiny-base/1", "tokenizer": {"max_tokens": 24}}
        value["data"]["labels"] = ["l0", "l1"]
    if task == "masked-lm":
        value["tasks"] = ["fill-mask"]
        del value["data"]["labels"]
    return value | changes


def arguments(value: dict[str, Any], place: Path, directory: Path, *options: str) -> list[str]:
    config = directory / "recipe.yaml"
    config.write_text(yaml.safe_dump(value))
    return [
        "--config", str(config), "--out", str(directory / "out"), "--data", str(place / "data"),
        "--models", str(place / "models"), *options,
    ]  # fmt: skip


def run(value: dict[str, Any], place: Path, directory: Path, *options: str, code: int = 0) -> Manifest | None:
    assert train.main(arguments(value, place, directory, *options)) == code
    return verify(directory / "out" / "tiny" / "1") if code == 0 else None


def at_step(monkeypatch: pytest.MonkeyPatch, wanted: int, act: Any) -> None:
    """Acts once, in the middle of the step `wanted`."""
    progress = Progress.step

    def step(self: Progress, **values: Any) -> None:
        if values["step"] == wanted:
            monkeypatch.setattr(Progress, "step", progress)
            act()
        progress(self, **values)

    monkeypatch.setattr(Progress, "step", step)


@pytest.mark.parametrize("task", ["causal-lm", "masked-lm", "sequence-classification"])
def test_sigterm_at_any_step_and_resuming_gives_the_same_artefact_and_loss_curve(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    (tmp_path / "whole").mkdir()
    whole = run(recipe(task), place, tmp_path / "whole")
    kept = ("--checkpoints", str(tmp_path / "kept"))
    for step in sorted(random.Random(task).sample(range(1, STEPS + 1), 2)):
        at_step(monkeypatch, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        run(recipe(task), place, tmp_path, *kept, code=143)
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"stopped by signal 15; step {step} is kept in {tmp_path}" in said
        assert not (tmp_path / "out" / "tiny").exists()
    resumed = run(recipe(task), place, tmp_path, *kept)
    assert whole is not None
    assert resumed is not None
    assert resumed.digest == whole.digest
    assert list((tmp_path / "kept" / "tiny" / "1").iterdir()) == []
    lines = (tmp_path / "out" / "tiny" / "1" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_stopped_or_killed_goes_on_from_its_checkpoint(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    value = recipe(budget={"steps": 200, "max_minutes": 5}, checkpoints={"every_steps": 25})
    (tmp_path / "whole").mkdir()
    whole = run(value, place, tmp_path / "whole")
    options = ("--checkpoints", str(tmp_path / "kept"), "--json-progress")
    command = [sys.executable, "-m", "model_image", "train", *arguments(value, place, tmp_path, *options)]
    kept = tmp_path / "kept" / "tiny" / "1"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 200
            while not any(kept.glob("step-*")) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(random.Random(number).uniform(0.0, 0.05))
            process.send_signal(number)
            code = process.wait(60)
        finally:
            process.kill()
    assert code == (143 if number == signal.SIGTERM else -9)
    newest = max(int(path.name.removeprefix("step-")) for path in kept.glob("step-*"))
    assert number == signal.SIGTERM or newest % 25 == 0
    capsys.readouterr()
    resumed = run(value, place, tmp_path, *options[:2])
    assert f"going on after step {newest}" in capsys.readouterr().err
    assert whole is not None
    assert resumed is not None
    assert resumed.metrics["train_loss"] == whole.metrics["train_loss"]
    assert resumed.digest == whole.digest


def crash(
    monkeypatch: pytest.MonkeyPatch, place: Path, directory: Path, *options: str, at: int, value: dict[str, Any]
) -> None:
    """Ends a training at a step as a kill does: nothing is kept that was not kept before."""

    def fail() -> None:
        raise RuntimeError("killed")

    at_step(monkeypatch, at, fail)
    with pytest.raises(RuntimeError, match="killed"):
        train.main(arguments(value, place, directory, *options))


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "whole").mkdir()
    whole = run(recipe(), place, tmp_path / "whole")
    options = ("--checkpoints", str(tmp_path / "kept"))
    crash(monkeypatch, place, tmp_path, *options, at=10, value=recipe())
    kept = tmp_path / "kept" / "tiny" / "1"
    assert sorted(path.name for path in kept.iterdir()) == ["step-000000004", "step-000000008"]
    state = kept / "step-000000008" / "state.safetensors"
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    resumed = run(recipe(), place, tmp_path, *options)
    said = capsys.readouterr().err
    assert "state.safetensors was altered; the one before it is taken" in said
    assert "going on after step 4" in said
    assert resumed is not None
    assert whole is not None
    assert resumed.digest == whole.digest


def test_a_checkpoint_of_another_configuration_is_refused_until_told_to_start_afresh(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--checkpoints", str(tmp_path / "kept"))
    crash(monkeypatch, place, tmp_path, *options, at=10, value=recipe())
    other = recipe(seed=5)
    with pytest.raises(ConfigError, match=r"step-000000008 belongs to another configuration.*--fresh"):
        run(other, place, tmp_path, *options)
    (tmp_path / "whole").mkdir()
    whole, fresh = run(other, place, tmp_path / "whole"), run(other, place, tmp_path, *options, "--fresh")
    assert whole is not None
    assert fresh is not None
    assert fresh.digest == whole.digest
    assert "going on" not in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--fresh deletes checkpoints"):
        run(other, place, tmp_path, "--fresh")


def test_early_stopping_keeps_the_best_weights_and_an_interruption_changes_nothing(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So high a rate that the validation loss soon rises."""
    value = recipe(
        optimisation={"batch": 4, "learning_rate": 0.3, "warmup_steps": 1},
        evaluation={"validation_percent": 20, "every_steps": 1, "patience": 4},
        budget={"steps": 200, "max_minutes": 5},
    )
    (tmp_path / "whole").mkdir()
    whole = run(value, place, tmp_path / "whole")
    assert whole is not None
    steps = int(whole.metrics["steps"])
    lines = (tmp_path / "whole" / "out" / "tiny" / "1" / "metrics.jsonl").read_text().splitlines()
    looks = [json.loads(line)["validation_loss"] for line in lines]
    best = looks.index(min(looks)) + 1
    assert steps == best + 4 < 200
    assert f"weights of step {best}" in (tmp_path / "whole" / "out" / "tiny" / "1" / "README.md").read_text()
    at_step(monkeypatch, steps - 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run(value, place, tmp_path, "--checkpoints", str(tmp_path / "kept"), code=143)
    resumed = run(value, place, tmp_path, "--checkpoints", str(tmp_path / "kept"))
    assert resumed is not None
    assert resumed.digest == whole.digest


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": host,
    }.items():
        monkeypatch.setenv(name, value)
    yield boto3.client("s3")
    server.stop()


def test_checkpoints_in_s3(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, s3: Any) -> None:
    (tmp_path / "whole").mkdir()
    whole = run(recipe(), place, tmp_path / "whole")
    options = ("--checkpoints", "s3://kept/jobs/7")
    with pytest.raises(TrainingError, match=r"s3://kept/jobs/7/tiny/1/: S3 answered NoSuchBucket"):
        run(recipe(), place, tmp_path, *options)
    s3.create_bucket(Bucket="kept")
    crash(monkeypatch, place, tmp_path, *options, at=14, value=recipe())
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="kept")["Contents"]]
    files = ("checkpoint.json", "metrics.jsonl", "state.safetensors")
    assert keys == [f"jobs/7/tiny/1/step-{step:09d}/{file}" for step in (8, 12) for file in files]
    s3.delete_object(Bucket="kept", Key="jobs/7/tiny/1/step-000000012/checkpoint.json")
    shutil.rmtree(tmp_path / "out")
    resumed = run(recipe(), place, tmp_path, *options)
    assert resumed is not None
    assert whole is not None
    assert resumed.digest == whole.digest
