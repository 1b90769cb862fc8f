"""Budgets hold to the token, whoever asks in parallel and whichever server dies."""

import asyncio
import functools
import random
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from model_image.budgets import BudgetError, Budgets, Limits, OutOfBudget, Reservation

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test in an event loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Serial:
    """One call at a time, as DynamoDB does for one row; moto by itself lets two threads into one update."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()

    def update_item(self, **arguments: Any) -> Any:
        with self._lock:
            return self._client.update_item(**arguments)

    def get_item(self, **arguments: Any) -> Any:
        with self._lock:
            return self._client.get_item(**arguments)


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Serial]:
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-east-1")
        client.create_table(
            TableName="budgets",
            KeySchema=[
                {"AttributeName": "consumer", "KeyType": "HASH"},
                {"AttributeName": "month", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("consumer", "month")],
            BillingMode="PAY_PER_REQUEST",
        )
        yield Serial(client)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budgets(dynamodb: Any, clock: Clock) -> Iterator[Budgets]:
    made = Budgets(dynamodb, table="budgets", lifetime=60, clock=clock)
    yield made
    made.close()


@pytest.fixture
def consumer() -> str:
    return f"team-{uuid.uuid4()}"


@in_loop
async def test_what_was_not_used_is_given_back(budgets: Budgets, consumer: str) -> None:
    limits = Limits(day=100, month=1000)
    first = await budgets.reserve(consumer, limits, 80)
    assert (first.standing.left(limits), first.standing.reserved) == (20, 80)
    with pytest.raises(OutOfBudget) as refused:
        await budgets.reserve(consumer, limits, 21)
    assert refused.value.standing.left(limits) == 20
    assert refused.value.standing.reset_seconds == DAY / 2
    standing = await budgets.settle(first, used=30)
    assert (standing.day, standing.month, standing.reserved) == (30, 30, 0)
    assert (await budgets.reserve(consumer, limits, 70)).standing.left(limits) == 0


@in_loop
async def test_a_request_beyond_a_limit_never_fits(budgets: Budgets, consumer: str) -> None:
    for limits in (Limits(day=10), Limits(month=10), Limits(day=10, month=10)):
        with pytest.raises(OutOfBudget):
            await budgets.reserve(consumer, limits, 11)
    assert (await budgets.standing(consumer)).month == 0


@in_loop
async def test_a_day_begins_anew_and_the_month_goes_on(budgets: Budgets, consumer: str, clock: Clock) -> None:
    limits = Limits(day=100, month=150)
    await budgets.settle(await budgets.reserve(consumer, limits, 100), used=100)
    clock.now += DAY
    with pytest.raises(OutOfBudget):
        await budgets.reserve(consumer, limits, 51)
    standing = (await budgets.reserve(consumer, limits, 50)).standing
    assert (standing.day, standing.month) == (50, 150)
    clock.now += 7 * DAY  # December
    assert (await budgets.reserve(consumer, limits, 100)).standing.month == 100


@in_loop
async def test_a_request_over_midnight_is_counted_in_its_own_day(budgets: Budgets, consumer: str, clock: Clock) -> None:
    limits = Limits(day=100)
    clock.now += DAY / 2 - 20
    late = await budgets.reserve(consumer, limits, 60)
    clock.now += 40
    await budgets.reserve(consumer, limits, 100)
    standing = await budgets.settle(late, used=10)
    assert (standing.day, standing.month) == (100, 110)


@in_loop
async def test_what_a_dead_server_reserved_stays_counted_and_is_forgotten(
    budgets: Budgets, consumer: str, clock: Clock
) -> None:
    limits = Limits(day=100)
    lost = await budgets.reserve(consumer, limits, 40)
    clock.now += 61
    assert (await budgets.standing(consumer)).reserved == 0
    await budgets.reserve(consumer, limits, 10)
    standing = await budgets.standing(consumer)
    assert (standing.day, standing.reserved) == (50, 10)
    assert (await budgets.settle(lost, used=1)).day == 50


@in_loop
async def test_settling_twice_counts_once(budgets: Budgets, consumer: str) -> None:
    reservation = await budgets.reserve(consumer, Limits(day=100), 40)
    await budgets.settle(reservation, used=10)
    assert (await budgets.settle(reservation, used=10)).day == 10


@in_loop
async def test_a_table_that_does_not_answer_is_named(dynamodb: Any, consumer: str) -> None:
    budgets = Budgets(dynamodb, table="no-such-table", lifetime=60)
    with pytest.raises(BudgetError, match="table no-such-table of token budgets does not answer: ResourceNotFound"):
        await budgets.reserve(consumer, Limits(day=1), 1)
    budgets.close()


@given(seed=st.integers(0, 2**32), sizes=st.sampled_from([(97, 3), (1000, 50), (10_000, 400)]))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_64_parallel_clients_never_pass_the_limit_and_come_within_one_request_of_it(
    dynamodb: Any, seed: int, sizes: tuple[int, int]
) -> None:
    asyncio.run(_parallel(dynamodb, seed=seed, limit=sizes[0], biggest=sizes[1]))


async def _parallel(dynamodb: Any, *, seed: int, limit: int, biggest: int) -> None:
    luck, clock = random.Random(seed), Clock()
    limits, name = Limits(day=limit), f"team-{uuid.uuid4()}"
    servers = [Budgets(dynamodb, table="budgets", lifetime=60, clock=clock) for _ in range(2)]
    delivered, lost = 0, 0

    async def client() -> None:
        nonlocal delivered, lost
        for _ in range(3):
            tokens = luck.randint(1, biggest)
            try:
                reservation: Reservation = await luck.choice(servers).reserve(name, limits, tokens)
            except OutOfBudget as refusal:
                left = refusal.standing.left(limits)
                assert left is not None
                assert left < tokens
                return
            used = luck.randint(0, tokens)
            delivered += used
            if luck.random() < 0.1:  # its server is killed: nobody settles
                lost += tokens - used
            else:
                await luck.choice(servers).settle(reservation, used=used)

    await asyncio.gather(*(client() for _ in range(64)))
    standing = await servers[0].standing(name)
    assert standing.day == delivered + lost
    assert standing.day <= limit
    while True:  # the rest, one by one
        try:
            reservation = await servers[0].reserve(name, limits, biggest)
        except OutOfBudget:
            break
        await servers[0].settle(reservation, used=biggest)
        delivered += biggest
    assert limit - biggest < delivered + lost <= limit
    clock.now += 61
    with pytest.raises(OutOfBudget):
        await servers[0].reserve(name, limits, biggest)
    assert (await servers[0].standing(name)).reserved == 0
    for server in servers:
        server.close()
