"""Budgets hold to the token, whoever asks in parallel and whichever server dies."""

import asyncio
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from model_image.budget_rows import Reservation
from model_image.budget_table import BudgetError, OutOfBudget
from model_image.budgets import Budgets
from model_image.standing import Bound, Limits, Period, Standing
from tests.model_image.budget_stand import (
    DAY,
    LIFETIME,
    TABLE,
    Clock,
    Mortal,
    Serial,
    a_table,
    in_loop,
    open_reservations,
)


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Serial]:
    with a_table() as table:
        yield table


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budgets(dynamodb: Any, clock: Clock) -> Budgets:
    return Budgets(dynamodb, table=TABLE, lifetime=LIFETIME, clock=clock)


@pytest.fixture
def consumer() -> str:
    return f"team-{uuid.uuid4()}"


async def reserve(budgets: Budgets, consumer: str, limits: Limits, tokens: int) -> Reservation:
    reservation, _ = await budgets.reserve(consumer, limits, tokens)
    return reservation


def committed(standing: Standing) -> tuple[int, int]:
    return standing.day.committed, standing.month.committed


@in_loop
async def test_what_was_not_used_is_given_back(budgets: Budgets, consumer: str) -> None:
    limits = Limits(day=100, month=1000)
    first, standing = await budgets.reserve(consumer, limits, 80)
    assert standing.day == Period(used=0, reserved=80, reset_seconds=43_200)
    assert standing.tightest(limits) == Bound("day", 100, 80, 43_200)
    with pytest.raises(OutOfBudget) as refused:
        await budgets.reserve(consumer, limits, 21)
    assert refused.value.standing.tightest(limits).left == 20
    standing = await budgets.settle(first, used=30)
    assert standing.day == Period(used=30, reserved=0, reset_seconds=43_200)
    assert standing.month == Period(used=30, reserved=0, reset_seconds=6 * 86_400 + 43_200)
    _, standing = await budgets.reserve(consumer, limits, 70)
    assert standing.tightest(limits).left == 0


@in_loop
async def test_a_request_beyond_a_limit_never_fits(budgets: Budgets, consumer: str) -> None:
    for limits in (Limits(day=10), Limits(month=10), Limits(day=10, month=10)):
        with pytest.raises(OutOfBudget):
            await budgets.reserve(consumer, limits, 11)
    assert committed(await budgets.standing(consumer)) == (0, 0)


@in_loop
async def test_a_day_begins_anew_and_the_month_goes_on(budgets: Budgets, consumer: str, clock: Clock) -> None:
    limits = Limits(day=100, month=150)
    await budgets.settle(await reserve(budgets, consumer, limits, 100), used=100)
    clock.now += DAY
    assert committed(await budgets.standing(consumer)) == (0, 100)
    with pytest.raises(OutOfBudget) as refused:
        await budgets.reserve(consumer, limits, 51)
    assert refused.value.standing.refusing(limits, 51).period == "month"
    _, standing = await budgets.reserve(consumer, limits, 50)
    assert committed(standing) == (50, 150)
    clock.now += 7 * DAY  # December
    _, standing = await budgets.reserve(consumer, limits, 100)
    assert committed(standing) == (100, 100)


@in_loop
async def test_a_request_over_midnight_is_counted_in_its_own_day(budgets: Budgets, consumer: str, clock: Clock) -> None:
    limits = Limits(day=100)
    clock.now += DAY / 2 - 20
    late = await reserve(budgets, consumer, limits, 60)
    clock.now += 40
    _, standing = await budgets.reserve(consumer, limits, 100)
    assert (standing.day.reserved, standing.month.reserved) == (100, 160)
    assert committed(await budgets.settle(late, used=10)) == (100, 110)


@in_loop
async def test_a_server_whose_clock_is_behind_counts_in_the_day_that_has_begun(
    budgets: Budgets, consumer: str, clock: Clock
) -> None:
    limits = Limits(day=100)
    clock.now += DAY / 2 + 1
    await budgets.reserve(consumer, limits, 60)
    clock.now -= 2
    with pytest.raises(OutOfBudget):
        await budgets.reserve(consumer, limits, 41)
    reservation, standing = await budgets.reserve(consumer, limits, 40)
    assert (reservation.day, standing.day.committed) == ("2026-11-25", 100)
    assert committed(await budgets.settle(reservation, used=0)) == (60, 60)


