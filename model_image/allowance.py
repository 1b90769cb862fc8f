"""What a request of a limited consumer may take: reserved before it is computed, settled after, told by headers."""

import time
from collections.abc import Mapping

from model_image.answers import ConsumerUsage, UsagePeriod
from model_image.api_errors import ApiError
from model_image.budget_rows import Reservation
from model_image.budget_table import BudgetError, OutOfBudget
from model_image.budgets import Budgets, Operation
from model_image.metrics import Metrics
from model_image.request_log import JsonLog
from model_image.standing import Bound, Limits, Period, Standing

Headers = list[tuple[bytes, bytes]]

_RETRY_SECONDS = 2
_LOG_EVERY_SECONDS = 10.0


class Guard:
    """Gives each request of a limited consumer its allowance."""

    def __init__(self, budgets: Budgets, *, fails_open: bool) -> None:
        """`fails_open`: what the table does not answer is served, and not refused."""
        self.budgets = budgets
        self.fails_open = fails_open

    def allowance(self, headers: Mapping[str, str]) -> "Allowance | None":
        """The allowance of a request, by what the gateway says of it; None for a consumer without limits."""
        consumer, limits = headers.get("x-modelkeep-consumer", ""), limits_of(headers)
        return Allowance(self, consumer, limits) if consumer and limits.any else None

    async def close(self, *, seconds: float) -> None:
        """Waits for what is being settled."""
        await self.budgets.close(seconds=seconds)


class Allowance:
    """One request's reservations."""

    def __init__(self, guard: Guard, consumer: str, limits: Limits) -> None:
        self.consumer = consumer
        self.limits = limits
        self._guard = guard
        self._reservations: list[Reservation] = []
        self._standing: Standing | None = None
        self._is_open = False

    async def reserve(self, tokens: int) -> None:
        """
        Sees to it that so many tokens are set aside for the request as a whole.

        Raises ApiError: 429 where they do not fit into what is left, 503 where the table does not say.
        """
        missing = tokens - sum(each.tokens for each in self._reservations)
        if missing <= 0 or self._is_open:
            return
        try:
            reservation, self._standing = await self._guard.budgets.reserve(self.consumer, self.limits, missing)
        except OutOfBudget as refusal:
            self._standing = refusal.standing
            raise out_of_budget(refusal.standing.refusing(self.limits, missing), missing) from None
        except BudgetError as error:
            self._guard.budgets.on_failure("reserve", error)
            if not self._guard.fails_open:
                raise unavailable() from None
            self._is_open = True
        else:
            self._reservations.append(reservation)

    def settle(self, used: int) -> None:
        """Gives back what was not used, without waiting for it; once, when nothing more is counted."""
        left = used
        for reservation in self._reservations:
            part = min(left, reservation.tokens)
            self._guard.budgets.settle_later(reservation, used=part)
            left -= part
        if left:
            self._guard.budgets.book_later(self.consumer, self.limits, left)

    async def headers(self) -> Headers:
        """OpenAI's headers of the limit that is reached first; none where the table does not answer."""
        standing = self._standing or self._guard.budgets.last_standing(self.consumer)
        if standing is None:
            try:
                standing = await self._guard.budgets.standing(self.consumer)
            except BudgetError as error:
                self._guard.budgets.on_failure("read", error)
                return []
        bound = standing.tightest(self.limits)
        return [
            (b"x-ratelimit-limit-tokens", str(bound.limit).encode()),
            (b"x-ratelimit-remaining-tokens", str(bound.left).encode()),
            (b"x-ratelimit-reset-tokens", duration(bound.reset_seconds).encode()),
        ]


class Failures:
    """Counts and logs calls of the table that failed."""

    def __init__(self, metrics: Metrics, log: JsonLog, *, fails_open: bool) -> None:
        self._counter = metrics.budget_failures
        self._mode = "open" if fails_open else "closed"
        self._log = log
        self._logged = float("-inf")

    def __call__(self, operation: Operation, error: BudgetError) -> None:
        """Counts one; writes one line in ten seconds at most."""
        self._counter.labels(operation, self._mode).inc()
        if time.monotonic() - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            self._log.write("budgets_failed", level="warning", operation=operation, mode=self._mode, message=str(error))


def limits_of(headers: Mapping[str, str]) -> Limits:
    """Reads x-modelkeep-tokens-per-day and -month: a count, or `*` for no limit; absent means none."""
    return Limits(
        day=_limit(headers.get("x-modelkeep-tokens-per-day", "*")),
        month=_limit(headers.get("x-modelkeep-tokens-per-month", "*")),
    )


async def usage_of(guard: Guard | None, headers: Mapping[str, str]) -> ConsumerUsage:
    """The answer of GET /v1/usage; a consumer without limits is not counted. Raises ApiError 503."""
    allowance = None if guard is None else guard.allowance(headers)
    limits, standing = Limits(), None
    if guard is not None and allowance is not None:
        limits = allowance.limits
        try:
            standing = await guard.budgets.standing(allowance.consumer)
        except BudgetError as error:
            guard.budgets.on_failure("read", error)
            raise unavailable() from None
    return {
        "object": "usage",
        "consumer": headers.get("x-modelkeep-consumer", ""),
        "plan": headers.get("x-modelkeep-plan", ""),
        "day": _period(None if standing is None else standing.day, limits.day),
        "month": _period(None if standing is None else standing.month, limits.month),
    }


def out_of_budget(bound: Bound, tokens: int) -> ApiError:
    """Which limit is in the way of so many tokens, what is gone of it, and the remedy."""
    limit = f"your limit of {bound.limit:,} tokens a {bound.period}"
    if tokens > bound.limit:
        message = f"the request may take {tokens:,} tokens, more than {limit}; lower max_tokens or send less text"
    else:
        gone = f"of {limit} {bound.committed:,} are used or reserved, and the request may take {tokens:,}"
        message = f"{gone}; lower max_tokens, wait {duration(bound.reset_seconds)}, or ask the operator for more"
    return ApiError("token_budget_exceeded", message, retry_after=bound.reset_seconds)


def unavailable() -> ApiError:
    """The answer where nobody knows what is left."""
    message = "the server cannot tell what is left of your token budget; send the request again in a moment"
    return ApiError("budget_unavailable", message, retry_after=_RETRY_SECONDS)


def duration(seconds: int) -> str:
    """Seconds as OpenAI's headers have them, such as 6m0s."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _limit(value: str) -> int | None:
    if value.strip() in {"*", ""}:
        return None
    if not value.isdecimal() or len(value) > 18:
        raise ValueError("a limit of tokens is neither a count nor *")  # the gateway's, and no text of a user
    return int(value)


def _period(period: Period | None, limit: int | None) -> UsagePeriod:
    if period is None:
        return {"used": None, "reserved": None, "limit": None, "remaining": None, "reset_seconds": None}
    return {
        "used": period.used,
        "reserved": period.reserved,
        "limit": limit,
        "remaining": None if limit is None else max(0, limit - period.committed),
        "reset_seconds": period.reset_seconds,
    }
