"""A table of budgets for tests: on moto, one call at a time, with a clock that stands still."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.exceptions import ConnectTimeoutError
from moto import mock_aws

TABLE = "budgets"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
LIFETIME = 60.0


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test in an event loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Serial:
    """One call at a time, as DynamoDB does for one row; moto by itself lets two threads into one update."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()
        self.calls = 0

    def update_item(self, **arguments: Any) -> Any:
        with self._lock:
            self.calls += 1
            return self._client.update_item(**arguments)

    def get_item(self, **arguments: Any) -> Any:
        with self._lock:
            self.calls += 1
            return self._client.get_item(**arguments)

    def row(self, consumer: str, month: str = "2026-11") -> dict[str, Any]:
        """What stands in the table, without types but for the reservations."""
        key = {"consumer": {"S": consumer}, "month": {"S": month}}
        found = self._client.get_item(TableName=TABLE, Key=key).get("Item", {})
        return {name: next(iter(value.values())) for name, value in found.items()}


class Mortal:
    """The way of one server to the table; once it is `dead` nothing comes through."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.dead = False

    def update_item(self, **arguments: Any) -> Any:
        self._live()
        return self._table.update_item(**arguments)

    def get_item(self, **arguments: Any) -> Any:
        self._live()
        return self._table.get_item(**arguments)

    def _live(self) -> None:
        if self.dead:
            raise ConnectTimeoutError(endpoint_url="https://dynamodb")


@contextmanager
def a_table() -> Iterator[Serial]:
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-east-1")
        create(client)
        yield Serial(client)


def create(client: Any) -> None:
    """The table as the stack has it."""
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "consumer", "KeyType": "HASH"}, {"AttributeName": "month", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("consumer", "month")],
        BillingMode="PAY_PER_REQUEST",
    )


def open_reservations(row: dict[str, Any]) -> list[str]:
    return [name for name in row if name.startswith("r_")]
