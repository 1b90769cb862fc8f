"""A model server as a process of its own, for tests that need one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import httpx

from tests.tiny_models import settings_models

ROOT = Path(__file__).resolve().parents[2]


class ServerProcess:
    """`python -m model_image serve` on a free port of 127.0.0.1; its output is kept in a file."""

    def __init__(self, directories: Iterable[Path], *, log: Path, **settings: str) -> None:
        directories = list(directories)
        self.log = log
        self.port = free_port()
        scheme = "https" if settings.get("MODELKEEP_TLS_DIR") else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MODELKEEP_")} | {
            "MODELKEEP_MODELS": json.dumps(settings_models(directories)),
            "MODELKEEP_CACHE_DIR": str(directories[0].parents[1]),
            "MODELKEEP_HOST": "127.0.0.1",
            "MODELKEEP_PORT": str(self.port),
            **settings,
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "model_image", "serve"],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_ready(self) -> Self:
        """Returns once the server is ready; fails with its log if it ends before or takes two minutes."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            if status_of(f"{self.url}/ready") == 200:
                return self
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def terminate(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def events(self) -> list[dict[str, Any]]:
        """What the process has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def request_event(self, request_id: str) -> dict[str, Any]:
        """The line of one request, which is written just after its answer."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = [event for event in self.events() if event.get("request_id") == request_id]
            if found:
                return found[0]
            time.sleep(0.01)
        raise AssertionError(f"no line for request {request_id}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def status_of(url: str) -> int | None:
    """The status of a GET, or None where nothing listens."""
    try:
        return httpx.get(url, timeout=5, verify=False).status_code  # noqa: S501  (the server's own certificate)
    except httpx.TransportError:
        return None


def events_of(response: httpx.Response) -> list[Any]:
    """The chunks of a streamed answer; the last one must be [DONE]."""
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def metric(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    total = 0.0
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith(("modelkeep_" + name + "{", "modelkeep_" + name + " ")) and all(
            f'{key}="{value}"' in line for key, value in labels.items()
        ):
            total += float(line.rsplit(" ", 1)[1])
    return total
