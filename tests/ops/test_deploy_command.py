"""The deployment commands, with a `pulumi` on PATH that records what it is called with."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from local.interrupts import Interrupted, interruptible
from local.layout import PROJECT_ROOT
from ops.cli import app
from ops.deploy_command import find_pulumi, run
from ops.errors import OpsError

PULUMI = """\
#!{python}
import json, os, pathlib, sys
here = pathlib.Path({directory!r})
calls = here / "calls.json"
known = json.loads(calls.read_text()) if calls.exists() else []
plan = lambda option: pathlib.Path(sys.argv[sys.argv.index(option) + 1])
if "--save-plan" in sys.argv:
    plan("--save-plan").write_text("what was reviewed")
applied = plan("--plan").read_text() if "--plan" in sys.argv else None
calls.write_text(json.dumps([*known, {{"arguments": sys.argv[1:], "directory": os.getcwd(), "plan": applied}}]))
answer = json.loads((here / "answers.json").read_text()).get(sys.argv[1] + ("-json" if "--json" in sys.argv else ""))
if answer is not None:
    print(answer["output"])
    sys.exit(answer["status"])
"""
STACK_URN = "urn:pulumi:dev::modelkeep::{type}::{name}"
TOPIC = "aws:sns/topic:Topic"


@dataclass
class Fake:
    """A `pulumi` that records its calls, and answers as it is told, by subcommand (`preview-json` with --json)."""

    directory: Path

    def answer(self, **answers: tuple[int, str]) -> None:
        told = {name.replace("_", "-"): {"status": code, "output": text} for name, (code, text) in answers.items()}
        (self.directory / "answers.json").write_text(json.dumps(told), encoding="utf-8")

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every call; a plan's path is `PLAN`."""
        return [
            ["PLAN" if each.endswith("/plan.json") else each for each in call["arguments"]] for call in self._recorded()
        ]

    @property
    def applied(self) -> list[str]:
        """The contents of the plans that were applied."""
        return [call["plan"] for call in self._recorded() if call["plan"] is not None]

    @property
    def directories(self) -> set[Path]:
        return {Path(call["directory"]) for call in self._recorded()}

    def _recorded(self) -> list[dict[str, Any]]:
        file = self.directory / "calls.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "pulumi"
    program.write_text(PULUMI.format(python=sys.executable, directory=str(directory)), encoding="utf-8")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)
    fake = Fake(directory)
    fake.answer(preview_json=(0, preview()), destroy_json=(0, preview()))
    return fake


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose policy pack has its environment already."""
    root = tmp_path / "project"
    (root / "infra" / "policies" / ".venv").mkdir(parents=True)
    (root / "infra" / "__main__.py").touch()
    (root / "Pulumi.yaml").write_text("name: modelkeep\nruntime: python\nmain: infra\n", encoding="utf-8")
    (root / "Pulumi.dev.yaml").write_text("config:\n  aws:region: eu-west-1\n", encoding="utf-8")
    monkeypatch.setattr("local.layout.PROJECT_ROOT", root)
    return root


def preview(*steps: dict[str, Any]) -> str:
    return json.dumps({"config": {}, "steps": list(steps), "changeSummary": {}})


def step(operation: str, *, old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any]:
    urn = STACK_URN.format(type=TOPIC, name="alarms")
    states = {"oldState": old, "newState": new}
    shown = {key: {"urn": urn, "type": TOPIC, "inputs": inputs} for key, inputs in states.items() if inputs is not None}
    return {"op": operation, "urn": urn, **shown}


OPENED = step(
    "update",
    old={"name": "alarms", "kmsMasterKeyId": "alias/key"},
    new={
        "name": "alarms",
        "policy": json.dumps({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}),
    },
)


RENAMED = step("update", old={"name": "alarms", "displayName": "a"}, new={"name": "alarms", "displayName": "b"})
TABLE = "aws:dynamodb/table:Table"
GONE = {
    "op": "delete",
    "urn": STACK_URN.format(type=TABLE, name="tokens"),
    "oldState": {"urn": STACK_URN.format(type=TABLE, name="tokens"), "type": TABLE, "inputs": {"name": "tokens"}},
}


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["deploy", *arguments])


GUARDED = ["--policy-pack", "infra/policies", "--stack", "dev"]
LOOKED = ["preview", "--show-sames", "--json", "--stack", "dev"]
PLANNED = ["preview", "--show-sames", "--save-plan", "PLAN", "--json", "--stack", "dev"]
APPLIED = ["up", "--plan", "PLAN", *GUARDED]
LOOKED_AT_END = ["destroy", "--preview-only", "--json", "--stack", "dev"]


def test_a_plan_reviews_and_previews_with_the_policies(pulumi: Fake, root: Path) -> None:
    done = call("plan", "dev")
    assert done.exit_code == 0
    assert pulumi.calls == [LOOKED, ["preview", *GUARDED]]
    assert pulumi.directories == {root}
    assert "dev: `what is deployed` → `this checkout`" in done.stdout


@pytest.mark.parametrize(("given", "passed"), [([], []), (["--yes"], ["--yes"])])
def test_a_deployment_reviews_first(pulumi: Fake, root: Path, given: list[str], passed: list[str]) -> None:
    pulumi.answer(preview_json=(0, preview(RENAMED)))
    done = call("up", "dev", *given)
    assert done.exit_code == 0
    assert pulumi.calls == [PLANNED, [*APPLIED, *passed]]
    assert pulumi.applied == ["what was reviewed"]
    assert "alarms" in done.stdout


@pytest.mark.parametrize("given", [[], ["--yes", "--fail-on", "never"]])
def test_a_grave_finding_is_for_whoever_is_asked_or_has_accepted_it(pulumi: Fake, root: Path, given: list[str]) -> None:
    pulumi.answer(preview_json=(0, preview(OPENED)))
    assert call("up", "dev", *given).exit_code == 0
    assert [each[0] for each in pulumi.calls] == ["preview", "up"]


def test_a_grave_finding_stops_what_nobody_is_asked_about(pulumi: Fake, root: Path) -> None:
    pulumi.answer(preview_json=(0, preview(OPENED)))
    done = call("up", "dev", "--yes")
    assert isinstance(done.exception, OpsError)
    assert "of severity high or above: nothing was done" in str(done.exception)
    assert pulumi.calls == [PLANNED]


def test_a_finding_of_the_named_severity_stops_a_deployment(pulumi: Fake, root: Path) -> None:
    pulumi.answer(preview_json=(0, preview(OPENED)))
    done = call("up", "dev", "--fail-on", "low")
    assert isinstance(done.exception, OpsError)
    assert "of severity low or above: nothing was done" in str(done.exception)
    assert pulumi.calls == [PLANNED]


@pytest.mark.parametrize(("given", "passed"), [([], []), (["--yes"], ["--yes"])])
def test_what_goes_is_reviewed_before_it_is_destroyed(
    pulumi: Fake, root: Path, given: list[str], passed: list[str]
) -> None:
    pulumi.answer(destroy_json=(0, preview(GONE)))
    done = call("destroy", "dev", *given)
    assert done.exit_code == 0
    assert pulumi.calls == [LOOKED_AT_END, ["destroy", "--stack", "dev", *passed]]
    assert "dev: `what is deployed` → `nothing`" in done.stdout
    assert "tokens" in done.stdout


@pytest.mark.parametrize(("answer", "destroyed"), [('{"duration": 1}', True), ("no JSON", False), ("[]", False)])
def test_an_end_without_steps_is_the_end_of_nothing(pulumi: Fake, root: Path, answer: str, destroyed: bool) -> None:
    pulumi.answer(destroy_json=(0, answer))
    assert (call("destroy", "dev").exit_code == 0) is destroyed
    assert (["destroy", "--stack", "dev"] in pulumi.calls) is destroyed


def test_nothing_is_destroyed_whose_end_cannot_be_shown(pulumi: Fake, root: Path) -> None:
    pulumi.answer(destroy_json=(255, ""))
    assert isinstance(call("destroy", "dev", "--yes").exception, OpsError)
    assert pulumi.calls == [LOOKED_AT_END]


def test_the_policy_packs_environment_is_made_once(pulumi: Fake, root: Path) -> None:
    (root / "infra" / "policies" / ".venv").rmdir()
    assert call("up", "dev").exit_code == 0
    assert pulumi.calls == [PLANNED, ["install"], APPLIED]
    assert root / "infra" / "policies" in pulumi.directories


def test_a_pack_that_cannot_be_installed_stops_the_deployment(pulumi: Fake, root: Path) -> None:
    (root / "infra" / "policies" / ".venv").rmdir()
    pulumi.answer(preview_json=(0, preview()), install=(3, ""))
    done = call("up", "dev")
    assert "'pulumi install' in infra/policies ended with status 3" in str(done.exception)
    assert [each[0] for each in pulumi.calls] == ["preview", "install"]


def test_a_failed_preview_is_told_in_one_line_and_nothing_is_deployed(pulumi: Fake, root: Path) -> None:
    message = "<{%reset%}>modelkeep:fleet.min is missing;\n add it<{%reset%}>"
    failed = json.dumps({"steps": [], "diagnostics": [{"severity": "error", "message": message}]})
    pulumi.answer(preview_json=(255, failed))
    done = call("up", "dev")
    assert str(done.exception) == (
        "the preview of stack dev ended with status 255: modelkeep:fleet.min is missing; add it"
    )
    assert pulumi.calls == [PLANNED]


def test_a_preview_that_fails_before_its_document_refers_to_what_was_said(pulumi: Fake, root: Path) -> None:
    pulumi.answer(preview_json=(255, ""))
    assert str(call("plan", "dev").exception) == (
        "the preview of stack dev ended with status 255: what pulumi says is above"
    )


def test_a_failed_deployment_fails_the_command(pulumi: Fake, root: Path) -> None:
    pulumi.answer(preview_json=(0, preview()), up=(255, ""))
    done = call("up", "dev")
    assert isinstance(done.exception, OpsError)
    assert "--policy-pack infra/policies --stack dev' ended with status 255" in str(done.exception)


def test_without_the_cli_one_line_says_how_to_install_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    for command in ("plan", "up", "destroy"):
        done = call(command, "dev")
        assert isinstance(done.exception, OpsError)
        assert "https://www.pulumi.com/docs/install" in str(done.exception)
        assert "\n" not in str(done.exception)


def test_an_unknown_stack_never_reaches_the_cli(pulumi: Fake, root: Path) -> None:
    done = call("up", "prod")
    assert "stack prod is not known: Pulumi.prod.yaml does not exist; stacks there are: dev" in str(done.exception)
    assert pulumi.calls == []


def test_the_cli_has_the_callers_terminal(pulumi: Fake, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pulumi.answer(up=(0, "the engine's own words"))
    run(find_pulumi("dev", root=root), ["up"], root=root)
    assert "the engine's own words" in capfd.readouterr().out


SLOW = """\
#!/bin/sh
trap 'echo cancelled > {directory}/ended; exit 0' INT
echo $$ > {directory}/started
while :; do sleep 0.05; done
"""


def test_an_interrupted_deployment_ends_in_its_own_way(tmp_path: Path) -> None:
    program = tmp_path / "pulumi"
    program.write_text(SLOW.format(directory=tmp_path), encoding="utf-8")
    program.chmod(0o700)

    def stop() -> None:
        while not (tmp_path / "started").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Interrupted), interruptible():
        run(str(program), ["up"], root=tmp_path)
    stopper.join()
    assert (tmp_path / "ended").read_text(encoding="utf-8") == "cancelled\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "started").read_text(encoding="utf-8")), 0)


@pytest.mark.parametrize("target", ["plan", "deploy", "destroy"])
def test_make_needs_a_stack(target: str) -> None:
    done = make(target)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"name the stack, as in: make {target} STACK=dev"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["plan", "STACK=dev"], "deploy plan dev"),
        (["deploy", "STACK=dev"], "deploy up dev"),
        (["deploy", "STACK=dev", "YES=1"], "deploy up dev --yes"),
        (["destroy", "STACK=prod", "YES=1"], "deploy destroy prod --yes"),
    ],
)
def test_make_calls_the_command(tmp_path: Path, arguments: list[str], expected: str) -> None:
    recorder = tmp_path / "modelkeep"
    recorder.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    recorder.chmod(0o700)
    stamp = tmp_path / "installed"
    stamp.touch()
    done = make(*arguments, f"BIN={tmp_path}", f"STAMP={stamp}", "--old-file=pyproject.toml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in os.environ.keys() - {"STACK", "YES", "MAKEFLAGS"}}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(
        command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
