"""What a training instance boots, as cloud-init and AWS Batch read it, and what it does at a Spot notice."""

import ast
import base64
import email
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import training_agent as agent
from infra.training_boot import AGENT_FILE, AGENT_UNIT, ECS_CONFIG_FILE, encode, render


def config() -> dict[str, Any]:
    """The cloud-config part of the user data."""
    archive = email.message_from_string(base64.b64decode(encode(render())).decode("ascii"))
    assert archive.get_content_type() == "multipart/mixed"
    (part,) = archive.get_payload()  # type: ignore[misc]
    assert part.get_content_type() == "text/cloud-config"  # type: ignore[union-attr]
    content: dict[str, Any] = yaml.safe_load(part.get_payload())  # type: ignore[union-attr, arg-type]
    return content


def test_user_data_is_an_archive_of_one_cloud_config_and_small_enough() -> None:
    assert set(config()) == {"write_files", "runcmd"}
    assert len(render().encode()) < 16 * 1024


def test_ecs_is_told_before_it_starts_and_keeps_what_batch_adds() -> None:
    (file,) = [each for each in config()["write_files"] if each["path"] == ECS_CONFIG_FILE]
    assert file["append"] is True
    lines = dict(line.split("=", 1) for line in file["content"].splitlines())
    assert lines["ECS_AWSVPC_BLOCK_IMDS"] == lines["ECS_DISABLE_PRIVILEGED"] == "true"
    assert lines["ECS_CONTAINER_STOP_TIMEOUT"] == "110s"
    assert "ECS_CLUSTER" not in lines
    assert file["content"].endswith("\n")


def test_nobody_but_root_reaches_the_metadata_or_the_machine_is_turned_off() -> None:
    first, *rest = config()["runcmd"]
    assert first[:2] == ["sh", "-c"]
    rule, _, otherwise = first[2].partition(" || ")
    assert rule.split()[:3] == ["iptables", "--insert", "OUTPUT"]
    assert "--destination 169.254.169.254/32 --match owner ! --uid-owner 0 --jump REJECT" in rule
    assert otherwise == "poweroff"
    assert rest[-1] == ["systemctl", "enable", "--now", "--no-block", AGENT_UNIT]


@pytest.mark.parametrize(("works", "turned_off"), [(True, False), (False, True)])
def test_a_machine_without_its_rule_is_turned_off(tmp_path: Path, works: bool, turned_off: bool) -> None:
    for name, content in (("iptables", f"exit {0 if works else 1}"), ("poweroff", f"touch {tmp_path}/off")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{content}\n")
        (tmp_path / name).chmod(0o700)
    subprocess.run(config()["runcmd"][0], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    assert (tmp_path / "off").exists() is turned_off


def test_the_agent_is_the_file_that_is_tested_and_runs_on_python_3_9() -> None:
    (file,) = [each for each in config()["write_files"] if each["path"] == AGENT_FILE]
    assert file["content"] == Path(agent.__file__).read_text()
    ast.parse(file["content"], feature_version=(3, 9))
    (unit,) = [each for each in config()["write_files"] if each["path"].endswith(AGENT_UNIT)]
    assert f"ExecStart=/usr/bin/python3 {AGENT_FILE}\n" in unit["content"]


class Metadata(BaseHTTPRequestHandler):
    """IMDSv2; the notice is there from the third question on."""

    asked = 0

    def do_PUT(self) -> None:
        self._answer(200, "secret")

    def do_GET(self) -> None:
        assert self.path == "/latest/meta-data/spot/instance-action"
        type(self).asked += 1
        if self.headers["X-aws-ec2-metadata-token"] != "secret":
            self._answer(401, "")
        else:
            there = type(self).asked >= 3
            self._answer(200 if there else 404, '{"action": "terminate"}' if there else "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing."""


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Metadata]]:
    handler = type("Handler", (Metadata,), {"asked": 0})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(agent, "METADATA", f"http://127.0.0.1:{server.server_port}/latest")
        monkeypatch.setattr(agent.time, "sleep", lambda _seconds: None)
        yield handler
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("running", [["one", "two"], []])
def test_a_notice_stops_every_task_in_time(
    metadata: type[Metadata], monkeypatch: pytest.MonkeyPatch, running: list[str]
) -> None:
    commands: list[tuple[str, ...]] = []

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, returncode=0, stdout="\n".join(running), stderr="")

    monkeypatch.setattr(agent, "run", run)
    agent.main()
    assert metadata.asked == 3
    stops = [("docker", "stop", "--time", "110", "one", "two")] if running else []
    assert commands == [("docker", "ps", "--quiet", "--filter", "label=com.amazonaws.ecs.task-arn"), *stops]


def test_a_metadata_service_that_does_not_answer_is_no_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "METADATA", "http://127.0.0.1:9/latest")
    assert agent.is_interrupted() is False
