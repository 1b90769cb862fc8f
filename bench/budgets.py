"""
Token budgets: what reserving and settling take against the emulated table, and what they add to a request.

First the table's calls alone, by so many requests at once, of one consumer (one row) and of as many as there are
requests. Then a server with a tiny model: the same small request in turn of a consumer with a limit and of one without.
The emulator answers one call after the other in one Python process; DynamoDB's own latency is not in these figures.
Writes bench/results/budgets.md and .json.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import machine, report
from bench.harness.bars import Bar
from bench.harness.paths import RESULTS, SCRATCH
from bench.harness.processes import free_port, serve
from bench.harness.statistics import percentile
from local.emulators import Emulators
from model_image.budgets import Budgets
from model_image.errors import Interrupted
from model_image.places import interruptible
from model_image.standing import Limits
from tests import tiny_models

TABLE, STREAM, BUCKET = "budgets", "usage", "usage"
LIMITS = Limits(day=10**12, month=10**12)
GUARD_BAR_MS = 10.0
START_SECONDS = 120
BODY = {"model": "tiny-gpt2", "prompt": "The quick brown fox", "max_tokens": 16, "temperature": 0}


def deploy(emulators: Emulators) -> None:
    """The table and the stream as the stack has them."""
    emulators.client("dynamodb").create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "consumer", "KeyType": "HASH"}, {"AttributeName": "month", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("consumer", "month")],
        BillingMode="PAY_PER_REQUEST",
    )
    emulators.client("s3").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": emulators.region}
    )
    destination = {"RoleARN": "arn:aws:iam::123456789012:role/usage", "BucketARN": f"arn:aws:s3:::{BUCKET}"}
    emulators.client("firehose").create_delivery_stream(
        DeliveryStreamName=STREAM, ExtendedS3DestinationConfiguration=destination
    )


async def pairs(client: Any, *, at_once: int, consumers: int, seconds: float) -> dict[str, float]:
    """Reservations that are settled at once, for so long; latencies in milliseconds."""
    budgets = Budgets(client, table=TABLE, lifetime=600, patience=30)
    names = [f"team-{uuid.uuid4()}" for _ in range(consumers)]
    reserving: list[float] = []
    settling: list[float] = []
    end = time.monotonic() + seconds

    async def one(name: str) -> None:
        while (began := time.monotonic()) < end:
            reservation, _ = await budgets.reserve(name, LIMITS, 500)
            between = time.monotonic()
            await budgets.settle(reservation, used=300)
            reserving.append(between - began)
            settling.append(time.monotonic() - between)

    began = time.monotonic()
    await asyncio.gather(*(one(names[number % consumers]) for number in range(at_once)))
    took = time.monotonic() - began
    await budgets.close(seconds=10)
    return {
        "pairs_per_second": len(reserving) / took,
        **{
            f"{name}_{percent}": percentile(values, percent / 100) * 1e3
            for name, values in (("reserve", reserving), ("settle", settling))
            for percent in (50, 99)
        },
    }


def post(connection: http.client.HTTPConnection, headers: dict[str, str]) -> float:
    """Seconds of one answer."""
    began = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps(BODY), {"content-type": "application/json", **headers})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status
    return time.monotonic() - began


def requests(port: int, *, count: int) -> dict[str, list[float]]:
    """So many answers of each kind, in turn."""
    name = f"team-{uuid.uuid4()}"
    kinds = {
        "without limits": {"x-modelkeep-consumer": name},
        "with limits": {"x-modelkeep-consumer": name, "x-modelkeep-tokens-per-day": str(10**12)},
    }
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for number in range(count + 10):
        for kind, headers in list(kinds.items())[:: 1 if number % 2 else -1]:
            seconds = post(connection, headers)
            if number >= 10:  # the first ones warm both ways up
                took[kind].append(seconds)
    connection.close()
    return took


@contextmanager
def a_server(emulators: Emulators, scratch: Path) -> Iterator[int]:
    """The port of a server with a tiny model that keeps budgets and records usage."""
    directory = tiny_models.gpt2(scratch / "models", ends=False)
    port = free_port()
    environment = {
        **emulators.environment(),
        "MODELKEEP_MODELS": json.dumps(tiny_models.settings_models([directory])),
        "MODELKEEP_CACHE_DIR": str(scratch / "models"),
        "MODELKEEP_PORT": str(port),
        "MODELKEEP_THREADS": "1",
        "MODELKEEP_BUDGETS_TABLE": TABLE,
        "MODELKEEP_USAGE_STREAM": STREAM,
    }
    command = [sys.executable, "-m", "model_image", "serve"]
    with serve("budgets", command, port=port, core=0, environment=environment) as server:
        server.wait_until_ready("/ready", seconds=START_SECONDS)
        yield port


def calls_table(figures: Sequence[tuple[str, dict[str, float]]]) -> str:
    measures = ("reserve_50", "reserve_99", "settle_50", "settle_99")
    head = ["requests at once", "pairs/s", "reserve p50 ms", "p99", "settle p50 ms", "p99"]
    rows = [
        [name, report.number(found["pairs_per_second"]), *(report.number(found[each], 1) for each in measures)]
        for name, found in figures
    ]
    return report.table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures token budgets against the emulated table; two minutes.")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    SCRATCH.mkdir(exist_ok=True)
    load = os.getloadavg()[0]
    with (
        interruptible(),
        tempfile.TemporaryDirectory(dir=SCRATCH) as scratch,
        Emulators(region="eu-west-1", log_dir=Path(scratch) / "log") as emulators,
    ):
        deploy(emulators)
        client = emulators.client("dynamodb")
        loads = [(1, 1), (8, 1), (8, 8), (64, 1), (64, 64)]
        figures = [
            (
                f"{at_once}, of {consumers} consumer{'s' if consumers > 1 else ''}",
                asyncio.run(pairs(client, at_once=at_once, consumers=consumers, seconds=options.seconds)),
            )
            for at_once, consumers in loads
        ]
        with a_server(emulators, Path(scratch)) as port:
            took = requests(port, count=options.requests)
    described = machine.describe() | {"other load": f"{load:.1f} running processes at the start"}
    shares = {kind: {each: percentile(took[kind], each / 100) * 1e3 for each in (50, 90, 99)} for kind in took}
    added = shares["with limits"][50] - shares["without limits"][50]
    bars = [Bar("what a limit adds to a request, p50 ms", GUARD_BAR_MS, added, at_most=True)]
    rows = [[kind, *(report.number(shares[kind][each], 1) for each in (50, 90, 99))] for kind in took]
    text = "\n\n".join(
        [
            "# Token budgets",
            report.bars_table(bars),
            f"One client, {options.requests} requests of 16 tokens each way, in turn:",
            report.table(["request", "p50 ms", "p90", "p99"], rows),
            "The table's calls alone:",
            calls_table(figures),
            report.facts_section("Machine", described),
        ]
    )
    value = {
        "machine": described, "bars": report.verdicts(bars), "table": dict(figures), "requests": shares,
    }  # fmt: skip
    report.write(options.out, "budgets", text, value)


if __name__ == "__main__":
    try:
        main()
    except Interrupted as error:
        sys.exit(error.exit_code)
