"""One moto server and one echoing target for all tests of the edge; a fresh API for each."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tests.local.edge.stack import Stack, echo, served


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def target() -> Iterator[str]:
    with served(echo) as url:
        yield url


@pytest.fixture
def stack(moto_url: str, tmp_path: Path) -> Stack:
    return Stack(moto_url, tmp_path)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
