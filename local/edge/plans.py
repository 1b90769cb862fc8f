"""Usage plans and stage throttles, counted exactly within this process."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from local.edge.deployed import ApiKey, Quota, Stage, Throttle
from local.edge.exchange import RefusedError

# Account-level limits that every region starts with, from "Amazon API Gateway quotas" in the Developer Guide.
ACCOUNT_THROTTLE = Throttle(rate=10_000, burst=5_000)


class TokenBucket:
    """A token bucket: full at the start with `burst` tokens, refilled with `rate` tokens a second."""

    def __init__(self, throttle: Throttle, *, now: float) -> None:
        self.throttle = throttle
        self._tokens = float(throttle.burst)
        self._at = now

    def ready(self, now: float) -> bool:
        """Whether a token is there at `now`, a monotonic time in seconds; takes none."""
        elapsed = max(0.0, now - self._at)
        self._tokens = min(float(self.throttle.burst), self._tokens + elapsed * self.throttle.rate)
        self._at = max(self._at, now)
        return self._tokens >= 1.0

    def take(self) -> None:
        """Take the token that `ready` has just seen."""
        self._tokens -= 1.0


class QuotaCounter:
    """Requests of one key within the current period of a quota."""

    def __init__(self) -> None:
        self._period: datetime | None = None
        self._first: datetime | None = None
        self._used = 0

    def take(self, quota: Quota, *, now: datetime) -> bool:
        """Count one request, unless the period's limit is reached; the offset lowers the limit in the first period."""
        start = period_start(quota, now)
        self._first = self._first or start
        if start != self._period:
            self._period, self._used = start, 0
        limit = quota.limit - (quota.offset if start == self._first else 0)
        if self._used >= limit:
            return False
        self._used += 1
        return True


def period_start(quota: Quota, now: datetime) -> datetime:
    """Midnight UTC of the day, of the week's Sunday or of the month's first that `now` falls in."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if quota.period == "DAY":
        return day
    if quota.period == "WEEK":
        return day - timedelta(days=day.isoweekday() % 7)
    return day.replace(day=1)


class Meters:
    """All buckets and counters of one edge; they outlive a change of the configuration.

    Limits are applied in the documented order ("Throttle requests to your REST APIs", Developer Guide): the usage
    plan's per-method and per-client throttle, the stage's per-method throttle, the account's. A request refused by
    one of them takes no token of the others and does not count towards the quota.
    """

    def __init__(self, *, monotonic: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._monotonic = monotonic
        self._now = now
        self._buckets: dict[tuple[str, ...], TokenBucket] = {}
        self._quotas: dict[tuple[str, str], QuotaCounter] = {}

    def admit(self, *, key: ApiKey | None, stage: Stage, resource_path: str, http_method: str) -> None:
        """Count one request; raises RefusedError THROTTLED or QUOTA_EXCEEDED."""
        now = self._monotonic()
        buckets = list(self._plan_buckets(key, f"{resource_path}/{http_method}", now) if key else ())
        if not all(bucket.ready(now) for bucket in buckets):
            raise RefusedError("THROTTLED", "Too Many Requests")
        shared = self._shared_buckets(stage, resource_path, http_method, now)
        throttled = not all(bucket.ready(now) for bucket in shared)
        if key and key.plan.quota and not throttled:
            counter = self._quotas.setdefault((key.plan.id, key.id), QuotaCounter())
            if not counter.take(key.plan.quota, now=self._now()):
                raise RefusedError("QUOTA_EXCEEDED", "Limit Exceeded")
        if throttled:
            raise RefusedError("THROTTLED", "Too Many Requests")
        for bucket in (*buckets, *shared):
            bucket.take()

    def _plan_buckets(self, key: ApiKey, method: str, now: float) -> list[TokenBucket]:
        found = []
        if (throttle := key.plan.methods.get(method)) is not None:
            found.append(self._bucket(("plan", key.plan.id, key.id, method), throttle, now))
        if key.plan.throttle is not None:
            found.append(self._bucket(("plan", key.plan.id, key.id), key.plan.throttle, now))
        return found

    def _shared_buckets(self, stage: Stage, resource_path: str, http_method: str, now: float) -> list[TokenBucket]:
        found = [self._bucket(("account",), ACCOUNT_THROTTLE, now)]
        own = f"{resource_path}/{http_method}"
        throttle = stage.throttles.get(own) or stage.throttles.get(own[1:]) or stage.throttles.get("*/*")
        if throttle is not None:
            found.append(self._bucket(("stage", own), throttle, now))
        return found

    def _bucket(self, name: tuple[str, ...], throttle: Throttle, now: float) -> TokenBucket:
        bucket = self._buckets.get(name)
        if bucket is None or bucket.throttle != throttle:
            bucket = self._buckets[name] = TokenBucket(throttle, now=now)
        return bucket
