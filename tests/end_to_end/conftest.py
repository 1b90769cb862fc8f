"""The local stack as a user starts it, by its command, with tiny models so that it is up in seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from model_image.artefacts import digest_of, read_manifest, write_manifest
from tests import tiny_models

ROOT = Path(__file__).resolve().parents[2]
UP_SECONDS = 240


@dataclass(frozen=True)
class Sandbox:
    """A MODELKEEP_HOME of a test's own; commands run in it as a user runs them."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "MODELKEEP_HOME": str(self.home)}

    def files(self, stack_file: Path) -> list[str]:
        """Options that make a command use this stack file and the recipes of the tiny models."""
        return ["--config-file", str(stack_file), "--recipes", str(self.home / "recipes")]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ops", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, timeout: float = UP_SECONDS) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ops", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def processes(self) -> list[str]:
        """Command lines of every process of this home, found by its environment: all are given a path in it."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes()
                command = (process / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if str(self.home).encode() in environment and command:
                found.append(command.replace(b"\0", b" ").decode())
        return found


@dataclass(frozen=True)
class RunningStack:
    """A stack that is up: how to call it as a consumer does."""

    sandbox: Sandbox
    status: Mapping[str, Any]

    @property
    def api_url(self) -> str:
        return str(self.status["api_url"])

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which an AWS SDK reaches the stack's emulators, as the account's root."""
        lines = self.sandbox.run("local", "env").stdout.splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in lines)

    def token(self, consumer: str = "demo") -> str:
        return str(self.status["tokens"][consumer])

    def openai(self, *, token: str | None = None, address: str | None = None) -> openai.OpenAI:
        client = httpx.Client(transport=httpx.HTTPTransport(local_address=address)) if address else None
        return openai.OpenAI(
            base_url=self.api_url, api_key=token or self.token(), max_retries=0, timeout=60, http_client=client
        )

    def post(self, route: str, body: Any, *, token: str | None = None, **extra: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {token or self.token()}", **extra.pop("headers", {})}
        if isinstance(body, bytes):
            extra["content"] = body
        else:
            extra["json"] = body
        return httpx.post(f"{self.api_url}/{route}", headers=headers, timeout=60, **extra)

    def refreshed(self) -> dict[str, Any]:
        done = self.sandbox.run("local", "status", "--json")
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status


def write_stack_file(path: Path, *, models: Path, changes: Mapping[str, Any] | None = None) -> Path:
    """Pulumi.local.yaml with the artefacts under `models`, and with `changes` ({"plans.demo.burst": 3}) applied."""
    content = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text(encoding="utf-8"))
    directories = sorted(manifest.parent for manifest in models.glob("*/*/manifest.json"))
    content["config"]["modelkeep:models"] = tiny_models.settings_models(directories)
    content["config"]["modelkeep:canary"] = {"model": "tiny-gpt2"}  # Pulumi.local.yaml has none; its role is tested too
    for dotted, value in (changes or {}).items():
        first, *middle, last = dotted.split(".")
        place = content["config"][f"modelkeep:{first}"]
        for key in middle:
            place = place[key]
        place[last] = value
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny models, made once."""
    return make_tiny_artefacts(tmp_path_factory.mktemp("tiny"))


def make_tiny_artefacts(home: Path) -> Path:
    """One tiny model of every kind, and a slow one, as artefacts that are what their recipes say; gives `home` back."""
    models = home / "models"
    tiny_models.write_all(models)
    tiny_models.gpt2(models, name="slow-gpt2", context=1024, layers=24)
    recipes = home / "recipes"
    recipes.mkdir()
    for path in models.glob("*/*/manifest.json"):
        made = read_manifest(path.parent)
        recipe = {"kind": "fetch", "name": made.name, "version": made.version, "tasks": list(made.tasks)}
        (recipes / f"{made.name}.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        write_manifest(
            path.parent,
            name=made.name,
            version=made.version,
            tasks=made.tasks,
            architecture=made.architecture,
            config_digest=digest_of(recipe),
        )
    return home


def make_sandbox(home: Path, tiny: Path) -> Sandbox:
    """A home in which the tiny models are made already; `recipes` says how, for the commands' --recipes."""
    home.mkdir(parents=True, exist_ok=True)
    for name in ("models", "recipes"):
        (home / name).symlink_to(tiny / name)
    return Sandbox(home=home)


def bring_up(sandbox: Sandbox, *, changes: Mapping[str, Any] | None = None) -> RunningStack:
    stack_file = write_stack_file(sandbox.home / "Pulumi.local.yaml", models=sandbox.home / "models", changes=changes)
    done = sandbox.run("local", "up", "--detach", "--port", "0", *sandbox.files(stack_file))
    assert done.returncode == 0, done.stderr
    return RunningStack(sandbox=sandbox, status=json.loads(sandbox.run("local", "status", "--json").stdout))


def take_down(sandbox: Sandbox) -> None:
    done = sandbox.run("local", "down")
    assert done.returncode == 0, done.stderr
    assert sandbox.processes() == []


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, tiny_artefacts: Path) -> Iterator[RunningStack]:
    """One running stack for all tests that do not change it."""
    sandbox = make_sandbox(tmp_path_factory.mktemp("stack") / "home", tiny_artefacts)
    try:
        yield bring_up(sandbox)
    finally:
        take_down(sandbox)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, tiny_artefacts: Path) -> Iterator[RunningStack]:
    """A stack of one instance with one small model, for tests that bring other versions to it."""
    only = tmp_path_factory.mktemp("only")
    (only / "models").mkdir()
    (only / "models" / "tiny-gpt2").symlink_to(tiny_artefacts / "models" / "tiny-gpt2")
    (only / "recipes").symlink_to(tiny_artefacts / "recipes")
    sandbox = make_sandbox(tmp_path_factory.mktemp("promotion") / "home", only)
    try:
        yield bring_up(sandbox, changes={"fleet.min": 1})
    finally:
        take_down(sandbox)
