"""A model is published, signed, promoted and rolled back on a running stack; no request fails meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from local.layout import find_layout
from local.stack import read_status
from model_image.artefacts import MANIFEST, SIGNATURE, write_manifest
from model_image.errors import ArtefactError
from ops.errors import OpsError
from ops.models_command import app
from ops.targets import find_target
from tests import tiny_models
from tests.end_to_end.conftest import RunningStack
from tests.signing import SigningKey

MODEL = "tiny-gpt2"


@pytest.fixture(autouse=True)
def _home(running: RunningStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this process are for the running stack."""
    monkeypatch.setenv("MODELKEEP_HOME", str(running.sandbox.home))


def models(*arguments: str) -> str:
    """Standard output of a `models` command, run in this process; raises what the command would tell in a line."""
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def listed() -> dict[str, tuple[bool, str]]:
    """Of each published version, whether it is served and whether its signature is trusted."""
    found = json.loads(models("list", "--json"))
    return {each["version"]: (each["served"], each["signature"]) for each in found}


def ready() -> dict[str, list[str]]:
    """What each instance that is ready serves."""
    status = read_status(find_layout(), "local")
    return {each["id"]: each["models"] for each in status["instances"] if each["state"] == "ready"}


def publish(directory: Path, version: str) -> Path:
    made = tiny_models.gpt2(directory, name=MODEL, version=version, layers=1)
    models("publish", str(made))
    return made


def until_ready_are(*wanted: str) -> None:
    """The record of the running stack is written every half second."""
    deadline = time.monotonic() + 60
    while list(ready().values()) != [[each] for each in wanted]:
        assert time.monotonic() < deadline, ready()
        time.sleep(0.1)


@contextmanager
def load(stack: RunningStack) -> Iterator[Counter[int | str]]:
    """Requests one after the other while the context lasts; how often which status came."""
    statuses: Counter[int | str] = Counter()
    over = threading.Event()

    def call() -> None:
        body = {"model": MODEL, "prompt": "The quick", "max_tokens": 3}
        headers = {"authorization": f"Bearer {stack.token()}"}
        with httpx.Client(headers=headers, timeout=60) as client:
            while not over.is_set():
                try:
                    statuses[client.post(f"{stack.api_url}/completions", json=body).status_code] += 1
                except httpx.HTTPError as error:
                    statuses[repr(error)] += 1
                time.sleep(0.1)  # below the plan's rate

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join()


def test_a_published_version_is_promoted_and_rolled_back_without_a_failed_request(
    running: RunningStack, tmp_path: Path
) -> None:
    publish(tmp_path, "2")
    assert listed() == {"1": (True, "trusted"), "2": (False, "trusted")}
    with load(running) as statuses:
        assert models("promote", MODEL, "2") == f"{MODEL} 2\n"
        until_ready_are(f"{MODEL}/2")
        assert listed() == {"1": (False, "trusted"), "2": (True, "trusted")}
        assert models("rollback", MODEL) == f"{MODEL} 1\n"
        until_ready_are(f"{MODEL}/1")
    assert set(statuses) == {200}, statuses
    assert statuses[200] > 10


def test_what_the_stacks_key_has_not_signed_is_not_promoted(tmp_path: Path) -> None:
    publish(tmp_path, "3")
    target, before = find_target("local"), ready()
    client, bucket, key = target.client("s3"), target.output("model_bucket"), f"{MODEL}/3/{SIGNATURE}"
    manifest = client.get_object(Bucket=bucket, Key=f"{MODEL}/3/{MANIFEST}")["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=SigningKey().signer.sign(manifest))
    for command in (("promote", MODEL, "3"), ("verify", f"s3://{bucket}/{MODEL}/3", "--stack", "local")):
        with pytest.raises(ArtefactError, match="is by the foreign key arn:"):
            models(*command)
    client.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(ArtefactError, match="the model is not signed"):
        models("promote", MODEL, "3")
    assert listed()["3"] == (False, "not trusted")
    assert ready() == before


def test_a_version_that_no_server_can_load_is_taken_back(running: RunningStack, tmp_path: Path) -> None:
    made = tiny_models.gpt2(tmp_path, name=MODEL, version="4", layers=1)
    (made / "config.json").write_text("{}")
    write_manifest(made, name=MODEL, version="4", tasks=["completions"], architecture="GPT2LMHeadModel")
    models("publish", str(made))
    with load(running) as statuses:
        with pytest.raises(OpsError, match="is Failed: the instances of before go on"):
            models("promote", MODEL, "4")
        deadline = time.monotonic() + 60
        while refreshes()[0]["Status"] != "Successful":
            assert time.monotonic() < deadline, refreshes()
            time.sleep(0.2)
        until_ready_are(f"{MODEL}/1")
    assert listed()["1"] == (True, "trusted")
    assert set(statuses) == {200}, statuses


def refreshes() -> Any:
    """The group's instance refreshes, the newest first."""
    target = find_target("local")
    group = target.output("autoscaling_group")
    return target.client("autoscaling").describe_instance_refreshes(AutoScalingGroupName=group)["InstanceRefreshes"]
