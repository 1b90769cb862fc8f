"""Usage as it is billed: every request leaves a record, and records, servers and budgets say the same to the token."""

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.layout import find_layout
from local.stack import read_status
from ops.usage_month import Month
from ops.usage_records import Records
from tests.end_to_end.conftest import RunningStack
from tests.end_to_end.usage_load import Counted, Load, client_of, counted, records_of

CONSUMER = "usage-test"
LOAD_SECONDS = 8.0


class Aftermath:
    """What a mixed load left behind."""

    def __init__(self, *, load: Load, servers: Counted, records: Records) -> None:
        self.load, self.servers, self.records = load, servers, records

    def tokens(self, column: str) -> Counter[str]:
        """Tokens of the records by model."""
        found: Counter[str] = Counter()
        table = self.records.table
        for model, tokens in zip(table["model"].to_pylist(), table[column].to_pylist(), strict=True):
            found[model] += tokens
        return +found


@pytest.fixture(scope="module")
def month() -> Month:
    return Month.parse(f"{datetime.now(UTC):%Y-%m}")


@pytest.fixture(scope="module")
def aws(stack: RunningStack) -> Any:
    """Hands out clients of the stack's emulators."""
    status, environment = read_status(find_layout(stack.sandbox.environment), "local"), stack.environment
    return lambda service: client_of(status, environment, service)


@pytest.fixture(scope="module")
def outputs(stack: RunningStack) -> dict[str, Any]:
    return dict(read_status(find_layout(stack.sandbox.environment), "local")["outputs"])


@pytest.fixture(scope="module")
def after(stack: RunningStack, aws: Any, outputs: dict[str, Any], month: Month) -> Aftermath:
    """A mixed load of one consumer, once its records have come."""
    made = stack.sandbox.run("keys", "create", CONSUMER, "--plan", "demo")
    assert made.returncode == 0, made.stderr
    before = counted(stack.status["instances"])
    load = Load(stack.api_url, made.stdout.strip(), clients=6, seconds=LOAD_SECONDS)
    load.run()
    deadline = time.monotonic() + 10
    servers = counted(stack.status["instances"]).since(before)
    while time.monotonic() < deadline:  # a client that left is noticed a moment later
        time.sleep(0.5)
        now = counted(stack.status["instances"]).since(before)
        if now == servers:
            break
        servers = now
    records = records_of(
        aws("s3"), bucket=outputs["results_bucket"], month=month, consumer=CONSUMER, until=servers.requests, seconds=15
    )
    return Aftermath(load=load, servers=servers, records=records)


def test_usage_records_of_a_mixed_load_add_up_to_the_servers_own_counters_exactly(after: Aftermath) -> None:
    assert {200, 400} <= set(after.load.statuses)
    assert sum(after.load.statuses.values()) > 50
    assert after.tokens("prompt_tokens") == +after.servers.prompt
    assert after.tokens("completion_tokens") == +after.servers.completion
    assert after.records.table.num_rows == after.servers.requests
    assert len(set(after.records.table["request_id"].to_pylist())) == after.records.table.num_rows
    assert after.records.unreadable == 0


