"""Which waiting texts go through an encoder together."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """Bounds of one encoder batch: texts, tokens with padding, and the part of it that may be padding (0 to 1)."""

    texts: int = 64
    tokens: int = 4096
    waste: float = 0.15


def form_batch(lengths: Sequence[int], limits: BatchLimits) -> list[int]:
    """
    Picks places in `lengths` (tokens of the waiting texts, oldest first) for one padded batch.

    The oldest is always in it, so none waits for ever, and alone it may be over `tokens`. Others join in order of
    closeness in length while the bounds hold.
    """
    batch, longest, filled = [0], lengths[0], lengths[0]
    for place in sorted(range(1, len(lengths)), key=lambda place: abs(lengths[place] - lengths[0])):
        if len(batch) == limits.texts:
            break
        new_longest = max(longest, lengths[place])
        padded = new_longest * (len(batch) + 1)
        if padded > limits.tokens or 1 - (filled + lengths[place]) / padded > limits.waste:
            continue
        batch.append(place)
        longest, filled = new_longest, filled + lengths[place]
    return batch
