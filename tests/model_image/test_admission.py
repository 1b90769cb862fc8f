"""Admission: never over its bounds, every place given back, shares that hold, advice from what was measured."""

import asyncio
from contextlib import AbstractContextManager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model_image.admission import Admission, AdmissionLimits, Place, Shares
from model_image.api_errors import ApiError
from model_image.batching.caller import Caller
from model_image.batching.fair_queue import FairQueue

LIMITS = AdmissionLimits(requests=12, tokens=400)
RESERVES = (1, 50)
CLASSES = [Caller(consumer, background) for consumer in "abc" for background in (False, True)]

Inside = tuple[AbstractContextManager[Place], Place]


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def enter(admission: Admission, caller: Caller, tokens: int | None = None, *, seconds: float = 900) -> Inside:
    """One request inside; leaves again when its tokens are refused."""
    context = admission.place(caller, seconds=seconds)
    place = context.__enter__()
    if tokens is not None:
        try:
            place.charge(tokens)
        except ApiError as error:
            leave((context, place), error)
            raise
    return context, place


def refused(admission: Admission, caller: Caller, tokens: int | None = None, *, seconds: float = 900) -> ApiError:
    with pytest.raises(ApiError) as caught:
        enter(admission, caller, tokens, seconds=seconds)
    return caught.value


def attempt(admission: Admission, caller: Caller) -> Inside | None:
    """One request inside, or None where it is told to come back."""
    try:
        return enter(admission, caller)
    except ApiError as error:
        if (error.status, error.code) != (429, "overloaded") or error.retry_after not in range(1, 61):
            raise
        return None


def leave(inside: Inside, error: Exception | None = None) -> None:
    """Ends a request, well or with an error."""
    inside[0].__exit__(type(error) if error else None, error, None)


class Operations(RuleBasedStateMachine):
    """Requests that come, tell their tokens and leave, in any order, of three consumers and both classes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.admission = Admission(LIMITS, clock=self.clock)
        self.inside: list[Inside] = []

    def held(self, caller: Caller) -> int:
        return sum(place.caller == caller for _, place in self.inside)

    @rule(caller=st.sampled_from(CLASSES))
    def come(self, caller: Caller) -> None:
        before, held = len(self.inside), self.held(caller)
        inside = attempt(self.admission, caller)
        if inside is None:
            assert before, "an empty server lets everyone in"
            return
        self.inside.append(inside)
        if 2 * (before + 1) > LIMITS.requests:
            sharing = {place.caller for _, place in self.inside if place.caller.background == caller.background}
            assert held < max(1, LIMITS.requests // len(sharing))
        if before >= LIMITS.requests:
            assert held == 0
        if caller.background and before:
            assert before + 1 <= LIMITS.requests // 2

    @precondition(lambda self: self.inside)
    @rule(which=st.integers(0, 20), tokens=st.integers(1, 300))
    def charge(self, which: int, tokens: int) -> None:
        context, place = self.inside[which % len(self.inside)]
        if place.tokens:
            return
        held = {each.caller for _, each in self.inside if each.tokens}
        before = self.admission.tokens
        try:
            place.charge(tokens)
        except ApiError as error:
            assert before, "an empty server lets everyone in"
            self.inside.remove((context, place))
            leave((context, place), error)
            return
        if before:
            bound = LIMITS.tokens // 2 if place.caller.background else LIMITS.tokens + RESERVES[1]
            assert self.admission.tokens <= bound
            assert self.admission.tokens <= LIMITS.tokens or place.caller not in held

    @precondition(lambda self: self.inside)
    @rule(which=st.integers(0, 20), seconds=st.floats(0, 100))
    def go(self, which: int, seconds: float) -> None:
        self.clock.now += seconds
        leave(self.inside.pop(which % len(self.inside)))

    @invariant()
    def the_books_are_right_and_within_bounds(self) -> None:
        assert self.admission.inside == len(self.inside) <= LIMITS.requests + RESERVES[0]
        assert self.admission.tokens == sum(place.tokens for _, place in self.inside)


TestOperations = Operations.TestCase
TestOperations.settings = settings(max_examples=60)


def test_a_lone_consumer_has_everything_but_the_reserve() -> None:
    admission = Admission(AdmissionLimits(requests=16, tokens=10_000))
    flood = Caller("flood")
    places = [enter(admission, flood) for _ in range(16)]

    refused(admission, flood)
    assert admission.inside == 16
    quiet = [enter(admission, Caller(name)) for name in ("quiet", "silent")]
    refused(admission, Caller("quiet"))
    refused(admission, Caller("third"))

    for inside in places + quiet:
        leave(inside)
    assert (admission.inside, admission.tokens) == (0, 0)


def test_a_flood_gives_way_as_its_requests_end() -> None:
    """Both ask for a place whenever one is free, the flood first; at last each holds half."""
    admission = Admission(AdmissionLimits(requests=16, tokens=10_000))
    flood, other = Caller("flood"), Caller("other")
    places = {flood: [enter(admission, flood) for _ in range(16)], other: [enter(admission, other)]}

    for _ in range(20):
        longest = max(places.values(), key=len)
        leave(longest.pop(0))
        for caller in (flood, other):
            inside = attempt(admission, caller)
            if inside is not None:
                places[caller].append(inside)

    assert {caller.consumer: len(held) for caller, held in places.items()} == {"flood": 8, "other": 8}


@pytest.mark.parametrize("limit", range(1, 40))
def test_background_work_never_takes_what_interactive_work_needs(limit: int) -> None:
    shares = Shares(limit)
    batch, person = Caller("a", background=True), Caller("a")
    while shares.admits(batch, 1):
        shares.take(batch, 1)
    taken = shares.total
    while shares.admits(person, 1):
        shares.take(person, 1)

    assert taken <= max(1, limit // 2)
    assert shares.held(person) >= limit - taken
    assert not shares.admits(Caller("b", background=True), 1)


def test_what_is_larger_than_the_limit_is_served_alone() -> None:
    admission = Admission(AdmissionLimits(requests=8, tokens=100))
    large = enter(admission, Caller("a"), 5000)

    refused(admission, Caller("b"), 1)
    leave(large)

    leave(enter(admission, Caller("b"), 1))


def test_tokens_added_later_are_counted_and_never_refused() -> None:
    admission = Admission(AdmissionLimits(requests=8, tokens=100))
    inside = enter(admission, Caller("a"), 60)

    inside[1].charge(300)

    assert admission.tokens == 360
    refused(admission, Caller("b"), 10)
    leave(inside)
    assert admission.tokens == 0


def busy_server(clock: Clock, *, tokens: int) -> tuple[Admission, list[Inside]]:
    """Full with one consumer's requests, of which one has ended every two seconds: 50 tokens a second for 100 each."""
    admission = Admission(AdmissionLimits(requests=4, tokens=tokens), clock=clock)
    places = [enter(admission, Caller("flood"), 100) for _ in range(4)]
    for _ in range(10):
        clock.now += 2
        leave(places.pop(0))
        places.append(enter(admission, Caller("flood"), 100))
    return admission, places


