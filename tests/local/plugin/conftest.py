"""Served providers against the shared emulators, and connections to them as the engine opens them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.emulators import Emulators
from local.plugin import PluginServers, packages
from tests.local.plugin.engine_client import EngineClient, EngineLog

Connect = Callable[..., EngineClient]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that relative paths of assets are relative to."""
    directory = tmp_path_factory.mktemp("program")
    (directory / "code").mkdir()
    (directory / "code" / "main.py").write_text("def handler(event, context):\n    return 'moin'\n", encoding="utf-8")
    return directory


@pytest.fixture(scope="session")
def log() -> Iterator[EngineLog]:
    with EngineLog() as running:
        yield running


@pytest.fixture(scope="session")
def servers(emulators: Emulators, program: Path) -> Iterator[PluginServers]:
    served = packages(client=emulators.client, region=emulators.region, program=program)
    with PluginServers(served, program=program, port=0) as running:
        yield running


@pytest.fixture
def connect(servers: PluginServers, log: EngineLog, program: Path) -> Iterator[Connect]:
    """Opens connections that end with the test; by default of aws, in the emulators' region."""
    opened: list[EngineClient] = []

    def new(package: str = "aws", **more: Any) -> EngineClient:
        configuration = more.pop("configuration", {"region": "eu-west-1"} if package == "aws" else {})
        client = EngineClient(
            servers.ports[package],
            package=package,
            configuration=configuration,
            log=log,
            directory=program,
            **more,
        )
        opened.append(client)
        return client

    yield new
    for client in opened:
        client.close()