@in_loop
async def test_what_a_dead_server_reserved_stays_counted_and_is_forgotten(
    budgets: Budgets, dynamodb: Serial, consumer: str, clock: Clock
) -> None:
    limits = Limits(day=100)
    lost = await reserve(budgets, consumer, limits, 40)
    clock.now += LIFETIME + 1
    assert (await budgets.standing(consumer)).day == Period(used=40, reserved=0, reset_seconds=43_139)
    kept = await reserve(budgets, consumer, limits, 10)
    row = dynamodb.row(consumer)
    assert (open_reservations(row), row["lost_month"]) == ([kept.attribute], "40")
    assert committed(await budgets.settle(lost, used=1)) == (50, 50)


@in_loop
async def test_settling_twice_counts_once(budgets: Budgets, consumer: str) -> None:
    reservation = await reserve(budgets, consumer, Limits(day=100), 40)
    await budgets.settle(reservation, used=10)
    assert committed(await budgets.settle(reservation, used=10)) == (10, 10)


@in_loop
async def test_whoever_watches_the_table_sees_limits_and_refusals(
    budgets: Budgets, dynamodb: Serial, consumer: str
) -> None:
    await budgets.reserve(consumer, Limits(day=100, month=1000), 90)
    assert {name: dynamodb.row(consumer)[name] for name in ("limit_day", "limit_month")} == {
        "limit_day": "100",
        "limit_month": "1000",
    }
    assert "refused_day" not in dynamodb.row(consumer)
    before = dynamodb.calls
    for _ in range(3):
        with pytest.raises(OutOfBudget):
            await budgets.reserve(consumer, Limits(day=100), 20)
    assert dynamodb.calls - before == 4  # each refused by one update, and noted by one more
    row = dynamodb.row(consumer)
    assert row["refused_day"] == "2026-11-24"
    assert "refused_month" not in row
    await budgets.reserve(consumer, Limits(day=100), 1)
    assert "limit_month" not in dynamodb.row(consumer)


@in_loop
async def test_a_table_that_does_not_answer_is_named(dynamodb: Any, consumer: str) -> None:
    budgets = Budgets(dynamodb, table="no-such-table", lifetime=LIFETIME)
    with pytest.raises(BudgetError, match="table no-such-table of token budgets does not answer: ResourceNotFound"):
        await budgets.reserve(consumer, Limits(day=1), 1)
    await budgets.close(seconds=0)


class Forgetful:
    """A table that does what it is asked and whose first answer is lost; `gate` holds every call up."""

    def __init__(self, table: Serial) -> None:
        self._table = table
        self.lost = 1
        self.gate = threading.Event()
        self.gate.set()

    def update_item(self, **arguments: Any) -> Any:
        self.gate.wait(timeout=30)
        answer = self._table.update_item(**arguments)
        if "SET r_" in arguments["UpdateExpression"].replace("SET limit_day = :limit_day, ", "SET ") and self.lost:
            self.lost -= 1
            raise ReadTimeoutError(endpoint_url="https://dynamodb")
        return answer

    def get_item(self, **arguments: Any) -> Any:
        return self._table.get_item(**arguments)


@in_loop
async def test_a_reservation_whose_answer_was_lost_is_taken_back(dynamodb: Serial, clock: Clock, consumer: str) -> None:
    budgets = Budgets(Forgetful(dynamodb), table=TABLE, lifetime=LIFETIME, clock=clock)
    await budgets.settle(await retried(budgets, consumer), used=5)
    await budgets.close(seconds=10)
    row = dynamodb.row(consumer)
    assert (row["used_day"], open_reservations(row)) == ("5", [])


async def retried(budgets: Budgets, consumer: str) -> Reservation:
    with pytest.raises(BudgetError, match="ReadTimeoutError"):
        await budgets.reserve(consumer, Limits(day=100), 60)
    while (await budgets.standing(consumer)).day.committed:
        pass
    return await reserve(budgets, consumer, Limits(day=100), 60)


@in_loop
async def test_asking_the_table_twice_for_one_reservation_reserves_once(
    budgets: Budgets, dynamodb: Serial, consumer: str
) -> None:
    reservation = await reserve(budgets, consumer, Limits(day=100), 60)
    again, standing = budgets._table.reserve(reservation, Limits(day=100), at=reservation.until, enforced=True)
    assert again == reservation
    assert committed(standing) == (60, 60)


@pytest.mark.parametrize("how", ["slow", "left"])
@in_loop
async def test_what_comes_through_after_its_caller_is_gone_is_taken_back(
    dynamodb: Serial, clock: Clock, consumer: str, how: str
) -> None:
    table = Forgetful(dynamodb)
    table.lost = 0
    table.gate.clear()
    budgets = Budgets(table, table=TABLE, lifetime=LIFETIME, clock=clock, patience=0.05 if how == "slow" else 30)
    asking = asyncio.create_task(reserve(budgets, consumer, Limits(day=100), 60))
    if how == "slow":
        with pytest.raises(BudgetError, match=r"does not answer: not within 0\.05 s"):
            await asking
    else:
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
    table.gate.set()
    await budgets.close(seconds=10)
    row = dynamodb.row(consumer)
    assert (row["used_day"], open_reservations(row)) == ("0", [])


