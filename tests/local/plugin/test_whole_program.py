"""The true program, every resource of it over the wire: a run of the local engine whose providers are gRPC clients."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from local.archives import describe
from local.calls import Caller
from local.emulators import Emulators
from local.engine import Deployment, execute, preview, to_json, up
from local.journal import Journal
from local.plugin import PluginServers, packages
from local.plugin.presence import QUESTIONS
from local.project import load_project
from local.provider import Provider, Subject
from local.records import ResourceRecord
from local.run import Run
from local.state import State, load_state, write_state
from local.wire import Archive, Asset
from local.wire import Path as PropertyPath
from tests.local.plugin.engine_client import EngineClient, EngineLog

ROOT = Path(__file__).resolve().parents[3]
PUBLIC_KEY = r"MFkwEwYHKoZIzj0[A-Za-z0-9+/]+=*"  # how the DER form of every P-256 key begins, in base64
TOKEN = re.compile(rf"{PUBLIC_KEY}|[A-Za-z0-9-]+")
ONCE = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z|\+[\d:]+)|-----BEGIN.*", re.DOTALL)  # moments, keys and certificates


class RemoteRun(Run):
    """A run that asks the served providers; a preview without a state file."""

    def __init__(self, *, remote: Remote, root: Path, state_file: Path | None) -> None:
        caller = Caller(remote.emulators.client) if state_file else None  # only says that data sources are asked
        state = load_state(state_file) if state_file else State()
        journal = Journal(state_file) if state_file else None
        project = load_project(root=root, stack="local")
        super().__init__(project=project, caller=caller, on_progress=None, state=state, journal=journal)
        self._remote = remote
        self._secrets: dict[str, set[PropertyPath]] = {}

    def _record(
        self, request: Any, subject: Subject, *, inputs: Mapping[str, Any], secrets: set[PropertyPath]
    ) -> ResourceRecord:
        self._secrets[subject.urn] = secrets
        return super()._record(request, subject, inputs=inputs, secrets=secrets)

    def _new_provider(self, package: str, *, reference: str) -> Provider:
        prefix = f"{package}:"
        values: dict[str, Any] = {
            key.removeprefix(prefix): value for key, value in self.project.config.items() if key.startswith(prefix)
        }
        if reference:
            urn = reference.rpartition("::")[0]
            values |= (self._records.get(urn) or self._prior.provider(urn)).inputs
        client = EngineClient(
            self._remote.servers.ports[package],
            package=package,
            configuration=values,
            log=self._remote.log,
            secrets=lambda urn: self._secrets.get(urn, ()),
        )
        self._remote.clients.append(client)
        return client


class Remote:
    """The served providers with emulators of their own, and the engine's log."""

    def __init__(self, emulators: Emulators) -> None:
        program = ROOT / "infra"
        self.emulators = emulators
        self.log = EngineLog()
        self.clients: list[EngineClient] = []
        served = packages(client=emulators.client, region=emulators.region, program=program)
        self.servers = PluginServers(served, program=program, port=0)

    def preview(self) -> Deployment:
        return execute(RemoteRun(remote=self, root=ROOT, state_file=None))

    def up(self, state_file: Path, *, root: Path = ROOT) -> Deployment:
        run = RemoteRun(remote=self, root=root, state_file=state_file)
        try:
            return execute(run)
        finally:
            write_state(run.deployment(), state_file, state=run.existing())


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with Emulators(region="eu-west-1", log_dir=tmp_path_factory.mktemp("remote") / "logs") as emulators:
        served = Remote(emulators)
        with served.log, served.servers:
            yield served
        for client in served.clients:
            client.close()


@pytest.fixture(scope="module")
def state_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "state.json"


@pytest.fixture(scope="module")
def deployed(remote: Remote, state_file: Path) -> Deployment:
    return remote.up(state_file)


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    directory = tmp_path_factory.mktemp("in-process")
    with Emulators(region="eu-west-1", log_dir=directory / "logs") as emulators:
        return up(root=ROOT, stack="local", emulators=emulators, state_file=directory / "state.json")


