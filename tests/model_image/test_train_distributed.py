"""Two processes that train together over gloo learn what one learns: whole models (DDP) and sharded ones (FSDP2)."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.processes import start_mark
from model_image import train
from model_image.artefacts import read_manifest, verify
from model_image.errors import ConfigError
from model_image.train.datasets import write_dataset
from model_image.train.launch import torchrun_options
from model_image.train_recipe import Distribution
from tests import tiny_models

SECONDS = 200


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `data` and `models`."""
    directory = tmp_path_factory.mktemp("place")
    chance = random.Random(0)
    rows = [{"text": " ".join(chance.choices(("good", "bad", "old", "red", "cat"), k=9))} for _ in range(90)]
    splits = {"train": rows[20:], "heldout": rows[:20]}
    write_dataset(directory / "data" / "rows", splits=splits, source="test", licence="MIT")
    tiny_models.bert_embeddings(directory / "models", name="tiny-base")
    return directory


def recipe(name: str, **changes: Any) -> dict[str, Any]:
    """A masked model: tied and frozen weights, and a number of predictions that differs between the processes."""
    return {
        "kind": "train", "name": name, "version": "1", "task": "masked-lm", "tasks": ["fill-mask"], "licence": "MIT",
        "base": "tiny-base/1", "data": {"datasets": [{"name": "rows"}]}, "tokenizer": {"max_tokens": 24},
        "optimisation": {"batch": 6, "learning_rate": 0.005, "warmup_steps": 2}, "threads": 1,
        "evaluation": {"validation_percent": 20, "every_steps": 2, "patience": 50},
        "budget": {"steps": 40}, "checkpoints": {"every_steps": 4},
    } | changes  # fmt: skip


def arguments(value: dict[str, Any], place: Path, directory: Path, *options: str) -> list[str]:
    config = directory / f"{value['name']}.yaml"
    config.write_text(yaml.safe_dump(value))
    return [
        "--config", str(config), "--out", str(directory), "--data", str(place / "data"),
        "--models", str(place / "models"), "--json-progress", *options,
    ]  # fmt: skip


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "model_image", "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    """torchrun ends its processes when it is told to; killed, it would leave them."""
    if process.poll() is None:
        process.terminate()
        process.wait(130)


def losses(directory: Path, name: str, column: str = "loss") -> list[float]:
    lines = (directory / name / "1" / "metrics.jsonl").read_text().splitlines()
    return [record[column] for record in map(json.loads, lines) if column in record]


@pytest.fixture(scope="module")
def alone(place: Path) -> Path:
    """The directory of the model that one process trains."""
    assert train.main(arguments(recipe("alone"), place, place)) == 0
    return place


def test_accumulated_parts_of_a_step_are_the_step(place: Path, alone: Path) -> None:
    parts = recipe("parts", optimisation={**recipe("")["optimisation"], "accumulation": 4})
    assert train.main(arguments(parts, place, place)) == 0
    assert losses(place, "parts") == pytest.approx(losses(alone, "alone"), rel=1e-4)


def test_two_processes_learn_what_one_does(tmp_path: Path, place: Path, alone: Path) -> None:
    value = recipe("pair", distribution={"processes_per_node": 2})
    with start(arguments(value, place, tmp_path)) as process:
        try:
            printed, said = process.communicate(timeout=SECONDS)
        finally:
            end(process)
    assert process.returncode == 0, said
    assert losses(tmp_path, "pair") == pytest.approx(losses(alone, "alone"), rel=1e-4)
    verify(tmp_path / "pair" / "1")
    done = [line for line in map(json.loads, printed.splitlines()) if line["phase"] == "done"]
    assert len(done) == 1  # one of them speaks
    assert done[0]["metrics"]["train_tokens"] == read_manifest(alone / "alone" / "1").metrics["train_tokens"]


def test_sharded_training_is_interrupted_goes_on_and_learns_the_same(tmp_path: Path, place: Path, alone: Path) -> None:
    value = recipe("shards", distribution={"processes_per_node": 2, "sharding": "full"})
    kept = tmp_path / "kept"
    command = arguments(value, place, tmp_path, "--checkpoints", str(kept))
    with start(command) as process:
        try:
            deadline = time.monotonic() + SECONDS
            while not any(kept.glob("shards/1/step-*")) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=SECONDS)
        finally:
            end(process)
    assert process.returncode == 143, said
    stops = [line for line in said.splitlines() if "is kept in" in line]
    assert len(stops) == 1
    assert "Traceback" not in said
    with start(command) as process:
        try:
            printed, said = process.communicate(timeout=SECONDS)
        finally:
            end(process)
    assert process.returncode == 0, said
    assert "going on after step" in printed
    assert losses(tmp_path, "shards") == pytest.approx(losses(alone, "alone"), rel=1e-4)
    validated = [losses(*of, "validation_loss") for of in ((tmp_path, "shards"), (alone, "alone"))]
    assert validated[0] == pytest.approx(validated[1], rel=1e-4)
    # The best weights were put together from both processes' shards.
    metrics = [read_manifest(directory).metrics for directory in (tmp_path / "shards" / "1", alone / "alone" / "1")]
    measure = "heldout_nats_per_masked_token"
    assert metrics[0][measure] == pytest.approx(metrics[1][measure], rel=1e-4)


@pytest.mark.parametrize(
    ("distribution", "environment", "options"),
    [
        ({}, {}, None),
        ({"processes_per_node": 2}, {"RANK": "1"}, None),
        ({"processes_per_node": 2}, {}, ["--standalone"]),
        (
            {"nodes": 2, "processes_per_node": 8},
            {"AWS_BATCH_JOB_NODE_INDEX": "1", "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": "10.0.0.7"},
            ["--nnodes=2", "--node-rank=1", "--master-addr=10.0.0.7", "--master-port=29500"],
        ),
        (
            {"nodes": 2},
            {"AWS_BATCH_JOB_NODE_INDEX": "0", "AWS_BATCH_JOB_MAIN_NODE_INDEX": "0"},
            ["--nnodes=2", "--node-rank=0", "--master-addr=127.0.0.1", "--master-port=29500"],
        ),
        (
            {"nodes": 3},
            {"MASTER_ADDR": "one", "NODE_RANK": "2", "MASTER_PORT": "7"},
            ["--nnodes=3", "--node-rank=2", "--master-addr=one", "--master-port=7"],
        ),
    ],
)
def test_what_torchrun_is_told(
    distribution: dict[str, Any], environment: dict[str, str], options: list[str] | None
) -> None:
    told = torchrun_options(Distribution(**distribution), ["--config", "a.yaml"], environment)
    if options is None:
        assert told is None
        return
    processes = distribution.get("processes_per_node", 1)
    expected = [f"--nproc-per-node={processes}", "--shutdown-timeout=110", *options]
    assert told == [*expected, "-m", "model_image", "train", "--config", "a.yaml"]


def test_nodes_that_cannot_find_each_other_are_told_what_to_set() -> None:
    with pytest.raises(ConfigError, match="set MASTER_ADDR"):
        torchrun_options(Distribution(nodes=2), [], {"NODE_RANK": "1"})


def test_a_process_of_torchrun_does_not_outlive_it() -> None:
    child = "import os; from model_image.train.launch import end_with_torchrun; end_with_torchrun(os.environ); "
    child += "print(os.getpid(), flush=True); import time; time.sleep(60)"
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], start_new_session=True)"
    command = [sys.executable, "-c", parent, child]
    environment = {**os.environ, "TORCHELASTIC_RUN_ID": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 10
    while start_mark(pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