def test_the_advice_is_the_work_inside_by_the_measured_rate() -> None:
    clock = Clock()
    admission, _ = busy_server(clock, tokens=1000)

    advice = refused(admission, Caller("flood")).retry_after

    assert advice == pytest.approx(400 / 50, abs=1)


def test_time_in_which_there_was_little_to_do_does_not_slow_the_measured_rate() -> None:
    clock = Clock()
    admission, places = busy_server(clock, tokens=1000)
    for inside in places:
        leave(inside)

    clock.now += 3600
    places = [enter(admission, Caller("flood"), 100) for _ in places]

    advice = refused(admission, Caller("flood")).retry_after
    assert advice is not None
    assert advice <= 10


def test_who_would_still_wait_at_its_deadline_is_refused_now() -> None:
    clock = Clock()
    admission, places = busy_server(clock, tokens=1000)
    leave(places.pop())

    assert refused(admission, Caller("flood"), 100, seconds=4).code == "overloaded"
    # Fair queueing lets one that has nothing inside begin sooner, so its wait is shorter than the queue is long.
    leave(enter(admission, Caller("quiet"), 20, seconds=4))
    leave(enter(admission, Caller("flood"), 100, seconds=60))


def test_requests_that_fail_say_nothing_about_the_rate() -> None:
    clock = Clock()
    admission = Admission(AdmissionLimits(requests=4, tokens=1000), clock=clock)
    for _ in range(20):
        inside = enter(admission, Caller("a"), 100)
        clock.now += 1
        leave(inside, ConnectionError())
    inside_now = [enter(admission, Caller("a"), 100) for _ in range(4)]

    assert len(inside_now) == admission.inside
    assert refused(admission, Caller("a")).retry_after == 1


def test_draining_waits_for_those_inside_and_refuses_others() -> None:
    async def scenario() -> None:
        admission = Admission(AdmissionLimits(requests=2, tokens=100))
        with admission.place(Caller(), seconds=1):
            assert not await admission.drain(seconds=0.01)
            error = refused(admission, Caller("other"))
            assert (error.status, error.code, error.retry_after) == (503, "draining", 1)
        assert await admission.drain(seconds=0.01)

    asyncio.run(scenario())


@given(st.integers(1, 64), st.data())
def test_a_floods_neighbour_waits_at_most_twice_as_long_as_alone(cost: int, data: st.DataObject) -> None:
    """In batches of an encoder's queue, of which the one that is being computed counts as a whole."""
    sizes = data.draw(st.lists(st.integers(1, 64), min_size=1, max_size=8))

    alone = batches_waited(quiet=cost, flood=[])
    beside = batches_waited(quiet=cost, flood=sizes)

    assert max(beside) <= 2 * max(alone)


def batches_waited(*, quiet: int, flood: list[int], batch_tokens: int = 128, rounds: int = 40) -> list[int]:
    """How many batches every request of a quiet consumer takes while another fills all it is given."""
    admission = Admission(AdmissionLimits(requests=16, tokens=2048))
    queue: FairQueue[tuple[Inside, int]] = FairQueue()
    arrived = 0
    waited: list[int] = []
    mine: Inside | None = None
    for round_ in range(rounds):
        batch = []
        room = batch_tokens
        while (waiting := queue.peek()) is not None and waiting[1] <= room:
            batch.append(queue.pop())
            room -= waiting[1]
        # While the batch is computed the flood asks until it is refused, and only then the other asks once.
        for number in range(100 if flood else 0):
            size = flood[number % len(flood)]
            try:
                inside = enter(admission, Caller("flood"), size)
            except ApiError:
                break
            queue.add((inside, size), caller=Caller("flood"), cost=size)
        if mine is None:
            mine, arrived = enter(admission, Caller("quiet"), quiet), round_
            queue.add((mine, quiet), caller=Caller("quiet"), cost=quiet)
        for inside, _ in batch:
            leave(inside)
            if inside is mine:
                waited.append(round_ - arrived)
                mine = None
    assert waited
    return waited