@in_loop
async def test_settling_goes_on_until_the_table_is_back(
    dynamodb: Serial, clock: Clock, consumer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_image.budgets._FIRST_PAUSE", 0.01)
    way, failed = Mortal(dynamodb), asyncio.Event()
    budgets = Budgets(way, table=TABLE, lifetime=LIFETIME, clock=clock, on_failure=lambda *_: failed.set())
    reservation = await reserve(budgets, consumer, Limits(day=100), 60)
    way.dead = True
    budgets.settle_later(reservation, used=7)
    await failed.wait()
    way.dead = False
    await budgets.close(seconds=10)
    assert dynamodb.row(consumer)["used_day"] == "7"


@given(
    day=st.none() | st.integers(1, 100),
    month=st.none() | st.integers(1, 100),
    used=st.tuples(st.integers(0, 100), st.integers(0, 100)),
    tokens=st.integers(1, 120),
)
@settings(max_examples=50)
def test_the_limit_that_is_named_is_one_that_is_in_the_way(
    day: int | None, month: int | None, used: tuple[int, int], tokens: int
) -> None:
    limits, standing = Limits(day, month), Standing(Period(used[0], 0, 10), Period(used[1], 0, 1000))
    if not limits.any:
        assert standing.bounds(limits) == []
        return
    bound = standing.refusing(limits, tokens)
    in_the_way = [each for each in standing.bounds(limits) if each.committed + tokens > each.limit]
    assert bound in (in_the_way or standing.bounds(limits))
    assert standing.tightest(limits).left == min(each.left for each in standing.bounds(limits))


@in_loop
async def test_what_waits_for_one_row_goes_together(budgets: Budgets, dynamodb: Serial, consumer: str) -> None:
    limits = Limits(day=1000, month=5000)
    begun = await reserve(budgets, consumer, limits, 10)
    before = dynamodb.calls
    made = await asyncio.gather(*(reserve(budgets, consumer, limits, 10) for _ in range(60)))
    assert dynamodb.calls - before <= 6  # one that was alone, and two or three that 40 at most shared
    assert committed(await budgets.standing(consumer)) == (610, 610)
    before = dynamodb.calls
    await asyncio.gather(
        *(budgets.settle(each, used=number % 3) for number, each in enumerate([begun, *made])),
        *(reserve(budgets, consumer, limits, 1) for _ in range(30)),
    )
    assert dynamodb.calls - before <= 8
    row = dynamodb.row(consumer)
    assert int(row["used_day"]) == int(row["used_month"]) == sum(number % 3 for number in range(61)) + 30
    assert len(open_reservations(row)) == 30


@in_loop
async def test_of_what_goes_together_as_much_as_fits_is_let_in(budgets: Budgets, consumer: str) -> None:
    limits = Limits(day=105)
    await reserve(budgets, consumer, limits, 5)
    answers = await asyncio.gather(
        *(budgets.reserve(consumer, limits, 10) for _ in range(40)),
        *(budgets.reserve(consumer, limits, 200) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, tuple) for each in answers) == 10
    assert sum(isinstance(each, OutOfBudget) for each in answers) == 35
    assert committed(await budgets.standing(consumer)) == (105, 105)


@in_loop
async def test_one_that_expired_does_not_keep_others_from_being_settled(
    budgets: Budgets, dynamodb: Serial, consumer: str, clock: Clock
) -> None:
    limits = Limits(day=1000)
    old = [await reserve(budgets, consumer, limits, 10) for _ in range(3)]
    clock.now += LIFETIME + 1
    new = await asyncio.gather(*(reserve(budgets, consumer, limits, 10) for _ in range(5)))
    await asyncio.gather(*(budgets.settle(each, used=1) for each in [*old, *new]))
    row = dynamodb.row(consumer)
    assert (row["used_day"], row["lost_month"], open_reservations(row)) == ("35", "30", [])


@in_loop
async def test_all_that_wait_hear_of_a_table_that_does_not_answer(
    dynamodb: Serial, clock: Clock, consumer: str
) -> None:
    way = Mortal(dynamodb)
    way.dead = True
    budgets = Budgets(way, table=TABLE, lifetime=LIFETIME, clock=clock)
    answers = await asyncio.gather(
        *(budgets.reserve(consumer, Limits(day=10), 1) for _ in range(50)), return_exceptions=True
    )
    assert [type(each) for each in answers] == [BudgetError] * 50
