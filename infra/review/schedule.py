"""How many instances a group holds over a week, given its scheduled actions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WEEK = 7 * 24 * 60
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}


@dataclass(frozen=True)
class Action:
    """A scheduled action: when (cron, in the group's own time zone), and the sizes from then on."""

    cron: str
    least: int | None
    most: int | None


def weekly_average(least: int, most: int, actions: Sequence[Action]) -> tuple[float, float]:
    """The minimum and maximum size on average over a week.

    Cron fields may hold numbers, names of days, lists, ranges and `*`; raises ValueError for others, and for actions on
    days of the month.
    """
    events: list[tuple[int, Action]] = []
    for action in actions:
        events += [(minute, action) for minute in _minutes(action.cron)]
    if not events:
        return float(least), float(most)
    events.sort(key=lambda event: event[0])
    lowest, highest = 0.0, 0.0
    for index, (minute, _) in enumerate(events):
        following = events[(index + 1) % len(events)][0]
        length = (following - minute) % _WEEK or (_WEEK if len(events) == 1 else 0)
        sizes = _sizes(events, index, least=least, most=most)
        lowest += sizes[0] * length
        highest += sizes[1] * length
    return lowest / _WEEK, highest / _WEEK


def _sizes(events: Sequence[tuple[int, Action]], index: int, *, least: int, most: int) -> tuple[int, int]:
    """What holds after an event: what it sets, else what the last one before it set."""
    lowest = highest = None
    for back in range(len(events)):
        action = events[(index - back) % len(events)][1]
        lowest = action.least if lowest is None else lowest
        highest = action.most if highest is None else highest
    return least if lowest is None else lowest, most if highest is None else highest


def _minutes(cron: str) -> list[int]:
    fields = cron.split()
    if len(fields) != 5 or fields[2] != "*" or fields[3] != "*":
        raise ValueError(f"{cron!r} is not a weekly schedule")
    minutes, hours, days = _field(fields[0], 0, 59), _field(fields[1], 0, 23), _field(fields[4], 0, 7)
    return sorted({(day % 7) * 24 * 60 + hour * 60 + minute for day in days for hour in hours for minute in minutes})


def _field(text: str, low: int, high: int) -> list[int]:
    found: list[int] = []
    for part in text.lower().split(","):
        match = re.fullmatch(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?", part)
        if match is None:
            raise ValueError(f"{text!r} is not a field of a cron expression")
        start = low if match[1] == "*" else _number(match[1])
        end = high if match[1] == "*" or (match[3] and not match[2]) else _number(match[2] or match[1])
        found += range(start, end + 1, int(match[3] or 1))
    return [number for number in found if low <= number <= high and not (high == 7 and number == 7 and 0 in found)]


def _number(text: str) -> int:
    if text in _DAYS:
        return _DAYS[text]
    if not text.isdigit():
        raise ValueError(f"{text!r} is not a number or a day")
    return int(text)
