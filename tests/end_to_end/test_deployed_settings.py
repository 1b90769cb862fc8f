"""What the gateway enforces is what was deployed: other values in the stack file, other answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.conftest import RunningStack, bring_up, make_sandbox, take_down

CLIENT = "127.0.0.77"


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, tiny_artefacts: Path) -> Iterator[RunningStack]:
    """A stack whose plan `demo` lets through three at once and then one a second, and that blocks CLIENT."""
    sandbox = make_sandbox(tmp_path_factory.mktemp("changed") / "home", tiny_artefacts)
    changes = {
        "plans.demo.rate_per_second": 1,
        "plans.demo.burst": 3,
        "firewall.block_cidrs": [f"{CLIENT}/32"],
        "fleet.min": 1,
    }
    try:
        yield bring_up(sandbox, changes=changes)
    finally:
        take_down(sandbox)


def _statuses(stack: RunningStack, *, count: int, address: str | None = None) -> list[int]:
    headers = {"authorization": f"Bearer {stack.token()}"}
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=60) as client:
        return [client.get(f"{stack.api_url}/models", headers=headers).status_code for _ in range(count)]


def test_a_changed_rate_is_enforced(stack: RunningStack, changed: RunningStack) -> None:
    started = time.monotonic()
    statuses = _statuses(changed, count=10)
    allowed = 3 + 1 * (time.monotonic() - started) + 1
    assert 429 in statuses
    assert 3 <= statuses.count(200) <= allowed
    assert _statuses(stack, count=10) == [200] * 10


def test_a_blocked_address_is_refused(stack: RunningStack, changed: RunningStack) -> None:
    assert _statuses(changed, count=1, address=CLIENT) == [403]
    assert _statuses(stack, count=1, address=CLIENT) == [200]
    assert _statuses(stack, count=1, address="127.0.0.66") == [403]
