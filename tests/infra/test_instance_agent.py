"""What an instance does beside its server, against a metadata service, a server and commands that are recorded."""

import ast
import itertools
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra import instance_agent as agent

NO_ACTION = "An error occurred (ValidationError): No active Lifecycle Action found with instance ID i-1"


class Metadata(BaseHTTPRequestHandler):
    """IMDSv2: a token by PUT, values by GET with the token."""

    values: dict[str, Iterator[str]]

    def do_PUT(self) -> None:
        self._answer(200 if self.headers["X-aws-ec2-metadata-token-ttl-seconds"] else 400, "secret")

    def do_GET(self) -> None:
        values = self.values.get(self.path.removeprefix("/latest/meta-data/"))
        if self.headers["X-aws-ec2-metadata-token"] != "secret":
            self._answer(401, "")
        else:
            self._answer(404 if values is None else 200, "" if values is None else next(values))

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing."""


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Iterator[str]]]:
    """The instance's metadata, value by value as it is asked for."""
    values = {"instance-id": itertools.repeat("i-1")}
    with HTTPServer(("127.0.0.1", 0), type("Handler", (Metadata,), {"values": values})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(agent, "METADATA", f"http://127.0.0.1:{server.server_port}/latest")
        yield values
        server.shutdown()
        thread.join()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands run; those in `failing` fail with its text."""
    found: list[tuple[str, ...]] = []

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        found.append(command)
        stderr = next((text for part, text in failing.items() if part in command), "")
        return subprocess.CompletedProcess(command, returncode=1 if stderr else 0, stdout="", stderr=stderr)

    failing.clear()
    monkeypatch.setattr(agent, "run", run)
    monkeypatch.setattr(agent.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(os, "environ", {"GROUP": "modelkeep-test", "REGION": "eu-west-1", "SERVER_UNIT": "m.service"})
    return found


failing: dict[str, str] = {}


def about(commands: list[tuple[str, ...]]) -> list[str]:
    """What was said of the lifecycle, and what was stopped, in order."""
    words = {"ready", "drained", "CONTINUE", "ABANDON", "Unhealthy", "stop", "m.service"}
    return [" ".join(part for part in command if part in words) for command in commands]


def test_it_runs_on_the_python_of_the_machine_image() -> None:
    """Amazon Linux 2023 has 3.9, and nothing installed."""
    tree = ast.parse(Path(agent.__file__).read_text(), feature_version=(3, 9))
    imported = {alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import)
                for alias in node.names}  # fmt: skip
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported | modules <= {"os", "ssl", "subprocess", "sys", "time", "urllib", "pathlib"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)]


def test_an_instance_is_in_service_once_ready_and_goes_once_drained(
    values: dict[str, Iterator[str]], commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = iter([False, False, True])
    monkeypatch.setattr(agent, "is_ready", lambda: next(ready))
    states = iter(["InService", "InService", "InService", "InService", "InService", "Terminated"])
    values["autoscaling/target-lifecycle-state"] = states
    agent.follow()
    assert about(commands) == ["ready CONTINUE", "stop m.service", "drained CONTINUE"]
    assert commands[0][-4:] == ("--instance-id", "i-1", "--region", "eu-west-1")
    assert commands[0][commands[0].index("--auto-scaling-group-name") + 1] == "modelkeep-test"


def test_an_instance_that_goes_before_it_was_ready_is_never_in_service(
    values: dict[str, Iterator[str]], commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "is_ready", lambda: False)
    values["autoscaling/target-lifecycle-state"] = itertools.chain(["InService"], itertools.repeat("Terminated"))
    agent.follow()
    assert about(commands) == ["stop m.service", "drained CONTINUE"]


def test_a_server_that_never_starts_is_replaced_before_and_after_it_was_in_service(
    values: dict[str, Iterator[str]], commands: list[tuple[str, ...]]
) -> None:
    agent.give_up()
    assert about(commands) == ["ready ABANDON"]
    commands.clear()
    failing["complete-lifecycle-action"] = NO_ACTION
    agent.give_up()
    assert about(commands) == ["ready ABANDON", "Unhealthy"]


def test_a_call_that_fails_is_tried_again_by_systemd(
    values: dict[str, Iterator[str]], commands: list[tuple[str, ...]]
) -> None:
    failing["complete-lifecycle-action"] = "An error occurred (AccessDenied)"
    with pytest.raises(SystemExit, match="AccessDenied"):
        agent.complete(agent.LAUNCH_HOOK, "CONTINUE")


def test_metadata_that_is_not_there_is_no_state(values: dict[str, Iterator[str]]) -> None:
    with pytest.raises(OSError, match="404"):
        agent.is_leaving()


@pytest.mark.parametrize(
    ("formatted", "expected"), [(False, ["blkid", "mkfs.xfs", "mount"]), (True, ["blkid", "mount"])]
)
def test_models_lie_on_the_first_nvme_disk(
    formatted: bool,
    expected: list[str],
    commands: list[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for number in (2, 1):
        (tmp_path / f"nvme{number}n1").touch()
        (tmp_path / f"nvme-Amazon_EC2_NVMe_Instance_Storage_AWS{number}").symlink_to(tmp_path / f"nvme{number}n1")
    (tmp_path / "nvme-Amazon_Elastic_Block_Store_vol0").symlink_to(tmp_path / "nvme1n1")
    monkeypatch.setattr(agent, "DISKS", tmp_path)
    os.environ.update(CACHE=str(tmp_path / "models"), CACHE_OWNER=str(os.getuid()))
    if not formatted:
        failing["blkid"] = "nothing there"
    agent.cache()
    assert [each[0] for each in commands] == expected
    assert commands[-1][-2:] == (str(tmp_path / "nvme1n1"), str(tmp_path / "models"))
    assert "noatime,nosuid,nodev,noexec" in commands[-1]
    assert (tmp_path / "models").stat().st_mode & 0o777 == 0o700


def test_without_such_a_disk_models_lie_on_the_encrypted_volume(
    commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(agent, "DISKS", tmp_path / "none")
    os.environ.update(CACHE=str(tmp_path / "models"), CACHE_OWNER=str(os.getuid()))
    agent.cache()
    assert commands == []
    assert (tmp_path / "models").is_dir()
