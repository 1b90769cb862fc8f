"""A month of usage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from ops.errors import OpsError

_MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])")
_UNDER_WAY = timedelta(minutes=30)  # Firehose stores what came five minutes ago; after these a record is more than late


@dataclass(frozen=True)
class Month:
    """A month in UTC, from its first moment up to `end`, the first of the next one."""

    start: date
    end: date

    @classmethod
    def parse(cls, text: str) -> Month:
        """A month written as 2026-11; raises OpsError for anything else."""
        found = _MONTH.fullmatch(text)
        if found is None:
            raise OpsError(f"month {text!r:.40} is none; write it like 2026-11")
        start = date(int(found[1]), int(found[2]), 1)
        return cls(start=start, end=(start + timedelta(days=31)).replace(day=1))

    def __str__(self) -> str:
        return f"{self.start:%Y-%m}"

    def days(self) -> list[date]:
        """Every day of it."""
        return [self.start + timedelta(days=number) for number in range((self.end - self.start).days)]

    def is_over(self, now: datetime) -> bool:
        """Whether its last records have had the time to be stored."""
        return now >= datetime(self.end.year, self.end.month, self.end.day, tzinfo=UTC) + _UNDER_WAY
