"""
Token budgets that hold: a request's tokens are reserved before anything is computed, and afterwards settled.

One row for each consumer and month keeps how many tokens are committed, that is used or reserved, this month and today,
and each open reservation. Reserving is one conditional update, so whoever asks in parallel, on any server, no limit is
passed. A row takes 1,000 writes a second, which is 500 requests of one consumer
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html). A reservation whose
server died stays counted as used, since nobody knows what was delivered, and is forgotten once it has expired.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from model_image.errors import ModelImageError

Result = TypeVar("Result")

_THREADS = 16
_RESERVATION = "r_"
_KEEP_DAYS = 400  # a row is deleted by its TTL once a year's bills are paid
_REFUSED = "ConditionalCheckFailedException"


class BudgetError(ModelImageError):
    """The table of budgets cannot be reached or does not answer; nothing is known about what is left."""


@dataclass(frozen=True)
class Limits:
    """A consumer's tokens for each day and month (UTC); None for no limit."""

    day: int | None = None
    month: int | None = None

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return self.day is not None or self.month is not None


@dataclass(frozen=True)
class Standing:
    """What is committed and what of it is reserved, in tokens, and the seconds until the day's count is new."""

    day: int
    month: int
    reserved: int
    reset_seconds: int

    def left(self, limits: Limits) -> int | None:
        """How many tokens more may be reserved now; None without a limit."""
        parts = [(limits.day, self.day), (limits.month, self.month)]
        found = [max(0, limit - committed) for limit, committed in parts if limit is not None]
        return min(found, default=None)


@dataclass(frozen=True)
class Reservation:
    """Tokens that are set aside for one request; `standing` is what the row said right after."""

    consumer: str
    id: str
    tokens: int
    _: KW_ONLY
    month: str
    day: str
    standing: Standing


class OutOfBudget(Exception):  # noqa: N818  (an answer, not a fault)
    """The tokens asked for do not fit into what is left; `standing` says what is."""

    def __init__(self, standing: Standing) -> None:
        super().__init__("the token budget is used up")
        self.standing = standing


