"""Forming encoder batches: within the bounds, and none waits for ever."""

from hypothesis import given
from hypothesis import strategies as st

from model_image.batching.encoder_batches import BatchLimits, form_batch

LIMITS = BatchLimits(texts=8, tokens=256, waste=0.2)
lengths = st.lists(st.integers(1, 300), min_size=1, max_size=40)


@given(lengths)
def test_a_batch_keeps_its_bounds(waiting: list[int]) -> None:
    places = form_batch(waiting, LIMITS)

    batch = [waiting[place] for place in places]
    padded = max(batch) * len(batch)
    assert len(set(places)) == len(places) <= LIMITS.texts
    assert padded <= LIMITS.tokens or len(batch) == 1
    assert 1 - sum(batch) / padded <= LIMITS.waste


@given(lengths)
def test_the_oldest_text_is_always_taken(waiting: list[int]) -> None:
    assert form_batch(waiting, LIMITS)[0] == 0


def test_texts_of_like_length_travel_together() -> None:
    assert sorted(form_batch([10, 100, 11, 90, 10], LIMITS)) == [0, 2, 4]
