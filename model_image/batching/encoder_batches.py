"""Which waiting texts go through an encoder together."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

from model_image.batching.fair_queue import FairQueue


class Sized(Protocol):
    """Something with a length in tokens."""

    def __len__(self) -> int:
        """Tokens."""


Item = TypeVar("Item", bound=Sized)

# Among so many texts there are enough of like length, and to form a batch takes no longer however many wait.
_LOOKED_AT = 512


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """
    Bounds of one encoder batch: texts, tokens, and the part of them that may be padding.

    `waste` (0 to 1) is None for a model that computes packed texts, which need no padding.
    """

    texts: int = 256
    tokens: int
    waste: float | None = None


def next_batch(queue: FairQueue[Item], limits: BatchLimits) -> list[Item]:
    """
    Takes the next batch out of a queue that is not empty.

    The text whose turn it is is always in it, and alone it may be over `tokens`. Packed, the next ones in turn join
    while the bounds hold. With padding, of the 512 next ones those join that are closest to it in length.
    """
    if limits.waste is not None:
        waiting = list(islice(queue, _LOOKED_AT))
        places = form_padded([len(item) for item in waiting], limits, limits.waste)
        chosen = {id(waiting[place]) for place in places[1:]}
        return [queue.pop(), *queue.take(lambda item: id(item) in chosen)]
    batch = [queue.pop()]
    tokens = len(batch[0])
    while (following := queue.peek()) is not None and len(batch) < limits.texts:
        tokens += len(following)
        if tokens > limits.tokens:
            break
        batch.append(queue.pop())
    return batch


def form_padded(lengths: Sequence[int], limits: BatchLimits, waste: float) -> list[int]:
    """
    Picks places in `lengths` (tokens of the waiting texts in their turn) for one padded batch, the first among them.

    Others join in order of closeness in length to the first while the bounds hold.
    """
    batch, longest, filled = [0], lengths[0], lengths[0]
    for place in sorted(range(1, len(lengths)), key=lambda place: abs(lengths[place] - lengths[0])):
        if len(batch) == limits.texts:
            break
        new_longest = max(longest, lengths[place])
        padded = new_longest * (len(batch) + 1)
        if padded > limits.tokens or 1 - (filled + lengths[place]) / padded > waste:
            continue
        batch.append(place)
        longest, filled = new_longest, filled + lengths[place]
    return batch
