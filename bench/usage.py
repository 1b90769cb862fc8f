"""
Usage that can be billed: five minutes of mixed load on the local stack, and whether all books agree afterwards.

The servers' own counters, the records in the results bucket and the counters of the budgets table are compared, token
by token. Writes bench/results/usage.md and .json; exit 1 where they differ. Models are tiny: what is measured is books.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import machine
from bench.harness.paths import RESULTS, SCRATCH
from local.layout import find_layout
from local.stack import read_status
from ops.usage_month import Month
from tests.end_to_end.conftest import RunningStack, bring_up, make_sandbox, make_tiny_artefacts, take_down
from tests.end_to_end.usage_load import Counted, Load, client_of, counted, records_of

CONSUMER = "bench"
# What would refuse requests before they come to a server.
CHANGES = {
    "plans.demo.rate_per_second": 1000,
    "plans.demo.burst": 2000,
    "plans.demo.requests_per_day": 10_000_000,
    "plans.demo.tokens_per_day": 1_000_000_000,
    "firewall.requests_per_5_minutes": 2_000_000,
}
QUIET_SECONDS, LONGEST_WAIT = 3.0, 60.0


@dataclass(frozen=True)
class Books:
    """One row of the result: what each book says of prompt tokens, completion tokens and requests."""

    name: str
    prompt: int
    completion: int
    requests: int | None


def settled(stack: RunningStack, before: Counted) -> Counted:
    """What the servers have counted since, once nothing is added any more."""
    found = counted(stack.status["instances"]).since(before)
    until = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < until:
        time.sleep(QUIET_SECONDS)
        now = counted(stack.status["instances"]).since(before)
        if now == found:
            break
        found = now
    return found


def measure(stack: RunningStack, *, seconds: float, clients: int) -> dict[str, Any]:
    """Load, wait, and read all three books."""
    status, environment = read_status(find_layout(stack.sandbox.environment), "local"), stack.environment
    token = stack.sandbox.run("keys", "create", CONSUMER, "--plan", "demo").stdout.strip()
    month = Month.parse(f"{datetime.now(UTC):%Y-%m}")
    before = counted(stack.status["instances"])
    load = Load(stack.api_url, token, clients=clients, seconds=seconds)
    load.run()
    servers = settled(stack, before)
    began = time.monotonic()
    records = records_of(
        client_of(status, environment, "s3"),
        bucket=status["outputs"]["results_bucket"],
        month=month,
        consumer=CONSUMER,
        until=servers.requests,
        seconds=LONGEST_WAIT,
    )
    waited = time.monotonic() - began
    done = stack.sandbox.run("keys", "reconcile", "--month", str(month), "--consumer", CONSUMER, "--json")
    (balance,) = json.loads(done.stdout)["consumers"]
    table = records.table
    books = [
        Books("servers' counters", sum(servers.prompt.values()), sum(servers.completion.values()), servers.requests),
        Books("usage records", sum(table["prompt_tokens"].to_pylist()), sum(table["completion_tokens"].to_pylist()),
              table.num_rows),
    ]  # fmt: skip
    return {
        "seconds": seconds,
        "clients": clients,
        "statuses": dict(sorted(load.statuses.items())),
        "books": [vars(each) for each in books],
        "by_model": {
            "servers": {"prompt": dict(servers.prompt), "completion": dict(servers.completion)},
            "records": _by_model(table),
        },
        "budget_tokens": balance["counted"],
        "reserved_or_lost": balance["open"] + balance["lost"],
        "waited_for_records_seconds": round(waited, 1),
        "agree": _agree(books, balance, servers, table),
        "machine": machine.describe(),
    }


def _by_model(table: Any) -> dict[str, dict[str, int]]:
    sums = table.group_by(["model"]).aggregate([("prompt_tokens", "sum"), ("completion_tokens", "sum")]).to_pylist()
    return {
        kind: {each["model"]: each[f"{kind}_tokens_sum"] for each in sums if each[f"{kind}_tokens_sum"]}
        for kind in ("prompt", "completion")
    }


def _agree(books: list[Books], balance: dict[str, Any], servers: Counted, table: Any) -> bool:
    of_servers, of_records = books
    by_model = _by_model(table)
    return (
        (of_servers.prompt, of_servers.completion, of_servers.requests)
        == (of_records.prompt, of_records.completion, of_records.requests)
        and by_model == {"prompt": dict(+servers.prompt), "completion": dict(+servers.completion)}
        and balance["difference"] == 0
        and balance["counted"] == of_records.prompt + of_records.completion
    )


def markdown(result: dict[str, Any]) -> str:
    """The result for people."""
    answered = ", ".join(f"{count:,} of {status}" for status, count in result["statuses"].items())
    rows = "\n".join(
        f"| {each['name']} | {each['requests']:,} | {each['prompt']:,} | {each['completion']:,} |"
        for each in result["books"]
    )
    verdict = "**All agree to the token.**" if result["agree"] else "**They differ.**"
    return (
        f"# Usage\n\n{result['seconds']:g} s of mixed load by {result['clients']} clients on the local stack: text "
        "whole, streamed, with two choices, left by its client after the first piece, refused for its length; chat, "
        f"embeddings, sentiment, masks, keywords. Answers: {answered}.\n\n"
        "| book | requests | prompt tokens | completion tokens |\n|---|---:|---:|---:|\n"
        f"{rows}\n| budgets table | | {result['budget_tokens']:,} in all | |\n\n"
        f"{verdict} Reserved or lost: {result['reserved_or_lost']:,} tokens. The last record was in the bucket "
        f"{result['waited_for_records_seconds']:g} s after the load; in AWS Firehose gathers for five minutes.\n\n"
        f"{result['machine']['processor']}, {result['machine']['cores']} cores, Python {result['machine']['python']}.\n"
    )


def main() -> int:
    """Run it; 0 where all books agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="usage-") as scratch:
        tiny = Path(scratch) / "tiny"
        tiny.mkdir()
        sandbox = make_sandbox(Path(scratch) / "home", make_tiny_artefacts(tiny))
        try:
            stack = bring_up(sandbox, changes=CHANGES)
            result = measure(stack, seconds=options.seconds, clients=options.clients)
        finally:
            take_down(sandbox)
    where = RESULTS if options.seconds >= 300 else SCRATCH / "quick"
    where.mkdir(parents=True, exist_ok=True)
    (where / "usage.json").write_text(json.dumps(result, indent=2) + "\n")
    (where / "usage.md").write_text(markdown(result))
    print(markdown(result))
    return 0 if result["agree"] else 1


if __name__ == "__main__":
    sys.exit(main())
