"""What advances in each step and where it lies: within the bounds, fairly, and everything in the end."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from model_image.batching.caller import Caller
from model_image.batching.scheduler import Limits, Plan, Scheduler, share_out
from model_image.batching.sequence import Sampling, Sequence

LIMITS = Limits(running=3, cache_tokens=256, prefill_tokens=8)
asks = st.lists(
    st.tuples(st.integers(1, 120), st.integers(1, 100), st.sampled_from("abc"), st.booleans(), st.integers(0, 2)),
    min_size=1,
    max_size=12,
)


def sequence(prompt: int, new: int = 1, consumer: str = "", *, background: bool = False, first: int = 1) -> Sequence:
    return Sequence(
        prompt=[first] * prompt,
        max_new_tokens=new,
        sampling=Sampling(),
        stop_tokens=frozenset(),
        on_progress=lambda _: None,
        caller=Caller(consumer, background),
    )


class Model:
    """Books what an engine would compute, and checks that every key it reads was written for that very text."""

    def __init__(self, places: int) -> None:
        self.cells: list[object] = [None] * places

    def compute(self, scheduler: Scheduler, plan: Plan) -> None:
        for copy in plan.copies:
            self.cells[copy.target : copy.target + copy.count] = self.cells[copy.source : copy.source + copy.count]
        for chunk in plan.chunks:
            text, region = chunk.sequence, chunk.sequence.region
            assert region is not None
            assert chunk.start + chunk.count <= region.size
            known = text.tokens(0, text.total)
            for place in range(chunk.start, chunk.start + chunk.count):
                self.cells[region.start + place] = tuple(known[: place + 1])
        for chunk in plan.chunks:  # after all were written: nobody may have written into another's region
            text, region = chunk.sequence, chunk.sequence.region
            assert region is not None
            known = text.tokens(0, text.total)
            for place in range(chunk.start + chunk.count):
                assert self.cells[region.start + place] == tuple(known[: place + 1])
            text.computed += chunk.count
            if chunk.samples:
                text.generated.append(len(text.generated) + 7)
                if len(text.generated) == text.max_new_tokens:
                    scheduler.finish(text)
                else:
                    scheduler.start_copies(text)


def run(scheduler: Scheduler, model: Model, *, steps: int) -> None:
    for _ in range(steps):
        if not scheduler.running and not scheduler.waiting:
            return
        plan = scheduler.schedule()
        assert plan.chunks, "a step without work would never end"
        model.compute(scheduler, plan)


@settings(deadline=None)
@given(asks, st.data())
def test_every_sequence_ends_within_the_bounds_and_reads_only_its_own_keys(
    wanted: list[tuple[int, int, str, bool, int]], data: st.DataObject
) -> None:
    scheduler, model = Scheduler(LIMITS), Model(LIMITS.cache_tokens)
    sequences = []
    for prompt, new, consumer, background, copies in wanted:
        text = sequence(prompt, new, consumer, background=background)
        text.copies = [sequence(prompt, new, consumer, background=background) for _ in range(copies)]
        sequences += [text, *text.copies]
        scheduler.add(text)
    cancelled = data.draw(st.sets(st.sampled_from(range(len(sequences))), max_size=2))

    for steps in range(20_000):
        if not scheduler.running and not len(scheduler.waiting):
            break
        if steps == 5:
            for place in cancelled:
                sequences[place].cancelled = True
        plan = scheduler.schedule()
        if not plan.chunks:
            continue
        assert len(scheduler.running) <= LIMITS.running
        assert len({chunk.sequence for chunk in plan.chunks}) == len(plan.chunks)
        read = sum(chunk.count for chunk in plan.chunks if not (chunk.count == 1 and chunk.samples))
        assert read <= LIMITS.prefill_tokens
        model.compute(scheduler, plan)

    ended = [each for place, each in enumerate(sequences) if place not in cancelled]
    assert [len(each.generated) for each in ended] == [each.max_new_tokens for each in ended]
    assert not scheduler.running
    assert scheduler.cache_usage == 0


def test_sequences_of_a_consumer_start_in_order_of_arrival() -> None:
    scheduler = Scheduler(LIMITS)
    sequences = [sequence(190), sequence(100), sequence(1)]
    for each in sequences:
        scheduler.add(each)

    scheduler.schedule()

    # The last one would fit beside the first, but may not overtake the second.
    assert scheduler.running == sequences[:1]


def test_a_long_prompt_does_not_stall_what_generates() -> None:
    scheduler, model = Scheduler(LIMITS), Model(LIMITS.cache_tokens)
    scheduler.add(sequence(1, new=50))
    model.compute(scheduler, scheduler.schedule())
    scheduler.add(sequence(60, first=2))

    for step in range(3):
        plan = scheduler.schedule()
        assert [(chunk.start, chunk.count) for chunk in plan.chunks] == [(step + 1, 1), (8 * step, 8)]
        model.compute(scheduler, plan)


def test_a_cancelled_sequence_is_out_before_the_next_step() -> None:
    scheduler, model = Scheduler(LIMITS), Model(LIMITS.cache_tokens)
    running, waiting = sequence(2, new=9), sequence(250)
    scheduler.add(running)
    scheduler.add(waiting)
    model.compute(scheduler, scheduler.schedule())

    running.cancelled = waiting.cancelled = True

    assert scheduler.schedule().chunks == []
    assert not scheduler.running
    assert not scheduler.waiting


def test_copies_compute_the_prompt_once() -> None:
    scheduler, model = Scheduler(Limits(running=8, cache_tokens=4096, prefill_tokens=64)), Model(4096)
    text = sequence(100, new=4)
    text.copies = [sequence(100, new=4) for _ in range(5)]
    scheduler.add(text)

    computed = 0
    while scheduler.running or scheduler.waiting:
        plan = scheduler.schedule()
        computed += sum(chunk.count for chunk in plan.chunks)
        model.compute(scheduler, plan)

    # The prompt, and of each copy its last prompt token, whose logits it draws from.
    assert computed == 100 + 5 + 6 * 3


def test_a_conversation_goes_on_from_what_is_computed_but_never_from_anothers() -> None:
    scheduler, model = Scheduler(Limits(running=8, cache_tokens=4096, prefill_tokens=512)), Model(4096)
    first = sequence(200, new=20, consumer="a")
    scheduler.add(first)
    run(scheduler, model, steps=100)
    for consumer in "ab":
        follows = sequence(0, new=1, consumer=consumer)
        follows.prompt = first.prompt + first.generated + [99] * 10
        scheduler.add(follows)

        plan = scheduler.schedule()

        # The last token of an answer is never computed, since nothing is drawn after it.
        assert plan.chunks[0].start == (219 if consumer == "a" else 0)
        model.compute(scheduler, plan)


def test_a_flood_leaves_the_quiet_consumer_its_pace() -> None:
    """Steps from arrival to the last token, alone and beside a consumer that keeps 64 requests open: at most twice."""

    def quiet_steps(*, flood: int) -> list[int]:
        scheduler, model = Scheduler(Limits(running=8, cache_tokens=8192, prefill_tokens=64)), Model(8192)
        steps: list[int] = []
        for turn in range(20):
            while sum(each.caller.consumer == "flood" for each in [*scheduler.running, *scheduler.waiting]) < flood:
                scheduler.add(sequence(90, new=40, consumer="flood", first=len(steps) + 2))
            asked = sequence(48, new=24, consumer="quiet", first=1000 + turn)
            scheduler.add(asked)
            taken = 0
            while len(asked.generated) < asked.max_new_tokens:
                model.compute(scheduler, scheduler.schedule())
                taken += 1
            steps.append(taken)
            for _ in range(7):
                if scheduler.running:
                    model.compute(scheduler, scheduler.schedule())
        return sorted(steps)

    assert quiet_steps(flood=64)[-1] <= 2 * quiet_steps(flood=0)[-1]


def test_background_work_yields_its_place_and_is_finished_later() -> None:
    scheduler, model = Scheduler(Limits(running=2, cache_tokens=1024, prefill_tokens=64)), Model(1024)
    batch = [sequence(10, new=30, consumer="a", background=True, first=place + 2) for place in range(2)]
    for each in batch:
        scheduler.add(each)
    run(scheduler, model, steps=5)
    asked = [sequence(10, new=3, consumer="a", first=place + 7) for place in range(2)]
    for each in asked:
        scheduler.add(each)

    plan = scheduler.schedule()

    assert scheduler.running == asked
    model.compute(scheduler, plan)
    run(scheduler, model, steps=200)
    assert [len(each.generated) for each in [*batch, *asked]] == [30, 30, 3, 3]


@given(st.lists(st.tuples(st.integers(2, 300), st.sampled_from("abcd")), min_size=1, max_size=12), st.integers(1, 256))
def test_prompt_tokens_are_shared_evenly(wanted: list[tuple[int, str]], budget: int) -> None:
    reading = [sequence(prompt, consumer=consumer) for prompt, consumer in wanted]

    counts = share_out(reading, budget)

    assert sum(counts.values()) == min(budget, sum(len(each.prompt) for each in reading))
    assert all(0 < count <= len(each.prompt) for each, count in counts.items())
    given_to, asked = Counter[str](), Counter[str]()
    for each in reading:
        given_to[each.caller.consumer] += counts.get(each, 0)
        asked[each.caller.consumer] += len(each.prompt)
    satisfied = {consumer for consumer in asked if given_to[consumer] == asked[consumer]}
    left_short = [given_to[consumer] for consumer in asked if consumer not in satisfied]
    # Whoever got less than it asked for got no less than anybody else, give or take the rounding.
    assert not left_short or min(left_short) >= max(given_to.values()) - len(asked)


def test_a_flood_gives_its_places_up_to_all_requests_of_another_consumer() -> None:
    scheduler, model = Scheduler(Limits(running=32, cache_tokens=65536, prefill_tokens=128)), Model(65536)
    for place in range(64):
        scheduler.add(sequence(20, new=200, consumer="flood", first=place + 2))
    run(scheduler, model, steps=10)
    for place in range(16):
        scheduler.add(sequence(90, new=50, consumer="quiet", first=place + 1000))

    scheduler.schedule()

    assert Counter(each.caller.consumer for each in scheduler.running) == {"flood": 16, "quiet": 16}


def test_nobody_gives_way_to_a_text_that_cannot_start_even_so() -> None:
    scheduler, model = Scheduler(Limits(running=32, cache_tokens=2048, prefill_tokens=512)), Model(2048)
    scheduler.add(sequence(100, new=1, consumer="a", first=99))
    run(scheduler, model, steps=5)
    for place in range(8):
        scheduler.add(sequence(100, new=100, consumer="a", first=place + 2))
    run(scheduler, model, steps=10)
    running = list(scheduler.running)
    scheduler.add(sequence(1900, new=10, consumer="b", first=500))

    for _ in range(3):
        model.compute(scheduler, scheduler.schedule())

    assert scheduler.running == running
    # Nor is what was kept given up for nothing.
    assert scheduler._prefixes.find(sequence(100, new=1, consumer="a", first=99), []) is not None


def test_what_outgrows_the_memory_takes_no_room_from_who_holds_less() -> None:
    scheduler, model = Scheduler(Limits(running=8, cache_tokens=1024, prefill_tokens=512)), Model(1024)
    quiet = sequence(100, new=200, consumer="quiet", first=50)
    for place in range(3):
        scheduler.add(sequence(60, new=140, consumer="flood", first=place + 2))
    run(scheduler, model, steps=2)
    scheduler.add(quiet)

    computed = 0
    while len(quiet.generated) < quiet.max_new_tokens:
        plan = scheduler.schedule()
        computed += sum(chunk.count for chunk in plan.chunks if chunk.sequence is quiet)
        model.compute(scheduler, plan)

    assert computed == 100 + 199


def test_background_work_gives_its_memory_up_before_an_interactive_text() -> None:
    scheduler, model = Scheduler(Limits(running=8, cache_tokens=256, prefill_tokens=512)), Model(256)
    scheduler.add(sequence(60, new=150, consumer="a", background=True, first=2))
    run(scheduler, model, steps=2)
    asked = sequence(60, new=60, consumer="b", first=3)
    scheduler.add(asked)

    computed = 0
    while len(asked.generated) < asked.max_new_tokens:
        plan = scheduler.schedule()
        computed += sum(chunk.count for chunk in plan.chunks if chunk.sequence is asked)
        model.compute(scheduler, plan)

    assert computed == 60 + 59


def test_copies_start_before_what_their_consumer_sent_later() -> None:
    scheduler, model = Scheduler(Limits(running=2, cache_tokens=4096, prefill_tokens=512)), Model(4096)
    text, copy = sequence(40, new=30, first=2), sequence(40, new=3, first=2)
    text.copies = [copy]
    scheduler.add(text)
    later = [sequence(40, new=2, first=place + 3) for place in range(10)]
    for each in later:
        scheduler.add(each)

    run(scheduler, model, steps=6)

    assert len(copy.generated) == copy.max_new_tokens
    assert not later[5].generated


def test_copies_of_a_text_that_is_cancelled_with_them_never_start() -> None:
    scheduler = Scheduler(Limits(running=2, cache_tokens=512, prefill_tokens=64))
    text = sequence(40, new=3)
    text.copies = [sequence(40, new=3)]
    scheduler.add(text)
    for each in (text, *text.copies):
        each.cancelled = True

    assert scheduler.schedule().chunks == []
    assert not scheduler.waiting
