"""What advances in each step: within the bounds, in order, and everything in the end."""

from hypothesis import given
from hypothesis import strategies as st

from model_image.batching.scheduler import Limits, Scheduler
from model_image.batching.sequence import Sampling, Sequence

LIMITS = Limits(running=3, cache_tokens=200, prefill_tokens=8)
sizes = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), min_size=1, max_size=12)


def sequence(prompt: int, new: int = 1) -> Sequence:
    return Sequence(
        prompt=[1] * prompt,
        max_new_tokens=new,
        sampling=Sampling(),
        stop_tokens=frozenset(),
        on_progress=lambda _: None,
    )


def step(scheduler: Scheduler) -> list[tuple[int, int]]:
    """Computes a step as an engine would; (start, count) of every chunk."""
    chunks = scheduler.schedule()
    for chunk in chunks:
        chunk.sequence.computed += chunk.count
        if chunk.samples:
            chunk.sequence.generated.append(2)
            if len(chunk.sequence.generated) == chunk.sequence.max_new_tokens:
                scheduler.finish(chunk.sequence)
    return [(chunk.start, chunk.count) for chunk in chunks]


@given(sizes)
def test_every_sequence_ends_and_no_bound_is_passed(wanted: list[tuple[int, int]]) -> None:
    scheduler = Scheduler(LIMITS)
    sequences = [sequence(prompt, new) for prompt, new in wanted]
    for each in sequences:
        scheduler.add(each)

    for _ in range(2000):
        if not scheduler.running and not scheduler.waiting:
            break
        chunks = scheduler.schedule()
        assert len(scheduler.running) <= LIMITS.running
        assert scheduler.reserved_tokens <= LIMITS.cache_tokens
        decoding = any(chunk.count == 1 and chunk.samples and chunk.sequence.generated for chunk in chunks)
        prefilled = sum(chunk.count for chunk in chunks if not (chunk.count == 1 and chunk.samples))
        assert prefilled <= LIMITS.prefill_tokens * (1 if decoding else 4)
        assert chunks, "a step without work would never end"
        step(scheduler)

    assert [len(each.generated) for each in sequences] == [new for _, new in wanted]
    assert all(each.computed == each.total - 1 for each in sequences)


def test_sequences_start_in_order_of_arrival() -> None:
    scheduler = Scheduler(LIMITS)
    sequences = [sequence(190), sequence(100), sequence(1)]
    for each in sequences:
        scheduler.add(each)

    scheduler.schedule()

    # The last one would fit beside the first, but may not overtake the second.
    assert scheduler.running == sequences[:1]


def test_a_long_prompt_does_not_stall_what_generates() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.add(sequence(1, new=50))
    step(scheduler)
    scheduler.add(sequence(60))

    assert step(scheduler) == [(1, 1), (0, 8)]
    assert step(scheduler) == [(2, 1), (8, 8)]


def test_a_cancelled_sequence_is_out_before_the_next_step() -> None:
    scheduler = Scheduler(LIMITS)
    running, waiting = sequence(2, new=9), sequence(199)
    scheduler.add(running)
    scheduler.add(waiting)
    step(scheduler)

    running.cancelled = waiting.cancelled = True

    assert scheduler.schedule() == []
    assert not scheduler.running
    assert not scheduler.waiting
