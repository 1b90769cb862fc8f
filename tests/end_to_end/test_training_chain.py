"""From rows and one configuration file to a model that serves, and back, while callers see nothing of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from local.layout import find_layout
from local.stack import read_status
from ops.cli import app
from ops.targets import find_target
from tests.end_to_end.conftest import ROOT, RunningStack
from tests.end_to_end.test_promotion import MODEL, load, models, until_ready_are

VERSION = "trained"
RECIPE = {
    "kind": "train", "name": MODEL, "version": VERSION, "tasks": ["completions"], "task": "causal-lm",
    "licence": "Apache-2.0", "architecture": {"layers": 1, "width": 48, "heads": 4},
    "data": {"datasets": [{"name": "readme"}]}, "tokenizer": {"vocabulary": 512, "max_tokens": 64},
    "optimisation": {"batch": 8, "learning_rate": 0.01, "warmup_steps": 5},
    "evaluation": {
        "gate": [{"metric": "heldout_bits_per_byte", "at_most": "production_bits_per_byte", "margin": -0.5}],
    },
    "budget": {"steps": 60, "max_minutes": 2}, "checkpoints": {"every_steps": 30}, "threads": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _home(running: RunningStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this process are for the running stack."""
    monkeypatch.setenv("MODELKEEP_HOME", str(running.sandbox.home))


def command(*arguments: str) -> str:
    """Standard output of a command, run in this process; raises what the command would tell in a line."""
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def write_rows(directory: Path) -> Path:
    """The paragraphs of this project's README as a data set."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    paragraphs = [" ".join(each.split()) for each in re.split(r"\n\s*\n", text) if len(each) > 60]
    directory.mkdir()
    for name, rows in (("heldout", paragraphs[::8]), ("train", [each for n, each in enumerate(paragraphs) if n % 8])):
        lines = "".join(f"{json.dumps({'text': row})}\n" for row in rows)
        (directory / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return directory


def served_version(stack: RunningStack) -> str:
    """As a caller is told it."""
    headers = {"authorization": f"Bearer {stack.token()}"}
    (model,) = httpx.get(f"{stack.api_url}/models", headers=headers, timeout=60).json()["data"]
    return str(model["version"])


def test_rows_become_a_model_that_serves_and_the_one_before_comes_back(running: RunningStack, tmp_path: Path) -> None:
    target = find_target("local")
    rows, config = write_rows(tmp_path / "readme"), tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(RECIPE))
    with load(running) as statuses:
        place = f"s3://{target.output('data_bucket')}/datasets/readme"
        command("data", "push", str(rows), place, "--licence", "Apache-2.0", "--stack", "local")

        address = command("train", "--config", str(config), "--submit").strip()
        assert address == f"s3://{target.output('model_bucket')}/{MODEL}/{VERSION}/"
        assert "signed by the key of stack local" in models("verify", address, "--stack", "local")

        assert models("promote", MODEL, VERSION) == f"{MODEL} {VERSION}\n"
        until_ready_are(f"{MODEL}/{VERSION}")
        assert served_version(running) == VERSION
        assert models("rollback", MODEL) == f"{MODEL} 1\n"
        until_ready_are(f"{MODEL}/1")
        assert served_version(running) == "1"
    assert set(statuses) == {200}, statuses
    assert statuses[200] > 10

    (job,) = read_status(find_layout(), "local")["jobs"]
    assert (job["name"], job["state"], job["attempt"]) == (f"{MODEL}-{VERSION}", "SUCCEEDED", 1)
    client, bucket = target.client("s3"), target.output("results_bucket")
    outcome = json.loads(client.get_object(Bucket=bucket, Key=f"training/{job['name']}/outcome.json")["Body"].read())
    assert outcome["metrics"]["heldout_bits_per_byte"] < outcome["metrics"]["production_bits_per_byte"] - 0.5
    card = client.get_object(Bucket=bucket, Key=f"training/{job['name']}/README.md")["Body"].read().decode()
    assert f"in production: {MODEL} 1" in card
