"""The fair queue: nothing is lost, order is kept within a consumer, and no consumer gets more than its share."""

import copy
import itertools
import pickle
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model_image.batching.caller import Caller
from model_image.batching.fair_queue import FairQueue

Item = tuple[Caller, int, int]  # whose, its number, its cost

callers = st.builds(Caller, st.sampled_from("abc"), st.booleans())
costs = st.integers(1, 50)


def filled(*items: Item) -> FairQueue[Item]:
    queue: FairQueue[Item] = FairQueue()
    for item in items:
        queue.add(item, caller=item[0], cost=item[2])
    return queue


def emptied(queue: FairQueue[Item]) -> list[Item]:
    return [queue.pop() for _ in range(len(queue))]


class Operations(RuleBasedStateMachine):
    """Any mix of operations, against plain lists of what waits of every consumer and class."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[Item] = FairQueue()
        self.waiting: dict[Caller, list[Item]] = defaultdict(list)
        self.popped: list[Item] = []
        self.numbers = itertools.count()

    @rule(caller=callers, cost=costs)
    def add(self, caller: Caller, cost: int) -> None:
        item = (caller, next(self.numbers), cost)
        self.queue.add(item, caller=caller, cost=cost)
        self.waiting[caller].append(item)

    @precondition(lambda self: len(self.queue) > 0)
    @rule()
    def pop(self) -> None:
        expected = self.queue.peek()
        item = self.queue.pop()
        assert item == expected
        assert item == self.waiting[item[0]].pop(0)
        if item[0].background:
            assert not any(items for caller, items in self.waiting.items() if not caller.background)
        self.popped.append(item)

    @precondition(lambda self: self.popped)
    @rule()
    def put_back(self) -> None:
        item = self.popped.pop()
        self.queue.put_back(item, caller=item[0], cost=item[2])
        self.waiting[item[0]].insert(0, item)

    @rule(divisor=st.integers(1, 4), charged=st.booleans())
    def remove_some(self, divisor: int, charged: bool) -> None:
        remove = self.queue.take if charged else self.queue.discard
        removed = remove(lambda item: item[1] % divisor == 0)
        expected = [item for items in self.waiting.values() for item in items if item[1] % divisor == 0]
        assert sorted(removed, key=lambda item: item[1]) == sorted(expected, key=lambda item: item[1])
        for caller, items in self.waiting.items():
            self.waiting[caller] = [item for item in items if item[1] % divisor]

    @invariant()
    def counts_are_right_and_iteration_foretells_the_order(self) -> None:
        items = [item for items in self.waiting.values() for item in items]
        assert len(self.queue) == len(items)
        assert self.queue.tokens == sum(cost for _, _, cost in items)
        assert list(self.queue) == emptied(copy.deepcopy(self.queue))
        assert (self.queue.peek() is None) == (not items)


TestOperations = Operations.TestCase


@given(st.lists(st.tuples(st.sampled_from("ab"), costs), max_size=60), st.data())
def test_two_consumers_that_always_wait_are_served_alike(queued: list[tuple[str, int]], data: st.DataObject) -> None:
    """At every moment at which both have waited from the start, their costs differ by one largest item of each."""
    queue = filled(*((Caller(consumer), place, cost) for place, (consumer, cost) in enumerate(queued)))
    left = Counter(consumer for consumer, _ in queued)
    largest = {name: max((cost for consumer, cost in queued if consumer == name), default=0) for name in "ab"}
    served = Counter[str]()

    while left["a"] and left["b"]:
        item = queue.pop()
        if data.draw(st.integers(0, 9), label="preempted") == 0:
            queue.put_back(item, caller=item[0], cost=item[2])
            continue
        served[item[0].consumer] += item[2]
        left[item[0].consumer] -= 1
        assert abs(served["a"] - served["b"]) <= largest["a"] + largest["b"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), costs), min_size=1, max_size=60), st.data(), costs)
def test_a_newcomer_waits_for_one_item_of_every_other_consumer(
    queued: list[tuple[str, int]], data: st.DataObject, cost: int
) -> None:
    queue = filled(*((Caller(consumer), place, size) for place, (consumer, size) in enumerate(queued)))
    for _ in range(data.draw(st.integers(0, len(queued) - 1), label="served before")):
        queue.pop()
    newcomer = (Caller("new"), -1, cost)
    queue.add(newcomer, caller=newcomer[0], cost=cost)

    before = Counter(caller.consumer for caller, _, _ in itertools.takewhile(lambda item: item != newcomer, queue))

    assert all(count == 1 for count in before.values())


def test_a_flood_does_not_starve_a_quiet_consumer() -> None:
    queue = filled(*((Caller("flood"), number, 10) for number in range(1000)))
    waits = []
    for round_ in range(100):
        quiet = (Caller("quiet"), round_, 10)
        queue.add(quiet, caller=quiet[0], cost=10)
        waits.append(next(turn for turn in itertools.count() if queue.pop() == quiet))
    assert max(waits) <= 1


def test_what_a_consumer_had_alone_is_not_held_against_it() -> None:
    first = Caller("first")
    queue = filled((first, 1, 1000), (first, 2, 1000))
    queue.pop()
    queue.pop()

    for item in ((first, 3, 10), (Caller("second"), 4, 10)):
        queue.add(item, caller=item[0], cost=10)

    assert [item[1] for item in emptied(queue)] == [3, 4]


def test_coming_back_at_once_does_not_start_again_from_zero() -> None:
    greedy, patient = Caller("greedy"), Caller("patient")
    queue = filled((greedy, 1, 100), (patient, 2, 10), (patient, 3, 10), (patient, 4, 10))

    order = [queue.pop()]
    queue.add((greedy, 5, 100), caller=greedy, cost=100)
    order += emptied(queue)

    assert [item[1] for item in order] == [1, 2, 3, 4, 5]


def test_what_is_put_back_is_next_again_and_was_not_charged() -> None:
    a, b = Caller("a"), Caller("b")
    queue = filled((a, 1, 10), (a, 2, 10), (b, 3, 10), (b, 4, 10))

    for _ in range(3):
        preempted = queue.pop()
        queue.put_back(preempted, caller=preempted[0], cost=preempted[2])

    assert [item[1] for item in emptied(queue)] == [1, 3, 2, 4]


def test_background_items_wait_and_are_kept() -> None:
    batch = Caller("a", background=True)
    queue = filled((batch, 1, 1), (batch, 2, 1), (Caller("a"), 3, 99), (Caller("b"), 4, 99))

    assert [item[1] for item in emptied(queue)] == [3, 4, 1, 2]


def test_items_that_travel_along_are_charged_within_bounds() -> None:
    """However often one consumer's items fit the other's batches, it waits for one batch's worth at most after it."""
    rider, driver = Caller("rider"), Caller("driver")
    numbers = itertools.count()
    queue: FairQueue[Item] = FairQueue()
    for _ in range(50):
        queue.add((driver, next(numbers), 1), caller=driver, cost=1)
        for _ in range(5):
            queue.add((rider, next(numbers), 10), caller=rider, cost=10)
        queue.add((driver, next(numbers), 1), caller=driver, cost=1)
        queue.pop()
        queue.take(lambda item: item[0] == rider)
    queue.add((rider, -1, 10), caller=rider, cost=10)
    for _ in range(100):
        queue.add((driver, next(numbers), 10), caller=driver, cost=10)

    waited = sum(item[2] for item in itertools.takewhile(lambda item: item[0] == driver, queue))

    assert waited <= 50 + 10


def test_consumers_that_went_are_forgotten() -> None:
    queue: FairQueue[int] = FairQueue()
    sizes = []
    for number in range(500):
        queue.add(number, caller=Caller("always"), cost=10)
        queue.add(number, caller=Caller(f"passer-{number}"), cost=10)
        queue.pop()
        queue.pop()
        queue.add(number, caller=Caller("always"), cost=10)
        queue.discard(lambda item, number=number: item < number)  # type: ignore[misc]
        sizes.append(len(pickle.dumps(queue)))
    assert sizes[-1] < sizes[10] * 1.5


def test_an_empty_queue_and_a_cost_of_nothing() -> None:
    queue: FairQueue[int] = FairQueue()

    assert queue.peek() is None
    with pytest.raises(IndexError, match="empty"):
        queue.pop()
    for put in (queue.add, queue.put_back):
        with pytest.raises(ValueError, match="0 tokens"):
            put(1, caller=Caller(), cost=0)
    assert len(queue) == 0