class Budgets:
    """The table of budgets; its calls run on threads of their own."""

    def __init__(self, client: Any, *, table: str, lifetime: float, clock: Callable[[], float] = time.time) -> None:
        """A reservation lives for `lifetime` seconds, which is longer than any request may take."""
        self._client = client
        self._table = table
        self._lifetime = lifetime
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="budgets")

    def close(self) -> None:
        """Ends the threads; what is under way is finished."""
        self._threads.shutdown()

    async def reserve(self, consumer: str, limits: Limits, tokens: int) -> Reservation:
        """Sets tokens aside. Raises OutOfBudget where they do not fit, BudgetError where the table does not answer."""
        return await self._run(self._reserve, consumer, limits, tokens)

    async def settle(self, reservation: Reservation, *, used: int) -> Standing:
        """Gives back what was not used; once only. Raises BudgetError; the reservation then counts as used."""
        return await self._run(self._settle, reservation, used)

    async def standing(self, consumer: str) -> Standing:
        """What is committed now. Raises BudgetError."""
        return await self._run(self._standing, consumer)

    async def _run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _reserve(self, consumer: str, limits: Limits, tokens: int) -> Reservation:
        now = datetime.fromtimestamp(self._clock(), UTC)
        key, name = _key(consumer, _month(now)), uuid.uuid4().hex
        if any(limit is not None and tokens > limit for limit in (limits.day, limits.month)):
            raise OutOfBudget(_standing(self._read(key), now))
        values = {
            ":n": _number(tokens),
            ":today": {"S": _day(now)},
            ":month": _number(_room(limits.month, tokens)),
            ":ttl": _number((now + timedelta(days=_KEEP_DAYS)).timestamp()),
            ":r": {"M": {"n": _number(tokens), "until": _number(now.timestamp() + self._lifetime)}},
        }
        begin = f"SET {_RESERVATION}{name} = :r, expires = :ttl"
        fits = "(attribute_not_exists(used_month) OR used_month <= :month)"

        def in_day() -> Mapping[str, Any]:
            condition = f"{fits} AND today = :today AND used_day <= :day"
            day = {":day": _number(_room(limits.day, tokens))}
            return self._update(key, f"{begin} ADD used_month :n, used_day :n", condition, values | day)

        def first_of_day() -> Mapping[str, Any]:
            condition = f"{fits} AND (attribute_not_exists(today) OR today < :today)"
            return self._update(key, f"{begin}, today = :today, used_day = :n ADD used_month :n", condition, values)

        row = self._first_that_holds(in_day, first_of_day, in_day, now=now)
        self._forget_expired(key, row, now=now)
        return Reservation(consumer, name, tokens, month=_month(now), day=_day(now), standing=_standing(row, now))

    def _first_that_holds(self, *updates: Callable[[], Mapping[str, Any]], now: datetime) -> Mapping[str, Any]:
        """What the first update whose condition held made; one is refused for a day that has, or has not, begun."""
        refused: _RefusedError | None = None
        for update in updates:
            try:
                return update()
            except _RefusedError as refusal:
                if refusal.row.get("today", {}).get("S") == _day(now) and refused is None:
                    raise OutOfBudget(_standing(refusal.row, now)) from None
                refused = refusal
        raise OutOfBudget(_standing({} if refused is None else refused.row, now))

    def _settle(self, reservation: Reservation, used: int) -> Standing:
        now = datetime.fromtimestamp(self._clock(), UTC)
        key, name = _key(reservation.consumer, reservation.month), f"{_RESERVATION}{reservation.id}"
        back, there = {":back": _number(used - reservation.tokens)}, f"attribute_exists({name})"
        try:
            change = f"REMOVE {name} ADD used_month :back, used_day :back"
            day = {":day": {"S": reservation.day}}
            return _standing(self._update(key, change, f"{there} AND today = :day", back | day), now)
        except _RefusedError as refusal:
            if name not in refusal.row:
                return _standing(refusal.row, now)  # it had expired, and all of it stays counted
        try:  # another day has begun since
            return _standing(self._update(key, f"REMOVE {name} ADD used_month :back", there, back), now)
        except _RefusedError as refusal:
            return _standing(refusal.row, now)

    def _standing(self, consumer: str) -> Standing:
        now = datetime.fromtimestamp(self._clock(), UTC)
        return _standing(self._read(_key(consumer, _month(now))), now)

    def _forget_expired(self, key: Mapping[str, Any], row: Mapping[str, Any], *, now: datetime) -> None:
        """Reservations of servers that died; their tokens stay counted."""
        expired = [name for name, value in _open(row).items() if float(value["until"]["N"]) < now.timestamp()]
        if expired:
            self._update(key, f"REMOVE {', '.join(expired)}", None, None)

    def _read(self, key: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            answer = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        except (BotoCoreError, ClientError) as error:
            raise _unreachable(self._table, error) from error
        row: Mapping[str, Any] = answer.get("Item", {})
        return row

    def _update(
        self, key: Mapping[str, Any], change: str, condition: str | None, values: Mapping[str, Any] | None
    ) -> Mapping[str, Any]:
        arguments: dict[str, Any] = {"TableName": self._table, "Key": key, "UpdateExpression": change}
        if condition is not None:
            arguments |= {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        if values is not None:
            arguments["ExpressionAttributeValues"] = values
        try:
            row: Mapping[str, Any] = self._client.update_item(**arguments, ReturnValues="ALL_NEW")["Attributes"]
        except ClientError as error:
            if error.response["Error"]["Code"] == _REFUSED:
                old: Mapping[str, Any] = error.response.get("Item", {})
                raise _RefusedError(old) from None
            raise _unreachable(self._table, error) from error
        except BotoCoreError as error:
            raise _unreachable(self._table, error) from error
        return row


class _RefusedError(Exception):
    """The condition of an update did not hold for `row`."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        super().__init__("refused")
        self.row = row


def _unreachable(table: str, error: BotoCoreError | ClientError) -> BudgetError:
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    return BudgetError(f"table {table} of token budgets does not answer: {code}; check the table and the role's rights")


def _room(limit: int | None, tokens: int) -> int:
    """The most that may be committed before, for the tokens to fit."""
    return 2**62 if limit is None else limit - tokens


def _key(consumer: str, month: str) -> dict[str, Any]:
    return {"consumer": {"S": consumer}, "month": {"S": month}}


def _month(now: datetime) -> str:
    return now.strftime("%Y-%m")


def _day(now: datetime) -> str:
    return now.strftime("%Y-%m-%d")


def _number(value: float) -> dict[str, str]:
    return {"N": str(int(value))}


def _open(row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: value["M"] for name, value in row.items() if name.startswith(_RESERVATION)}


def _standing(row: Mapping[str, Any], now: datetime) -> Standing:
    tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    is_today = row.get("today", {}).get("S") == _day(now)
    return Standing(
        day=int(row["used_day"]["N"]) if is_today else 0,
        month=int(row.get("used_month", {}).get("N", 0)),
        reserved=sum(
            int(each["n"]["N"]) for each in _open(row).values() if float(each["until"]["N"]) >= now.timestamp()
        ),
        reset_seconds=max(1, round((tomorrow - now).total_seconds())),
    )
