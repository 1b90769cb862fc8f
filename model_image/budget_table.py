"""
The table of token budgets: one row for each consumer and month, and what one conditional update of it says.

A row keeps how many tokens are committed, that is used or reserved, this month and today, and each open reservation.
DynamoDB changes a row by one update after the other, so whoever asks in parallel, on any server, no limit is passed. A
reservation whose server died stays counted as used, since nobody knows what was delivered, and is forgotten once it has
expired.

An update of a row costs one of the 1,000 writes that a row takes in a second for each KB that it has, and an open
reservation is some 50 bytes (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html).
One call for each request would bound a consumer to 500 requests a second with 15 open at a time, and to 100 with 80; so
a server asks and settles for all requests of a consumer that wait in one call (`budget_queue.py`).

`limit_day`, `limit_month`, `refused_day`, `refused_month` and `lost_month` are for those who watch the table: the
limits of the last request, the last day and month in which one was refused, and tokens of servers that died.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from model_image.budget_rows import (
    Reservation,
    Row,
    clause,
    count,
    day_of,
    entry,
    is_full,
    key_of,
    last_day,
    month_of,
    noted_limits,
    number,
    open_of,
    room,
    standing_of,
    time_of,
)
from model_image.errors import ModelImageError
from model_image.standing import Limits, Standing

_REFUSED = "ConditionalCheckFailedException"
_ATTEMPTS = 4  # the day's first update can lose to that of another server, twice where clocks differ at midnight
_MOST_FORGOTTEN = 16  # by one request


class BudgetError(ModelImageError):
    """The table of budgets cannot be reached or does not answer; nothing is known about what is left."""


class OutOfBudget(Exception):  # noqa: N818  (an answer, not a fault)
    """The tokens asked for do not fit into what is left; `standing` says what is."""

    def __init__(self, standing: Standing) -> None:
        super().__init__("the token budget is used up")
        self.standing = standing


class BudgetTable:
    """The rows, by calls that wait for their answer; `client` is boto3's for DynamoDB."""

    def __init__(self, client: Any, *, name: str) -> None:
        self.name = name
        self._client = client

    def reserve(self, asked: Reservation, limits: Limits, *, at: float, enforced: bool) -> tuple[Reservation, Standing]:
        """
        Sets tokens aside; the day of what comes back may be a later one, where other servers' clocks are ahead.

        Raises OutOfBudget where they do not fit, unless it is not `enforced`, and BudgetError. Calling again changes
        nothing.
        """
        now, key = time_of(at), key_of(asked.consumer, asked.month)
        held = limits if enforced else Limits()
        if any(limit is not None and asked.tokens > limit for limit in (held.day, held.month)):
            raise OutOfBudget(standing_of(self._read(key), now))
        begins = False
        for _ in range(_ATTEMPTS):
            try:
                row = self._commit(key, asked, limits, held, begins=begins, now=now)
            except _RefusedError as refusal:
                row = refusal.row
                if asked.attribute in row:  # an answer was lost on its way, and this was asked once more
                    return replace(asked, day=day_of(asked, row)), standing_of(row, now)
                seen = row.get("today", {}).get("S", "")
                if is_full(row, held, asked.tokens, of_day=seen == asked.day):
                    self._note_refusal(key, row, held, asked)
                    raise OutOfBudget(standing_of(row, now)) from None
                asked, begins = replace(asked, day=max(asked.day, seen)), seen < asked.day
            else:
                self._forget_expired(key, row, now=now)
                return asked, standing_of(row, now)
        raise BudgetError(f"table {self.name} of token budgets refuses an update {_ATTEMPTS} times; check its rows")

    def settle(self, reservation: Reservation, used: int, *, at: float) -> Standing:
        """Gives back what was not used; calling again changes nothing. Raises BudgetError."""
        now = time_of(at)
        key, name = key_of(reservation.consumer, reservation.month), reservation.attribute
        back, there = {":back": number(used - reservation.tokens)}, f"attribute_exists({name})"
        day = {":day": {"S": reservation.day}}
        try:
            change = f"REMOVE {name} ADD used_month :back, used_day :back"
            row = self._update(key, change, f"{there} AND today = :day", back | day)
        except _RefusedError as refusal:
            row = refusal.row
            if name in row:  # another day has begun since
                row = self._unless_gone(key, f"REMOVE {name} ADD used_month :back", there, back)
        # Where it is not there it had expired, and all of it stays counted.
        self._forget_expired(key, row, now=now)
        return standing_of(row, now)

    def together(
        self,
        reserving: Sequence[Reservation],
        settling: Sequence[tuple[Reservation, int]],
        *,
        limits: Limits | None,
        at: float,
    ) -> Standing | None:
        """
        Reserves and settles in one update, for one consumer, month and day; `limits` are of what is reserved.

        None where they do not all fit, or not all can be settled so: then nothing is done. Raises BudgetError.
        """
        now, first = time_of(at), (*reserving, *(reservation for reservation, _ in settling))[0]
        key, added = key_of(first.consumer, first.month), sum(each.tokens for each in reserving)
        added += sum(used - reservation.tokens for reservation, used in settling)
        sets, absent, values = noted_limits(limits) if limits is not None else ([], [], {})
        conditions = ["today = :today"]
        values |= {":n": number(added), ":today": {"S": first.day}}
        if limits is not None:
            conditions += ["used_month <= :month", "used_day <= :day"]
            values |= {":month": number(room(limits.month, added)), ":day": number(room(limits.day, added))}
            sets.append("expires = :ttl")
            values[":ttl"] = last_day(now)
        for place, each in enumerate(reserving):
            sets.append(f"{each.attribute} = :r{place}")
            values[f":r{place}"] = entry(each)
            conditions.append(f"attribute_not_exists({each.attribute})")
        for reservation, _ in settling:
            absent.append(reservation.attribute)
            conditions.append(f"attribute_exists({reservation.attribute})")
        change = f"{clause('SET', sets)}{clause('REMOVE', absent)}ADD used_month :n, used_day :n"
        try:
            row = self._update(key, change, " AND ".join(conditions), values)
        except _RefusedError:
            return None
        self._forget_expired(key, row, now=now)
        return standing_of(row, now)

    def standing(self, consumer: str, *, at: float) -> Standing:
        """What is committed now. Raises BudgetError."""
        now = time_of(at)
        return standing_of(self._read(key_of(consumer, month_of(now))), now)

    def _commit(
        self, key: Row, asked: Reservation, limits: Limits, held: Limits, *, begins: bool, now: datetime
    ) -> Row:
        """The one update that reserves; `begins` for the first of a day, which forgets the count of the day before."""
        name = asked.attribute
        sets, absent, values = noted_limits(limits)
        values |= {
            ":n": number(asked.tokens),
            ":today": {"S": asked.day},
            ":month": number(room(held.month, asked.tokens)),
            ":ttl": last_day(now),
            ":r": entry(asked),
        }
        sets += [f"{name} = :r", "expires = :ttl"]
        added = "used_month :n"
        if begins:
            sets += ["today = :today", "used_day = :n"]
            day = "(attribute_not_exists(today) OR today < :today)"
        else:
            values[":day"] = number(room(held.day, asked.tokens))
            added += ", used_day :n"
            day = "today = :today AND used_day <= :day"
        month = "(attribute_not_exists(used_month) OR used_month <= :month)"
        condition = f"attribute_not_exists({name}) AND {month} AND {day}"
        change = f"{clause('SET', sets)}{clause('REMOVE', absent)}ADD {added}"
        return self._update(key, change, condition, values)

    def _note_refusal(self, key: Row, row: Row, held: Limits, asked: Reservation) -> None:
        """Marks that a limit was in the way, once for each day and month."""
        full = {
            "refused_day": (asked.day, count(row, "used_day") > room(held.day, asked.tokens)),
            "refused_month": (asked.month, count(row, "used_month") > room(held.month, asked.tokens)),
        }
        for name, (period, was_full) in full.items():
            if was_full and row.get(name, {}).get("S") != period:
                self._update(key, f"SET {name} = :period", None, {":period": {"S": period}})

    def _forget_expired(self, key: Row, row: Row, *, now: datetime) -> None:
        """Reservations of servers that died; their tokens stay counted, and are told apart as lost."""
        expired = {
            name: each["n"] for name, each in open_of(row).items() if float(each["until"]["N"]) < now.timestamp()
        }
        for name, tokens in list(expired.items())[:_MOST_FORGOTTEN]:
            self._unless_gone(
                key, f"REMOVE {name} ADD lost_month :lost", f"attribute_exists({name})", {":lost": tokens}
            )

    def _unless_gone(self, key: Row, change: str, condition: str, values: Row) -> Row:
        """The row after a change of a reservation, which another server may have forgotten."""
        try:
            return self._update(key, change, condition, values)
        except _RefusedError as refusal:
            return refusal.row

    def _read(self, key: Row) -> Row:
        try:
            answer = self._client.get_item(TableName=self.name, Key=key, ConsistentRead=True)
        except (BotoCoreError, ClientError) as error:
            raise unreachable(self.name, _reason(error)) from error
        row: Row = answer.get("Item", {})
        return row

    def _update(self, key: Row, change: str, condition: str | None, values: Row) -> Row:
        arguments: dict[str, Any] = {"TableName": self.name, "Key": key, "UpdateExpression": change}
        if condition is not None:
            arguments |= {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        try:
            row: Row = self._client.update_item(**arguments, ExpressionAttributeValues=values, ReturnValues="ALL_NEW")[
                "Attributes"
            ]
        except ClientError as error:
            if error.response["Error"]["Code"] == _REFUSED:
                old: Row = error.response.get("Item", {})
                raise _RefusedError(old) from None
            raise unreachable(self.name, _reason(error)) from error
        except BotoCoreError as error:
            raise unreachable(self.name, _reason(error)) from error
        return row


class _RefusedError(Exception):
    """The condition of an update did not hold for `row`."""

    def __init__(self, row: Row) -> None:
        super().__init__("refused")
        self.row = row


def unreachable(table: str, reason: str) -> BudgetError:
    """The error of a table that does not answer."""
    message = f"table {table} of token budgets does not answer: {reason}"
    return BudgetError(f"{message}; check the table, its endpoint and the role's rights")


def _reason(error: BotoCoreError | ClientError) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__
