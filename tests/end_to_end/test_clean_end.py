"""Ctrl-C at any moment of the demo: nothing remains."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Sandbox, make_sandbox, write_stack_file

# A line of each step on standard error; the signal comes once it has been read, and a little later.
MOMENTS = [
    ("1. Environment", 0.0),
    ("1. Environment", 5.0),
    ("4. Training", 0.0),
    ("6. Fleet", 0.0),
    ("6. Fleet", 4.0),
    ("What the guard", 0.2),
    ("Ending", 0.0),
]


@pytest.mark.parametrize(("line", "later"), MOMENTS)
def test_nothing_remains_of_an_interrupted_demo(line: str, later: float, tmp_path: Path, tiny_artefacts: Path) -> None:
    sandbox = make_sandbox(tmp_path / "home", tiny_artefacts)
    stack_file = write_stack_file(
        tmp_path / "Pulumi.local.yaml", models=sandbox.home / "models", changes={"fleet.min": 1}
    )
    demo = sandbox.start("demo", *sandbox.files(stack_file))
    try:
        assert demo.stderr is not None
        for told in demo.stderr:
            if line in told:
                break
        else:
            pytest.fail(f"the demo ended before {line!r}")
        time.sleep(later)
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=90)
    finally:
        demo.kill()
    assert demo.returncode in {130, 0} if line == "Ending" else demo.returncode == 130
    deadline = time.monotonic() + 10
    while sandbox.processes() and time.monotonic() < deadline:
        time.sleep(0.1)  # what is killed still has to be collected
    assert sandbox.processes() == []


def test_the_whole_demo_on_tiny_models(tmp_path: Path, tiny_artefacts: Path) -> None:
    import json

    sandbox = make_sandbox(tmp_path / "home", tiny_artefacts)
    stack_file = write_stack_file(tmp_path / "Pulumi.local.yaml", models=sandbox.home / "models")
    done = sandbox.run("demo", "--json", *sandbox.files(stack_file))
    assert done.returncode == 0, done.stderr
    parts = json.loads(done.stdout)["parts"]
    assert [part["title"] for part in parts if part["kind"] == "step"] == [
        "environment", "data", "configuration", "training", "publishing", "fleet",
    ]  # fmt: skip
    assert {part["result"] for part in parts if part["kind"] == "refusal"} == {
        "401 invalid_api_key",
        "403 blocked_by_firewall",
        "429 rate_limit_exceeded",
        "429 quota_exceeded",
        "400 invalid_request_body",
    }
    assert sandbox.processes() == []


def test_a_killed_supervisor_leaves_nothing(tmp_path: Path, tiny_artefacts: Path) -> None:
    sandbox = Sandbox(home=make_sandbox(tmp_path / "home", tiny_artefacts).home)
    stack_file = write_stack_file(
        tmp_path / "Pulumi.local.yaml", models=sandbox.home / "models", changes={"fleet.min": 1}
    )
    demo = sandbox.start("demo", *sandbox.files(stack_file))
    assert demo.stderr is not None
    for told in demo.stderr:
        if "7. Calls" in told:
            break
    demo.kill()
    demo.communicate(timeout=30)
    deadline = time.monotonic() + 20
    while sandbox.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sandbox.processes() == []
