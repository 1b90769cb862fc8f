"""Records against counters: they agree to the token, or each difference is named with what may explain it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ops.errors import OpsError
from ops.reconciliation import Balance, Counter, balances, read_counters
from ops.usage_month import Month
from ops.usage_records import read_records
from tests.ops.usage_files import BUCKET, Bucket, record

NOVEMBER = Month.parse("2026-11")
NOW = datetime(2026, 11, 24, 21, 0, tzinfo=UTC)


class Table:
    """DynamoDB, as far as the counters are read from it."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self._rows = rows

    def get_paginator(self, operation: str) -> "Table":
        assert operation == "scan"
        return self

    def paginate(self, **wanted: Any) -> Iterator[dict[str, Any]]:
        if wanted["TableName"] != "budgets":
            raise ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": ""}}, "Scan")
        assert wanted["ConsistentRead"] is True
        month = wanted["ExpressionAttributeValues"][":month"]
        yield {"Items": [each for each in self._rows if each["month"] == month]}
        yield {"Items": []}


def row(
    consumer: str, used: int, *, month: str = "2026-11", lost: int = 0, **reserved: tuple[int, int]
) -> dict[str, Any]:
    """A row with open reservations: tokens, and the seconds from now on that they live."""
    return {
        "consumer": {"S": consumer},
        "month": {"S": month},
        "used_month": {"N": str(used)},
        **({"lost_month": {"N": str(lost)}} if lost else {}),
        **{
            f"r_{name}": {
                "M": {"n": {"N": str(tokens)}, "until": {"N": str(int(NOW.timestamp()) + alive)}, "d": {"S": "24"}}
            }
            for name, (tokens, alive) in reserved.items()
        },
    }


def compared(bucket: Bucket, *rows: dict[str, Any], consumer: str | None = None) -> list[Balance]:
    counters = read_counters(Table(*rows), table="budgets", month=NOVEMBER, now=NOW)
    return balances(read_records(bucket, bucket=BUCKET, month=NOVEMBER), counters, consumer=consumer)


@pytest.fixture
def bucket() -> Bucket:
    """Ten requests of alice, 15 tokens each, one of which came twice, and a refused one of bob."""
    made = Bucket()
    ten = [record(f"2026-11-{day:02} 12:00:00.000") for day in range(1, 11)]
    made.add("2026-11-05", ten[:5])
    made.add("2026-11-10", [*ten[4:], record(consumer="bob", status=429, prompt_tokens=0, completion_tokens=0)])
    return made


def test_what_agrees_agrees_to_the_token(bucket: Bucket) -> None:
    found = compared(bucket, row("alice", 150), row("bob", 0), row("alice", 7, month="2026-10"))
    assert [(each.consumer, each.difference) for each in found] == [("alice", 0), ("bob", 0)]
    assert [each.notes(unreadable=0, is_over=True) for each in found] == [[], []]


def test_reservations_are_told_and_are_no_difference(bucket: Bucket) -> None:
    (alice,) = compared(bucket, row("alice", 150 + 40 + 7, open=(40, 60), dead=(7, -60)), consumer="alice")
    assert alice.difference == 0
    assert alice.counter == Counter(used=197, open=40, expired=7, lost=0)
    assert alice.notes(unreadable=0, is_over=False) == [
        "40 tokens reserved for requests under way",
        "7 tokens stay counted for servers that died, since nobody knows what was delivered",
    ]


def test_what_servers_that_died_left_is_told_and_is_no_difference(bucket: Bucket) -> None:
    (alice,) = compared(bucket, row("alice", 250, lost=100), consumer="alice")
    assert alice.difference == 0
    assert alice.notes(unreadable=0, is_over=True)[0].startswith("100 tokens stay counted")


@pytest.mark.parametrize("is_over", [True, False])
def test_a_missing_record_is_found_by_its_tokens(bucket: Bucket, is_over: bool) -> None:
    made = Bucket()
    made.add("2026-11-10", [record(f"2026-11-{day:02} 12:00:00.000") for day in range(1, 10)])
    (alice,) = compared(made, row("alice", 150))
    assert alice.difference == 15
    notes = alice.notes(unreadable=2, is_over=is_over)
    assert any("look again later" in note for note in notes) is not is_over
    assert any(note.startswith("2 files of records could not be converted") for note in notes)
    assert "a server died after it had settled and before it had sent the record" in notes


def test_what_was_recorded_and_not_counted_is_found_too(bucket: Bucket) -> None:
    alice, bob = compared(bucket, row("alice", 149), row("bob", 0))
    assert (alice.difference, bob.difference) == (-1, 0)
    assert any("api.budget_failure" in note for note in alice.notes(unreadable=0, is_over=True))


def test_who_has_no_counter_is_named(bucket: Bucket) -> None:
    alice, bob = compared(bucket, row("bob", 0))
    assert (alice.counter, alice.difference) == (None, -150)
    assert alice.notes(unreadable=0, is_over=True) == ["no counter: who has no limit is not counted"]
    assert bob.difference == 0


def test_who_used_nothing_that_was_recorded_is_named_as_well() -> None:
    (carol,) = compared(Bucket(), row("carol", 12))
    assert (carol.recorded, carol.difference) == (0, 12)
    assert carol.public(unreadable=0, is_over=True) == {
        "consumer": "carol",
        "recorded": 0,
        "counted": 12,
        "open": 0,
        "lost": 0,
        "difference": 12,
        "notes": [
            "a server died after it had settled and before it had sent the record",
            "requests were under way at the month's end: their records are in the month after",
        ],
    }


def test_a_table_that_cannot_be_read_is_named() -> None:
    with pytest.raises(OpsError, match="table others cannot be read: DynamoDB answered ResourceNotFoundException"):
        read_counters(Table(), table="others", month=NOVEMBER, now=NOW)
