"""What a row of the table of budgets says, in DynamoDB's types; pure."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from model_image.standing import Limits, Period, Standing

Row = Mapping[str, Any]

_RESERVATION = "r_"
_KEEP_DAYS = 400  # a row is deleted by its TTL once a year's bills are paid
_NO_LIMIT = 2**62


@dataclass(frozen=True)
class Reservation:
    """Tokens that are set aside for one request, in the counts of a month and a day, until a time in seconds."""

    consumer: str
    id: str
    tokens: int
    _: KW_ONLY
    month: str
    day: str
    until: float

    @property
    def attribute(self) -> str:
        """Its name in the row."""
        return f"{_RESERVATION}{self.id}"


def new_reservation(consumer: str, tokens: int, *, at: float, lifetime: float) -> Reservation:
    """What to ask the table for; times in seconds."""
    now = time_of(at)
    return Reservation(
        consumer, secrets.token_hex(8), tokens, month=month_of(now), day=day_name(now), until=at + lifetime
    )


def month_of(now: datetime) -> str:
    """A month as the table's key has it."""
    return now.strftime("%Y-%m")


def noted_limits(limits: Limits) -> tuple[list[str], list[str], dict[str, Any]]:
    """The limits as attributes: what to set, what to remove, and the values."""
    given = {"limit_day": limits.day, "limit_month": limits.month}
    there = {name: limit for name, limit in given.items() if limit is not None}
    absent = [name for name, limit in given.items() if limit is None]
    return [f"{name} = :{name}" for name in there], absent, {f":{name}": number(each) for name, each in there.items()}


def clause(word: str, parts: Sequence[str]) -> str:
    """A clause of an update expression; nothing without parts."""
    return f"{word} {', '.join(parts)} " if parts else ""


def entry(asked: Reservation) -> dict[str, Any]:
    """A reservation as the row has it."""
    values = {"n": number(asked.tokens), "until": number(asked.until), "d": {"S": asked.day[-2:]}}
    return {"M": values}


def last_day(now: datetime) -> dict[str, str]:
    """When the row may be deleted."""
    return number((now + timedelta(days=_KEEP_DAYS)).timestamp())


def is_full(row: Row, held: Limits, tokens: int, *, of_day: bool) -> bool:
    """Whether tokens do not fit into the month, or into the day if the row's day is theirs."""
    if count(row, "used_month") > room(held.month, tokens):
        return True
    return of_day and count(row, "used_day") > room(held.day, tokens)


def room(limit: int | None, tokens: int) -> int:
    """The most that may be committed before, for the tokens to fit."""
    return _NO_LIMIT if limit is None else limit - tokens


def day_of(asked: Reservation, row: Row) -> str:
    """The day that a reservation in the row is counted in."""
    return f"{asked.month}-{row[asked.attribute]['M']['d']['S']}"


def key_of(consumer: str, month: str) -> dict[str, Any]:
    """The key of a row."""
    return {"consumer": {"S": consumer}, "month": {"S": month}}


def time_of(at: float) -> datetime:
    """Seconds as a time, UTC."""
    return datetime.fromtimestamp(at, UTC)


def day_name(now: datetime) -> str:
    """A day as the row has it."""
    return now.strftime("%Y-%m-%d")


def number(value: float) -> dict[str, str]:
    """A whole number."""
    return {"N": str(int(value))}


def count(row: Row, name: str) -> int:
    """A counter of the row, which begins at 0."""
    return int(row.get(name, {}).get("N", 0))


def open_of(row: Row) -> dict[str, Row]:
    """The reservations in a row, by attribute."""
    return {name: value["M"] for name, value in row.items() if name.startswith(_RESERVATION)}


def standing_of(row: Row, now: datetime) -> Standing:
    """What is committed; expired reservations count as used."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    next_month = (midnight.replace(day=28) + timedelta(days=4)).replace(day=1)
    today = row.get("today", {}).get("S", "")
    committed = count(row, "used_day") if today >= day_name(now) else 0
    alive = [each for each in open_of(row).values() if float(each["until"]["N"]) >= now.timestamp()]
    of_month = sum(int(each["n"]["N"]) for each in alive)
    of_day = sum(int(each["n"]["N"]) for each in alive if committed and each["d"]["S"] == today[-2:])
    return Standing(
        day=Period(committed - of_day, of_day, _seconds(midnight + timedelta(days=1), now)),
        month=Period(count(row, "used_month") - of_month, of_month, _seconds(next_month, now)),
    )


def _seconds(then: datetime, now: datetime) -> int:
    return max(1, round((then - now).total_seconds()))