class Renaming:
    """Whether two values are the same but for ids, which must correspond one to one all over."""

    def __init__(self) -> None:
        self._there: dict[str, str] = {}
        self._back: dict[str, str] = {}

    def equal(self, one: Any, other: Any) -> bool:
        if isinstance(one, Asset | Archive) and isinstance(other, Asset | Archive):
            return describe(one) == describe(other)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            return set(one) == set(other) and all(self.equal(one[key], other[key]) for key in one)
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(self.equal, one, other))
        if isinstance(one, str) and isinstance(other, str):
            if one.startswith('{"') and other.startswith('{"'):  # a document, whose keys have no order
                return self.equal(json.loads(one), json.loads(other))
            return self._text(ONCE.sub("", one), ONCE.sub("", other))
        return bool(one == other)

    def _text(self, one: str, other: str) -> bool:
        if TOKEN.sub("", one) != TOKEN.sub("", other):
            return False
        pairs = [(a, b) for a, b in zip(TOKEN.findall(one), TOKEN.findall(other), strict=True) if a != b]
        return all(self._there.setdefault(a, b) == b and self._back.setdefault(b, a) == a for a, b in pairs)


def test_a_preview_over_the_wire_is_the_preview_in_process(remote: Remote) -> None:
    shown, here = to_json(remote.preview()), to_json(preview(root=ROOT, stack="local"))
    assert [resource["urn"] for resource in shown["resources"]] == [resource["urn"] for resource in here["resources"]]
    for one, other in zip(shown["resources"], here["resources"], strict=True):
        assert one == other, one["urn"]
    assert shown["outputs"] == here["outputs"]


def test_the_stack_over_the_wire_is_the_stack_in_process(deployed: Deployment, in_process: Deployment) -> None:
    here = {record.urn: record for record in in_process.resources}
    assert {record.urn for record in deployed.resources} == set(here)
    renaming = Renaming()
    for record in deployed.resources:
        same = here[record.urn]
        assert record.secret_inputs == same.secret_inputs, record.urn
        assert record.secret_outputs == same.secret_outputs, record.urn
        assert record.dependencies == same.dependencies, record.urn
        assert renaming.equal(record.inputs, same.inputs), (record.urn, record.inputs, same.inputs)
        assert set(record.outputs) == set(same.outputs), record.urn
        if not record.type.startswith("tls:"):  # keys are new ones each time
            assert renaming.equal(record.outputs, same.outputs), (record.urn, record.outputs, same.outputs)
    assert renaming.equal(deployed.outputs, in_process.outputs)
    assert not renaming.equal({"a": "x"}, {"a": "y", "b": "z"})


def test_what_is_not_emulated_is_told_to_the_engine(
    deployed: Deployment, in_process: Deployment, remote: Remote
) -> None:
    told = {(urn, message.rpartition("recorded: ")[2]) for urn, message in remote.log.told}
    assert told == {(entry.urn, entry.reason) for entry in in_process.not_emulated}


def test_a_second_deployment_finds_no_difference(deployed: Deployment, remote: Remote, state_file: Path) -> None:
    counts = remote.up(state_file).counts()
    assert counts == {"create": 0, "update": 0, "replace": 0, "delete": 0, "same": len(deployed.resources)}


def found(remote: Remote, deployment: Deployment) -> dict[str, bool]:
    """What a refresh finds of each AWS resource whose type it can ask for, by URN."""
    client = next(client for client in remote.clients if client.package == "aws")
    asked = [record for record in deployment.resources if record.type in QUESTIONS]
    return {
        record.urn: client.refreshed(subject_of(record), record.id, record.inputs, record.outputs)[0] == record.id
        for record in asked
    }


def subject_of(record: ResourceRecord) -> Subject:
    return Subject(urn=record.urn, type=record.type, name=record.name)


def test_a_refresh_finds_everything(deployed: Deployment, remote: Remote) -> None:
    missing = [urn for urn, is_found in found(remote, deployed).items() if not is_found]
    assert missing == []
    assert len({record.type for record in deployed.resources} & set(QUESTIONS)) > 40


def test_at_last_everything_is_deleted_over_the_wire(
    deployed: Deployment, remote: Remote, state_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "__main__.py").write_text("", encoding="utf-8")
    for name in ("Pulumi.yaml", "Pulumi.local.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    client = remote.emulators.client
    for name in client("dynamodb").list_tables()["TableNames"]:  # as an operator has to
        client("dynamodb").update_table(TableName=name, DeletionProtectionEnabled=False)
    deleted = remote.up(state_file, root=tmp_path).counts()["delete"]
    assert deleted == len(deployed.resources) - 1  # the stack itself stays
    assert client("s3").list_buckets()["Buckets"] == []
    assert client("iam").list_roles()["Roles"] == []
    assert client("dynamodb").list_tables()["TableNames"] == []
    assert client("apigateway").get_rest_apis()["items"] == []
    assert [urn for urn, is_found in found(remote, deployed).items() if is_found] == []
