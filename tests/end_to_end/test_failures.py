"""A server that dies under load, and what a user can get wrong: each told in one line, none hanging."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.end_to_end.conftest import (
    ROOT,
    RunningStack,
    Sandbox,
    bring_up,
    make_sandbox,
    take_down,
    write_stack_file,
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, tiny_artefacts: Path) -> Iterator[RunningStack]:
    """A stack that these tests may break."""
    sandbox = make_sandbox(tmp_path_factory.mktemp("own") / "home", tiny_artefacts)
    try:
        yield bring_up(sandbox)
    finally:
        take_down(sandbox)


class Load:
    """Clients that call one after the other until told to stop, and keep what they were answered."""

    def __init__(self, stack: RunningStack, *, clients: int) -> None:
        self._stack = stack
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        self.answers: list[tuple[int, bytes]] = []

    def _run(self) -> None:
        deadline = time.monotonic() + 120
        body = {"model": "tiny-gpt2", "prompt": "the quick", "max_tokens": 20}
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set() and time.monotonic() < deadline:
                answer = client.post(
                    f"{self._stack.api_url}/completions",
                    json=body,
                    headers={"authorization": f"Bearer {self._stack.token()}"},
                )
                self.answers.append((answer.status_code, answer.content))
                time.sleep(0.2)  # stay under the plan's rate

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"


def _ready(stack: RunningStack) -> dict[str, int]:
    return {one["id"]: one["pid"] for one in stack.refreshed()["instances"] if one["state"] == "ready"}


def test_a_killed_server_is_replaced_and_costs_only_what_was_in_flight(own: RunningStack) -> None:
    before = _ready(own)
    assert len(before) == 2
    victim, pid = next(iter(before.items()))
    with Load(own, clients=3) as load:
        time.sleep(2)
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 90
        while len(_ready(own)) < 2 or victim in _ready(own):
            assert time.monotonic() < deadline, own.refreshed()["instances"]
            time.sleep(0.5)
    statuses = [status for status, _ in load.answers]
    assert statuses.count(200) > 10
    failed = [(status, body) for status, body in load.answers if status != 200]
    assert len(failed) <= 3, statuses  # one request in flight for each client
    for status, body in failed:
        assert status in {502, 503}
        assert json.loads(body)["error"]["message"]


def test_bad_requests_name_what_is_wrong(own: RunningStack) -> None:
    post = own.post
    cases = [
        (post("completions", {"model": "nope", "prompt": "a"}), 404, "tiny-gpt2"),
        (post("completions", {"model": "tiny-gpt2", "prompt": "a", "colour": 1}), 400, "colour"),
        (post("completions", b"{not json", headers={"content-type": "application/json"}), 400, "JSON"),
        (post("completions", b"model=tiny-gpt2", headers={"content-type": "text/plain"}), 400, "application/json"),
        (post("completions", {"model": "tiny-gpt2", "prompt": "a" * 200_000}), 413, "64 KB"),
        (post("nowhere", {}), 404, ""),
    ]  # fmt: skip
    for answer, status, part in cases:
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert part.lower() in error["message"].lower(), error


@pytest.fixture
def sandbox(tmp_path: Path, tiny_artefacts: Path) -> Sandbox:
    return make_sandbox(tmp_path / "home", tiny_artefacts)


def _refusal(sandbox: Sandbox, *arguments: str) -> str:
    """The one line of a command that fails; nothing may be left of it."""
    done = sandbox.run(*arguments, timeout=120)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert sandbox.processes() == []
    return done.stderr.strip().splitlines()[-1]


def test_an_unknown_stack(sandbox: Sandbox) -> None:
    line = _refusal(sandbox, "local", "up", "--stack", "produ")
    assert "produ" in line
    assert "prod" in line
    assert "staging" in line
    assert "produ" in _refusal(sandbox, "local", "preview", "--stack", "produ")


def test_a_wrong_type_in_the_settings(sandbox: Sandbox, tmp_path: Path) -> None:
    stack_file = write_stack_file(
        tmp_path / "Pulumi.local.yaml", models=sandbox.home / "models", changes={"fleet.min": "two"}
    )
    line = _refusal(sandbox, "local", "up", "--port", "0", *sandbox.files(stack_file))
    assert "fleet.min" in line


def test_a_port_in_use(sandbox: Sandbox) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = _refusal(sandbox, "local", "up", "--port", str(port))
    assert str(port) in line
    assert "--port" in line


def test_another_port_for_a_stack_that_is_up(own: RunningStack) -> None:
    done = own.sandbox.run("local", "up", "--port", "1", *own.sandbox.files(own.sandbox.home / "Pulumi.local.yaml"))
    assert done.returncode == 1
    assert "--port" in done.stderr


def test_a_broken_digest(sandbox: Sandbox, tmp_path: Path, tiny_artefacts: Path) -> None:
    directory = tmp_path / "1"
    shutil.copytree(tiny_artefacts / "models" / "tiny-gpt2" / "1", directory)
    weights = directory / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    line = _refusal(sandbox, "models", "verify", str(directory))
    assert "model.safetensors" in line
    assert "SHA-256" in line


def test_a_model_without_recipe(sandbox: Sandbox, tmp_path: Path) -> None:
    stack_file = write_stack_file(tmp_path / "Pulumi.local.yaml", models=sandbox.home / "models")
    content = yaml.safe_load(stack_file.read_text())
    content["config"]["modelkeep:models"].append({"name": "nobody-made-this", "version": "1", "tasks": ["chat"]})
    stack_file.write_text(yaml.safe_dump(content))
    line = _refusal(sandbox, "local", "up", "--port", "0", *sandbox.files(stack_file))
    assert "nobody-made-this" in line


def test_wrong_usage_exits_2(sandbox: Sandbox) -> None:
    assert sandbox.run("local", "up", "--prot", "1").returncode == 2
    assert sandbox.run("lokal").returncode == 2


def test_down_without_up_says_so(sandbox: Sandbox) -> None:
    done = sandbox.run("local", "down")
    assert done.returncode == 0
    assert "not up" in done.stderr
    assert sandbox.run("local", "status").returncode == 1


def test_help_and_version() -> None:
    sandbox = Sandbox(home=ROOT / ".modelkeep")
    assert "local" in sandbox.run("-h").stdout
    assert sandbox.run("--version").stdout.strip()
