"""Forming encoder batches: within the bounds, in turn, and none waits for ever."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from model_image.batching.caller import Caller
from model_image.batching.encoder_batches import BatchLimits, form_padded, next_batch
from model_image.batching.fair_queue import FairQueue

PADDED = BatchLimits(texts=8, tokens=256, waste=0.2)
PACKED = BatchLimits(texts=8, tokens=256)
waiting = st.lists(st.tuples(st.integers(1, 300), st.sampled_from("abc")), min_size=1, max_size=40)


@dataclass(frozen=True, eq=False)
class Text:
    length: int
    consumer: str

    def __len__(self) -> int:
        return self.length


def queue_of(texts: list[Text]) -> FairQueue[Text]:
    queue: FairQueue[Text] = FairQueue()
    for text in texts:
        queue.add(text, caller=Caller(text.consumer), cost=text.length)
    return queue


@given(waiting, st.sampled_from([PADDED, PACKED]))
def test_batches_keep_their_bounds_and_lose_nothing(wanted: list[tuple[int, str]], limits: BatchLimits) -> None:
    texts = [Text(*each) for each in wanted]
    queue = queue_of(texts)
    served: list[Text] = []
    while len(queue):
        turn = queue.peek()
        batch = next_batch(queue, limits)
        assert batch[0] is turn
        assert len(batch) <= limits.texts
        lengths = [text.length for text in batch]
        cost = sum(lengths) if limits.waste is None else max(lengths) * len(lengths)
        assert cost <= limits.tokens or len(batch) == 1
        if limits.waste is not None:
            assert 1 - sum(lengths) / cost <= limits.waste
        served += batch

    assert {id(text) for text in served} == {id(text) for text in texts}
    assert len(served) == len(texts)


@given(waiting)
def test_packed_texts_of_a_consumer_keep_their_order(wanted: list[tuple[int, str]]) -> None:
    texts = [Text(*each) for each in wanted]
    queue = queue_of(texts)
    served: list[Text] = []
    while len(queue):
        served += next_batch(queue, PACKED)

    for consumer in "abc":
        assert [text for text in served if text.consumer == consumer] == [
            text for text in texts if text.consumer == consumer
        ]


def test_a_flood_does_not_hold_up_another_consumer() -> None:
    texts = [Text(50, "flood") for _ in range(100)] + [Text(40, "quiet")]
    queue = queue_of(texts)

    assert texts[-1] in [*next_batch(queue, PACKED), *next_batch(queue, PACKED)]


@dataclass(frozen=True, eq=False)
class Watched(Text):
    """A text that notes when its length is looked at."""

    seen: "list[Watched]"

    def __len__(self) -> int:
        self.seen.append(self)
        return self.length


def test_a_padded_batch_is_formed_of_what_is_next_however_much_waits() -> None:
    seen: list[Watched] = []
    queue: FairQueue[Watched] = FairQueue()
    for number in range(4000):
        queue.add(Watched(10, f"consumer {number % 20}", seen), caller=Caller(f"consumer {number % 20}"), cost=10)

    batch = next_batch(queue, PADDED)

    assert len(batch) == PADDED.texts
    assert len({id(text) for text in seen}) <= 512
    assert len(queue) == 4000 - len(batch)


def test_padded_texts_of_like_length_travel_together() -> None:
    assert sorted(form_padded([10, 100, 11, 90, 10], PADDED, 0.2)) == [0, 2, 4]
