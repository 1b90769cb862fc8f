"""Real servers over emulated AWS: the table, the records and the servers' own counters agree to the token."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.emulators import Emulators
from tests.model_image.budget_stand import TABLE, create, open_reservations
from tests.model_image.server_process import ServerProcess, events_of, metric

BUCKET, STREAM = "usage-records", "usage"
KINDS = (
    ("gpt2", "slow", "llama", "bert_embeddings", "bert_sentiment", "bert_mlm"),
    ("gpt2", "slow"),  # whatever is asked of another model goes to the first server
)
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("completions", {"model": "tiny-gpt2", "prompt": ["The quick", "A model"], "n": 2, "max_tokens": 9}),
    ("completions", {"model": "tiny-gpt2", "prompt": "Great", "max_tokens": 12, "stream": True}),
    ("chat/completions", {"model": "tiny-chat", "messages": [{"role": "user", "content": "a"}], "max_tokens": 8}),
    ("embeddings", {"model": "tiny-embed", "input": ["a lazy dog", "a fox"]}),
    ("keywords", {"input": "a lazy dog near the river bank"}),
    ("sentiment", {"input": ["great", "terrible service"]}),
    ("fill-mask", {"model": "tiny-mlm", "input": "a lazy [MASK]"}),
    ("augment", {"model": "tiny-mlm", "input": ["a lazy dog", "the quick fox"], "n": 3}),
    ("augment", {"model": "tiny-chat", "input": "a lazy dog", "n": 2, "method": "generate"}),
    ("completions", {"model": "tiny-gpt2", "prompt": "a", "max_tokens": 5000}),  # does not fit
)


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    with Emulators(region="eu-west-1", log_dir=tmp_path_factory.mktemp("emulators") / "logs") as running:
        create(running.client("dynamodb"))
        s3 = running.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        running.client("firehose").create_delivery_stream(
            DeliveryStreamName=STREAM,
            ExtendedS3DestinationConfiguration={
                "RoleARN": "arn:aws:iam::123456789012:role/usage", "BucketARN": f"arn:aws:s3:::{BUCKET}"
            },
        )  # fmt: skip
        yield running


def row(emulators: Emulators, consumer: str) -> dict[str, Any]:
    (found,) = emulators.client("dynamodb").query(
        TableName=TABLE,
        KeyConditionExpression="consumer = :consumer",
        ExpressionAttributeValues={":consumer": {"S": consumer}},
    )["Items"]
    return {name: next(iter(value.values())) for name, value in found.items()}


def recorded(emulators: Emulators) -> list[dict[str, Any]]:
    s3 = emulators.client("s3")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    texts = [s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_a_mixed_load_adds_up(emulators: Emulators, artefacts: dict[str, Path], tmp_path: Path) -> None:
    consumer = f"team-{uuid.uuid4()}"
    headers = {"x-modelkeep-consumer": consumer, "x-modelkeep-plan": "team", "x-modelkeep-tokens-per-day": "100000"}
    settings = emulators.environment() | {
        "MODELKEEP_BUDGETS_TABLE": TABLE, "MODELKEEP_USAGE_STREAM": STREAM, "MODELKEEP_DRAIN_SECONDS": "0.2"
    }  # fmt: skip
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                ServerProcess([artefacts[kind] for kind in kinds], log=tmp_path / f"log-{len(kinds)}", **settings)
            )
            for kinds in KINDS
        ]
        threads = stack.enter_context(ThreadPoolExecutor(8))
        urls = [server.wait_ready().url for server in servers]

        def post(number: int) -> int:
            path, body = REQUESTS[number % len(REQUESTS)]
            url = urls[number % 2 if body.get("model") == "tiny-gpt2" else 0]
            answer = httpx.post(f"{url}/v1/{path}", json=body, headers=headers, timeout=60)
            assert answer.headers["x-ratelimit-limit-tokens"] == "100000"
            if body.get("stream"):
                assert events_of(answer)
            return answer.status_code

        statuses = list(threads.map(post, range(4 * len(REQUESTS) + 1)))
        assert set(statuses) == {200, 400}
        until(lambda: sum(metric(url, "usage_records_total") for url in urls) == len(statuses))
        until(lambda: not open_reservations(row(emulators, consumer)))
        counted = sum(metric(url, f"{name}_tokens_total") for url in urls for name in ("prompt", "generation"))
        assert counted == int(row(emulators, consumer)["used_month"]) == total(recorded(emulators))

        # The first server ends in the middle of a stream that its drain does not wait for, the second is killed in one.
        body = {"model": "tiny-slow", "prompt": "The", "max_tokens": 4000, "stream": True}
        streams = [
            stack.enter_context(
                httpx.stream("POST", f"{url}/v1/completions", json=body, headers=headers, timeout=60)
            ).iter_lines()
            for url in urls
        ]
        for lines in streams:
            assert next(lines)
        servers[1].process.kill()
        assert servers[0].terminate() == 0

    records = recorded(emulators)
    assert {each["consumer"] for each in records} == {consumer}
    (last,) = [each for each in records if each["code"] == "draining"]
    assert (last["status"], last["model"], last["prompt_tokens"] > 0) == (200, "tiny-slow", True)
    found = row(emulators, consumer)
    (lost,) = open_reservations(found)
    assert int(found["used_month"]) - int(found[lost]["n"]["N"]) == total(records) > counted
    requests = [event for server in servers for event in server.events() if event["event"] == "request"]
    logged = [event for event in requests if "model" in event]
    assert {each["request_id"] for each in records} == {event["request_id"] for event in logged}
    assert total(records) == total(logged)


def total(records: list[dict[str, Any]]) -> int:
    return sum(each["prompt_tokens"] + each["completion_tokens"] for each in records)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
