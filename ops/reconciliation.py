"""Whether usage records and budget counters agree to the token, and why they may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow.compute as pc
from botocore.exceptions import BotoCoreError, ClientError

from ops.errors import OpsError
from ops.usage_month import Month
from ops.usage_records import Records

_RESERVATION = "r_"
# What may lie behind a difference, as model_image/budget_table.py and usage.py have it.
_NOT_RECORDED = (
    "a server died after it had settled and before it had sent the record",
    "requests were under way at the month's end: their records are in the month after",
)
_NOT_COUNTED = (
    "requests were under way when the month began: they are counted in the month before",
    "requests were served while the table did not answer (api.budget_failure: open), or had no limit",
    "requests ended after their reservations had expired: they are among what stays counted for servers that died",
)


@dataclass(frozen=True)
class Counter:
    """A consumer's row in the budgets table, in tokens.

    `used` is all that is committed. Of that `open` is reserved for requests under way, `expired` reserved by servers
    that have died and not forgotten yet, `lost` what was forgotten so. model_image/budget_table.py writes it.
    """

    used: int
    open: int
    expired: int
    lost: int

    @property
    def settled(self) -> int:
        """What was settled for requests that are over."""
        return self.used - self.open - self.expired - self.lost


@dataclass(frozen=True)
class Balance:
    """What a consumer's records say and what the counter says; without a row in the table there is no counter."""

    consumer: str
    recorded: int
    counter: Counter | None

    @property
    def difference(self) -> int:
        """Tokens that were counted and are in no record; below 0, those that were recorded and not counted."""
        return (0 if self.counter is None else self.counter.settled) - self.recorded

    def notes(self, *, unreadable: int, is_over: bool) -> list[str]:
        """What explains a difference, or may; and what a counter holds beside what was settled."""
        notes = [] if self.counter is None else list(_held(self.counter))
        if self.difference > 0:
            late = [] if is_over else ["records are under way for some minutes: look again later"]
            lost = [f"{unreadable} files of records could not be converted (usage-errors/)"] if unreadable else []
            return [*notes, *late, *lost, *_NOT_RECORDED]
        if self.difference < 0:
            return [*notes, *(_NOT_COUNTED if self.counter else ["no counter: who has no limit is not counted"])]
        return notes

    def public(self, *, unreadable: int, is_over: bool) -> dict[str, Any]:
        """For JSON."""
        counter = self.counter
        return {
            "consumer": self.consumer,
            "recorded": self.recorded,
            "counted": None if counter is None else counter.settled,
            "open": 0 if counter is None else counter.open,
            "lost": 0 if counter is None else counter.lost + counter.expired,
            "difference": self.difference,
            "notes": self.notes(unreadable=unreadable, is_over=is_over),
        }


def _held(counter: Counter) -> list[str]:
    texts = (
        (counter.open, "reserved for requests under way"),
        (counter.expired + counter.lost, "stay counted for servers that died, since nobody knows what was delivered"),
    )
    return [f"{tokens:,} tokens {text}" for tokens, text in texts if tokens]


def read_counters(dynamodb: Any, *, table: str, month: Month, now: datetime) -> dict[str, Counter]:
    """The month's counters by consumer; raises OpsError where the table cannot be read."""
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=table,
        FilterExpression="#month = :month",
        ExpressionAttributeNames={"#month": "month"},
        ExpressionAttributeValues={":month": {"S": str(month)}},
        ConsistentRead=True,
    )
    try:
        return {item["consumer"]["S"]: _counter(item, now=now) for page in pages for item in page["Items"]}
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise OpsError(
            f"table {table} cannot be read: DynamoDB answered {code}; check the table and your rights"
        ) from error
    except BotoCoreError as error:
        kind = type(error).__name__
        raise OpsError(f"table {table} cannot be read ({kind}); check the endpoint and the credentials") from error


def balances(records: Records, counters: Mapping[str, Counter], *, consumer: str | None = None) -> list[Balance]:
    """Each consumer's balance, by name; of one consumer if one is named."""
    recorded = _recorded(records)
    names = sorted({*recorded, *counters}) if consumer is None else [consumer]
    return [Balance(name, recorded=recorded.get(name, 0), counter=counters.get(name)) for name in names]


def _recorded(records: Records) -> dict[str, int]:
    table = records.table
    tokens = pc.add(pc.fill_null(table["prompt_tokens"], 0), pc.fill_null(table["completion_tokens"], 0))
    table = table.append_column("tokens", tokens)
    sums = table.group_by(["consumer"]).aggregate([("tokens", "sum")])
    return {each["consumer"] or "": int(each["tokens_sum"]) for each in sums.to_pylist()}


def _counter(item: Mapping[str, Any], *, now: datetime) -> Counter:
    reservations = [value["M"] for name, value in item.items() if name.startswith(_RESERVATION)]
    alive = sum(int(each["n"]["N"]) for each in reservations if float(each["until"]["N"]) >= now.timestamp())
    return Counter(
        used=int(item.get("used_month", {}).get("N", 0)),
        open=alive,
        expired=sum(int(each["n"]["N"]) for each in reservations) - alive,
        lost=int(item.get("lost_month", {}).get("N", 0)),
    )
