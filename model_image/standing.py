"""The terms of token budgets: a consumer's limits, what is committed of them, and which one is in the way."""

from dataclasses import dataclass
from typing import Literal

PeriodName = Literal["day", "month"]


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
class Period:
    """Tokens of one consumer in the running day or month, and the seconds until the count is new."""

    used: int
    reserved: int
    reset_seconds: int

    @property
    def committed(self) -> int:
        """What is gone for others: used or reserved."""
        return self.used + self.reserved


@dataclass(frozen=True)
class Bound:
    """One limit and what is committed of it, in tokens; `reset_seconds` until it is whole again."""

    period: PeriodName
    limit: int
    committed: int
    reset_seconds: int

    @property
    def left(self) -> int:
        """What may be reserved now."""
        return max(0, self.limit - self.committed)


@dataclass(frozen=True)
class Standing:
    """What is committed of a consumer's day and month."""

    day: Period
    month: Period

    def bounds(self, limits: Limits) -> list[Bound]:
        """Each limit with its use; the month's last, since it outlasts the day's."""
        parts: tuple[tuple[PeriodName, int | None, Period], ...] = (
            ("day", limits.day, self.day),
            ("month", limits.month, self.month),
        )
        return [
            Bound(name, limit, period.committed, period.reset_seconds)
            for name, limit, period in parts
            if limit is not None
        ]

    def tightest(self, limits: Limits) -> Bound:
        """The limit that is reached first; the month's of two that are. Raises ValueError without a limit."""
        return min(reversed(self.bounds(limits)), key=lambda bound: bound.left)

    def fits(self, limits: Limits, tokens: int) -> bool:
        """Whether so many tokens may be reserved."""
        return all(bound.committed + tokens <= bound.limit for bound in self.bounds(limits))

    def refusing(self, limits: Limits, tokens: int) -> Bound:
        """The limit into which tokens do not fit, that which lasts longer of two; the tightest where both have room."""
        full = [bound for bound in self.bounds(limits) if bound.committed + tokens > bound.limit]
        return full[-1] if full else self.tightest(limits)
