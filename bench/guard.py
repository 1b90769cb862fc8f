"""
What the guard adds to a request on the local stack: gateway, firewall, cached authorizer and token budget together.

The same small request goes in turn straight to a server, as of nobody, and through the gateway with a token whose plan
has token limits. Models are tiny: what is measured is the way. Writes bench/results/guard.md and .json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import machine, report
from bench.harness.bars import Bar
from bench.harness.paths import RESULTS
from bench.harness.statistics import percentile
from tests.end_to_end.conftest import RunningStack, bring_up, make_sandbox, make_tiny_artefacts, take_down

BODY = {"model": "tiny-gpt2", "prompt": "The quick brown fox", "max_tokens": 16, "temperature": 0}
BAR_MS, WARM_UP = 10.0, 20
DIRECT, GUARDED = "straight to a server", "through the gateway"
CHANGES = {
    "plans.demo.rate_per_second": 1000,
    "plans.demo.burst": 2000,
    "plans.demo.requests_per_day": 10_000_000,
    "plans.demo.tokens_per_day": 1_000_000_000,
    "firewall.requests_per_5_minutes": 2_000_000,
}


class Way:
    """One kept connection, and the request that goes over it."""

    def __init__(self, url: str, *, path: str, headers: dict[str, str], context: ssl.SSLContext | None) -> None:
        place = urlsplit(url)
        host, port = str(place.hostname), place.port
        self._path = path
        self._headers = {
            "content-type": "application/json",
            "user-agent": "bench",
            **headers,
        }  # the firewall asks who it is
        self.connection: http.client.HTTPConnection = (
            http.client.HTTPConnection(host, port, timeout=60)
            if context is None
            else http.client.HTTPSConnection(host, port, timeout=60, context=context)
        )

    def post(self, body: bytes) -> float:
        """Seconds until the whole answer is there."""
        began = time.monotonic()
        self.connection.request("POST", self._path, body, self._headers)
        answer = self.connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        return time.monotonic() - began


def measure(stack: RunningStack, *, requests: int) -> dict[str, list[float]]:
    """Seconds of so many answers each way, in turn."""
    token = stack.sandbox.run("keys", "create", "bench", "--plan", "demo").stdout.strip()
    body = json.dumps(BODY).encode()
    # A server's certificate is its own, made when it starts; the balancer does not verify it either.
    context = ssl._create_unverified_context()  # noqa: S323
    instance = stack.status["instances"][0]["url"]
    api = urlsplit(stack.api_url)
    ways = {
        DIRECT: Way(instance, path="/v1/completions", headers={}, context=context),
        GUARDED: Way(
            stack.api_url,
            path=f"{api.path}/completions",
            headers={"Authorization": f"Bearer {token}"},
            context=None if api.scheme == "http" else context,
        ),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(requests + WARM_UP):
        for name, way in list(ways.items())[:: 1 if number % 2 else -1]:
            seconds = way.post(body)
            if number >= WARM_UP:
                took[name].append(seconds)
    for way in ways.values():
        way.connection.close()
    return took


def write(took: dict[str, list[float]], *, out: Path, load: float) -> None:
    """The report."""
    shares = {
        name: {each: percentile(values, each / 100) * 1e3 for each in (50, 90, 99)} for name, values in took.items()
    }
    added = shares[GUARDED][50] - shares[DIRECT][50]
    bars = [Bar("what the whole guard adds to a request, p50 ms", BAR_MS, added, at_most=True)]
    rows = [[name, *(report.number(shares[name][each], 1) for each in (50, 90, 99))] for name in took]
    described = machine.describe() | {"other load": f"{load:.1f} running processes at the start"}
    text = "\n\n".join(
        [
            "# The guard: gateway, firewall, cached authorizer, token budget",
            report.bars_table(bars),
            f"One client, {len(took[DIRECT])} requests each way, in turn:",
            report.table(["way", "p50 ms", "p90", "p99"], rows),
            report.facts_section("Machine", described),
        ]
    )
    value: dict[str, Any] = {"machine": described, "bars": report.verdicts(bars), "requests": shares}
    report.write(out, "guard", text, value)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what the guard adds to a request; two minutes.")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="guard-") as scratch:
        tiny = Path(scratch) / "tiny"
        tiny.mkdir()
        sandbox = make_sandbox(Path(scratch) / "home", make_tiny_artefacts(tiny))
        try:
            took = measure(bring_up(sandbox, changes=CHANGES), requests=options.requests)
        finally:
            take_down(sandbox)
    write(took, out=options.out, load=load)


if __name__ == "__main__":
    main()