def test_records_and_budget_counters_agree_to_the_token(stack: RunningStack, after: Aftermath, month: Month) -> None:
    arguments = ("keys", "reconcile", "--month", str(month), "--consumer", CONSUMER)
    done = stack.sandbox.run(*arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (balance,) = json.loads(done.stdout)["consumers"]
    everything = sum(after.tokens("prompt_tokens").values()) + sum(after.tokens("completion_tokens").values())
    assert balance["recorded"] == balance["counted"] == everything
    assert balance["open"] == balance["lost"] == 0


def test_a_counter_that_a_record_is_missing_for_is_named(
    stack: RunningStack, after: Aftermath, aws: Any, outputs: dict[str, Any], month: Month
) -> None:
    """As if a record had been lost: the counter knows of 123 tokens more."""
    with more_tokens(aws, outputs, month, tokens=123):
        done = stack.sandbox.run("keys", "reconcile", "--month", str(month), "--consumer", CONSUMER)
    assert done.returncode == 1
    assert f"differ: {CONSUMER} by +123 tokens" in done.stderr
    assert "a server died" in done.stderr


@contextmanager
def more_tokens(aws: Any, outputs: dict[str, Any], month: Month, *, tokens: int) -> Iterator[None]:
    """The consumer's counter with some tokens more, for as long as the context lasts."""
    key = {"consumer": {"S": CONSUMER}, "month": {"S": str(month)}}

    def add(number: int) -> None:
        aws("dynamodb").update_item(
            TableName=outputs["budgets_table"],
            Key=key,
            UpdateExpression="ADD used_month :n",
            ExpressionAttributeValues={":n": {"N": str(number)}},
        )

    add(tokens)
    try:
        yield
    finally:
        add(-tokens)


def test_the_command_says_it_as_lines_json_csv_and_a_page(
    stack: RunningStack, after: Aftermath, month: Month, tmp_path: Path
) -> None:
    page = tmp_path / "usage.html"
    arguments = ("keys", "usage", "--month", str(month), "--consumer", CONSUMER)
    as_json = stack.sandbox.run(*arguments, "--json", "--html", str(page))
    as_csv = stack.sandbox.run(*arguments, "--csv")
    assert as_json.returncode == as_csv.returncode == 0, as_json.stderr + as_csv.stderr
    told = json.loads(as_json.stdout)["total"]
    assert told["prompt_tokens"] == sum(after.tokens("prompt_tokens").values())
    # The plan's prices stand in Pulumi.local.yaml: 0.5 and 1.5 dollars per million.
    assert float(told["usd"]) == pytest.approx(
        (told["prompt_tokens"] * 0.5 + told["completion_tokens"] * 1.5) / 1e6, abs=1e-6
    )
    rows = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    assert sum(int(row["requests"]) for row in rows) == told["requests"] == after.records.table.num_rows
    assert CONSUMER in page.read_text(encoding="utf-8")


@pytest.fixture
def inbox(aws: Any, outputs: dict[str, Any]) -> Iterator[str]:
    """A queue that gets what is told of one consumer, as a contact's subscription would."""
    sqs, sns = aws("sqs"), aws("sns")
    url = sqs.create_queue(QueueName="inbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    takes = {"Effect": "Allow", "Action": "sqs:SendMessage", "Principal": {"Service": "sns.amazonaws.com"}}
    policy = json.dumps({"Statement": [{**takes, "Resource": arn}]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    subscription = sns.subscribe(
        TopicArn=outputs["alerts_topic"],
        Protocol="sqs",
        Endpoint=arn,
        Attributes={"FilterPolicy": json.dumps({"consumer": ["alerted"]})},
        ReturnSubscriptionArn=True,
    )["SubscriptionArn"]
    yield url
    sns.unsubscribe(SubscriptionArn=subscription)
    sqs.delete_queue(QueueUrl=url)


def test_the_end_of_a_budget_is_told_once(aws: Any, outputs: dict[str, Any], month: Month, inbox: str) -> None:
    table, client, day = outputs["budgets_table"], aws("dynamodb"), f"{datetime.now(UTC):%Y-%m-%d}"
    for used in (700, 810, 830, 1000, 1000):
        row = {"consumer": {"S": "alerted"}, "month": {"S": str(month)}, "today": {"S": day}}
        numbers = {"used_month": used, "used_day": used, "limit_day": 1000}
        client.put_item(TableName=table, Item=row | {name: {"N": str(value)} for name, value in numbers.items()})
    messages: list[dict[str, Any]] = []
    deadline = time.monotonic() + 20
    while len(messages) < 2 and time.monotonic() < deadline:
        got = aws("sqs").receive_message(QueueUrl=inbox, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        messages += [json.loads(each["Body"]) for each in got.get("Messages", [])]
    client.delete_item(TableName=table, Key={"consumer": {"S": "alerted"}, "month": {"S": str(month)}})
    assert sorted(each["MessageAttributes"]["threshold"]["Value"] for each in messages) == ["100", "80"]
    assert all("alerted" in each["Message"] and "mk_" not in each["Message"] for each in messages)
