"""`local up` on a stack that is up applies what changed, restarts nothing else, and goes on after an end half-way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.journal import journal_file
from tests.end_to_end.conftest import RunningStack, bring_up, make_sandbox, take_down, write_stack_file

CLIENT = "127.0.0.78"
EXTRA = {"rate_per_second": 5, "burst": 9, "requests_per_day": 100, "tokens_per_day": 100_000}
# A ready image, so that no change of this checkout's files is one of the stack.
FIRST = {"fleet.min": 1, "fleet.image": f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/modelkeep@sha256:{'1' * 64}"}
SECOND = {**FIRST, "firewall.block_cidrs": [f"{CLIENT}/32"], "plans.demo.requests_per_day": 99_999}
THIRD = {**SECOND, "plans.extra": EXTRA, "fleet.target_inflight": 9, "audit.retention_days": 14}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, tiny_artefacts: Path) -> Iterator[RunningStack]:
    sandbox = make_sandbox(tmp_path_factory.mktemp("second") / "home", tiny_artefacts)
    try:
        yield bring_up(sandbox, changes=FIRST)
    finally:
        take_down(sandbox)


def _options(stack: RunningStack, changes: Mapping[str, Any]) -> list[str]:
    home = stack.sandbox.home
    stack_file = write_stack_file(home / "Pulumi.local.yaml", models=home / "models", changes=changes)
    return stack.sandbox.files(stack_file)


def _up(stack: RunningStack, changes: Mapping[str, Any]) -> str:
    done = stack.sandbox.run("local", "up", *_options(stack, changes))
    assert done.returncode == 0, done.stderr
    return done.stderr


def _plan(stack: RunningStack, changes: Mapping[str, Any]) -> dict[str, list[str]]:
    config = _options(stack, changes)[:2]
    done = stack.sandbox.run("local", "preview", "--stack", "local", "--plan", "--json", *config)
    assert done.returncode == 0, done.stderr
    steps = [step for step in json.loads(done.stdout)["plan"] if step["operation"] != "same"]
    return {step["urn"].rpartition("::")[2]: [step["operation"], *step["changed"]] for step in steps}


def _status(stack: RunningStack, *, address: str | None = None) -> int:
    headers = {"authorization": f"Bearer {stack.token()}"}
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=60) as client:
        return client.get(f"{stack.api_url}/models", headers=headers).status_code


def test_a_changed_setting_is_applied_as_planned_and_the_servers_go_on(running: RunningStack) -> None:
    assert _status(running, address=CLIENT) == 200
    assert _plan(running, SECOND) == {
        "firewall-blocked": ["update", "addresses"],
        "gateway-stage-plan-demo": ["update", "quotaSettings"],
    }

    said = _up(running, SECOND)

    assert "updated IpSet firewall-blocked: addresses" in said
    assert "0 created, 2 updated, 0 replaced, 0 deleted" in said
    now = running.refreshed()
    assert now["instances"] == running.status["instances"]
    assert now["endpoints"] == running.status["endpoints"]
    deadline = time.monotonic() + 10  # the gateway looks every few seconds, as AWS takes some
    while _status(running, address=CLIENT) != 403 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert (_status(running, address=CLIENT), _status(running)) == (403, 200)


def test_after_an_end_half_way_the_next_up_goes_on_and_replaces_the_servers(running: RunningStack) -> None:
    journal = journal_file(running.sandbox.home / "stacks" / "local" / "state.json")
    killed = running.sandbox.start("local", "up", *_options(running, THIRD))
    while not journal.exists():
        assert killed.poll() is None, killed.communicate()[1]
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert journal.exists()
    assert _status(running) == 200

    _up(running, THIRD)

    assert not journal.exists()
    now = running.refreshed()
    (old,), (new,) = running.status["instances"], now["instances"]
    assert (new["state"], new["id"] == old["id"]) == ("ready", False)
    assert set(now["tokens"]) == {*running.status["tokens"], "extra"}
    headers = {"authorization": f"Bearer {now['tokens']['extra']}"}
    assert httpx.get(f"{running.api_url}/models", headers=headers, timeout=60).status_code == 200
