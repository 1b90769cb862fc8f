"""Tiny models and one server over all of them, shared by the tests of this directory."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from tests import tiny_models
from tests.model_image.server_process import ServerProcess


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny artefact of every kind, by kind, and `slow`: a GPT-2 that writes thousands of tokens."""
    models = tmp_path_factory.mktemp("models")
    slow = tiny_models.gpt2(models, name="tiny-slow", context=8192, layers=4, ends=False)
    return tiny_models.write_all(models) | {"slow": slow}


@pytest.fixture(scope="session")
def server(artefacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with every tiny model."""
    log = tmp_path_factory.mktemp("server") / "server.log"
    with ServerProcess(artefacts.values(), log=log) as process:
        yield process.wait_ready()


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=server.url, timeout=60) as http:
        yield http
