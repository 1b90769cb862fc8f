"""Throttles and quotas: exact by property, and enforced as deployed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.edge.deployed import ApiKey, Plan, Quota, Stage, Throttle
from local.edge.exchange import RefusedError
from local.edge.plans import Meters, QuotaCounter, TokenBucket, period_start
from tests.local.edge.stack import FixedBalancer, Stack, caller

RATES = st.floats(min_value=0.0, max_value=100.0)
GAPS = st.lists(st.floats(min_value=0.0, max_value=5.0), max_size=60)


@given(rate=RATES, burst=st.integers(0, 50), gaps=GAPS)
def test_bucket_never_admits_more_than_rate_times_time_plus_burst(rate: float, burst: int, gaps: list[float]) -> None:
    bucket = TokenBucket(Throttle(rate=rate, burst=burst), now=0.0)
    now, admitted = 0.0, 0
    for gap in gaps:
        now += gap
        while bucket.ready(now):
            bucket.take()
            admitted += 1
        assert admitted <= rate * now + burst + 1e-6


@given(rate=st.floats(min_value=0.1, max_value=100.0), burst=st.integers(1, 50))
def test_bucket_admits_its_burst_at_once_and_again_after_refilling(rate: float, burst: int) -> None:
    bucket = TokenBucket(Throttle(rate=rate, burst=burst), now=0.0)
    for now in (0.0, burst / rate + 1e-3):
        for _ in range(burst):
            assert bucket.ready(now)
            bucket.take()
    assert not bucket.ready(burst / rate + 1e-3)


MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive


@given(
    limit=st.integers(0, 20),
    offset=st.integers(0, 5),
    period=st.sampled_from(["DAY", "WEEK", "MONTH"]),
    start=MOMENTS,
    gaps=st.lists(st.integers(0, 40_000), max_size=80),
)
def test_quota_is_exact_in_every_period(limit: int, offset: int, period: str, start: datetime, gaps: list[int]) -> None:
    quota = Quota(limit=limit, period=period, offset=offset)  # type: ignore[arg-type]
    counter = QuotaCounter()
    admitted: dict[datetime, int] = {}
    asked: dict[datetime, int] = {}
    now = start
    for gap in gaps:
        now += timedelta(seconds=gap)
        key = period_start(quota, now)
        asked[key] = asked.get(key, 0) + 1
        admitted[key] = admitted.get(key, 0) + counter.take(quota, now=now)
    for key, count in asked.items():
        allowed = limit - offset if key == period_start(quota, start + timedelta(seconds=gaps[0])) else limit
        assert admitted[key] == min(count, max(0, allowed))


def test_periods_begin_at_midnight_utc() -> None:
    moment = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)  # a Wednesday
    starts = [period_start(Quota(limit=1, period=p, offset=0), moment) for p in ("DAY", "WEEK", "MONTH")]
    assert [(start.day, start.hour) for start in starts] == [(18, 0), (15, 0), (1, 0)]


def _key(
    name: str, *, quota: int | None = None, burst: int = 100, methods: dict[str, Throttle] | None = None
) -> ApiKey:
    limit = Quota(limit=quota, period="DAY", offset=0) if quota is not None else None
    plan = Plan(id="p", throttle=Throttle(rate=0.0, burst=burst), quota=limit, methods=methods or {})
    return ApiKey(id=name, enabled=True, plan=plan)


def _stage(**throttles: Throttle) -> Stage:
    return Stage("d", {}, None, None, {name.replace("__", "/"): item for name, item in throttles.items()}, {}, None)


def _tries(meters: Meters, key: ApiKey | None, stage: Stage, *, path: str = "/a", times: int = 10) -> list[str]:
    found = []
    for _ in range(times):
        try:
            meters.admit(key=key, stage=stage, resource_path=path, http_method="POST")
            found.append("ok")
        except RefusedError as refused:
            found.append(refused.response_type)
    return found


def _meters() -> Meters:
    return Meters(monotonic=lambda: 0.0, now=lambda: datetime(2026, 1, 1, tzinfo=UTC))


def test_each_key_has_its_own_bucket_and_quota() -> None:
    meters = _meters()
    assert _tries(meters, _key("a", quota=3), _stage()) == ["ok"] * 3 + ["QUOTA_EXCEEDED"] * 7
    assert _tries(meters, _key("b", burst=4), _stage()) == ["ok"] * 4 + ["THROTTLED"] * 6


def test_throttled_requests_do_not_count_towards_the_quota() -> None:
    meters = _meters()
    tight = _key("a", quota=8, methods={"/a/POST": Throttle(rate=0.0, burst=2)})
    assert _tries(meters, tight, _stage()).count("ok") == 2
    assert _tries(meters, tight, _stage(), path="/b") == ["ok"] * 6 + ["QUOTA_EXCEEDED"] * 4


def test_stage_throttle_holds_per_method_for_everybody() -> None:
    meters, stage = _meters(), _stage(**{"*__*": Throttle(rate=0.0, burst=3), "__b__POST": Throttle(rate=0.0, burst=1)})
    assert _tries(meters, None, stage).count("ok") == 3
    assert _tries(meters, _key("a", quota=9), stage).count("ok") == 0
    assert _tries(meters, _key("a", quota=9), stage, path="/b").count("ok") == 1
    assert _tries(meters, _key("a", quota=9), stage, path="/c").count("ok") == 3


@pytest.mark.anyio
async def test_throttled_and_quota_answers(stack: Stack, target: str) -> None:
    stack.deploy(plan={"throttle": {"rateLimit": 0.001, "burstLimit": 2}})
    stack.respond("THROTTLED", 429, "rate_limit_exceeded", {"Retry-After": "1"})
    stack.respond("QUOTA_EXCEEDED", 429, "quota_exceeded", {"Retry-After": "3600"})
    edge = stack.edge(FixedBalancer(target))
    async with caller(edge) as client:
        answers = [await client.get("/models") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
        assert answers[-1].json()["error"]["code"] == "rate_limit_exceeded"
        assert answers[-1].headers["retry-after"] == "1"
        changes = [("/throttle/burstLimit", "100"), ("/quota/limit", "3"), ("/quota/period", "DAY")]
        operations = [{"op": "replace", "path": path, "value": value} for path, value in changes]
        stack.gateway.update_usage_plan(usagePlanId=stack.plan_id, patchOperations=operations)
        edge.reload()
        answers = [await client.get("/models") for _ in range(5)]
    await edge.aclose()
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].json()["error"]["code"] == "quota_exceeded"
    assert answers[-1].headers["retry-after"] == "3600"


@pytest.mark.anyio
async def test_refused_requests_cost_the_plan_nothing_but_invalid_bodies_do(stack: Stack, target: str) -> None:
    edge = stack.deploy(plan={"quota": {"limit": 2, "period": "DAY"}}).edge(FixedBalancer(target))
    async with caller(edge) as client:
        for _ in range(3):
            assert (await client.get("/models", headers={"authorization": "Bearer bad"})).status_code == 401
            assert (await client.get("/nowhere")).status_code == 403
        invalid = [await client.post("/chat/completions", json={}) for _ in range(2)]
        assert {answer.status_code for answer in invalid} == {400}  # validated after the plan has counted them
        assert (await client.get("/models")).status_code == 429
    await edge.aclose()


@pytest.mark.anyio
async def test_stage_method_settings_throttle(stack: Stack, target: str) -> None:
    stack.deploy()
    stack.patch_stage(("/*/*/throttling/rateLimit", "0.001"), ("/*/*/throttling/burstLimit", "3"))
    edge = stack.edge(FixedBalancer(target))
    async with caller(edge) as client:
        statuses = [(await client.get("/models")).status_code for _ in range(5)]
        other = (await client.get("/models/a")).status_code
    await edge.aclose()
    assert statuses == [200, 200, 200, 429, 429]
    assert other == 200
