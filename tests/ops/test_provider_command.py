"""`modelkeep local provider` as a user starts it, with an engine's client in place of the CLI."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from local.emulators import Emulators
from local.errors import LocalError
from local.layout import PROJECT_ROOT, Layout
from local.lock import running
from local.plugin.backing import backing
from local.processes import ProcessLedger
from local.stack import write_private
from ops.bring_up import take_down
from ops.cli import app
from tests.local.plugin.engine_client import EngineClient, EngineLog
from tests.local.plugin.test_protocol import subject

SECONDS = 60.0


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=PROJECT_ROOT, home=tmp_path / "home")


@pytest.fixture
def served(layout: Layout) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    """The running command and its ports."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "local", "provider", "--port", "0"],
        cwd=PROJECT_ROOT,
        env={**os.environ, "MODELKEEP_HOME": str(layout.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(
            r"PULUMI_DEBUG_PROVIDERS=aws:(\d+),docker-build:(\d+),tls:(\d+) pulumi up --stack local\n", line
        )
        assert found, line
        yield process, dict(zip(("aws", "docker-build", "tls"), map(int, found.groups()), strict=True))
    finally:
        process.kill()
        process.communicate()


def test_it_serves_until_a_signal_and_leaves_nothing(
    served: tuple[subprocess.Popen[str], dict[str, int]], layout: Layout
) -> None:
    process, ports = served
    with EngineLog() as log:
        client = EngineClient(ports["aws"], package="aws", configuration={"region": "eu-west-1"}, log=log)
        topic = subject("aws:sns/topic:Topic", "topic")
        _, outputs = client.create(topic, client.check(topic, {}))
        assert outputs["arn"].startswith("arn:aws:sns:eu-west-1:")
        client.close()
    entries = ProcessLedger(layout.ledger_file("local")).entries()
    assert [entry.name for entry in entries] == ["emulator", "emulator"]
    with (
        pytest.raises(LocalError, match=f"stack local is already up \\(process {process.pid}\\)"),
        backing(layout, stack="local", region="eu-west-1"),
    ):
        pass
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "emulators started, empty" in told
    assert told.splitlines()[-1] == "modelkeep: interrupted; everything it started has ended"
    assert not any(entry.alive() for entry in entries)
    assert ProcessLedger(layout.ledger_file("local")).entries() == []


def test_local_down_ends_it(served: tuple[subprocess.Popen[str], dict[str, int]], layout: Layout) -> None:
    process, _ = served
    entries = ProcessLedger(layout.ledger_file("local")).entries()
    assert take_down(layout, "local") == "stack local is down; nothing of it runs"
    assert process.wait(timeout=SECONDS) == 128 + signal.SIGTERM
    assert not any(entry.alive() for entry in entries)


def test_the_emulators_of_a_running_stack_are_used_and_left(layout: Layout, tmp_path: Path) -> None:
    layout.make_stack_dir("local")
    with Emulators(region="eu-west-1", log_dir=tmp_path / "logs") as emulators:
        with running(layout.lock_file("local"), stack="local"):
            status = {"endpoints": dict(emulators.endpoints), "environment": emulators.environment()}
            write_private(layout.status_file("local"), status)
            with backing(layout, stack="local", region="eu-west-1") as behind:
                assert not behind.is_own
                behind.check()
                queue = behind.client("sqs").create_queue(QueueName="theirs")["QueueUrl"]
                with pytest.raises(LocalError, match="AWS service athena is not emulated here"):
                    behind.client("athena")
            with pytest.raises(
                LocalError, match="stack local is up in eu-west-1, but its configuration says us-east-1"
            ):
                backing(layout, stack="local", region="us-east-1")
        assert emulators.client("sqs").list_queues()["QueueUrls"] == [queue]
        with pytest.raises(LocalError, match="stack local is down, and its emulators with it"):
            behind.check()


def test_wrong_usage_is_exit_2_and_an_unknown_stack_a_line() -> None:
    assert CliRunner().invoke(app, ["local", "provider"]).exit_code == 2
    assert CliRunner().invoke(app, ["local", "provider", "--port", "65535"]).exit_code == 2
    told = CliRunner().invoke(app, ["local", "provider", "--port", "0", "--stack", "nowhere"])
    assert isinstance(told.exception, LocalError)
    assert "stack nowhere is not known" in str(told.exception)
