"""Keys and values of texts that ended, kept while there is room, for texts that begin like them."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from model_image.batching.caller import Caller
from model_image.batching.regions import Region
from model_image.batching.sequence import Sequence

# Below this many tokens, copying and looking cost more than computing.
SHORTEST = 16
_MOST = 128


@dataclass(eq=False)
class _Kept:
    """The tokens whose keys and values lie in a region, and when it was last of use."""

    tokens: list[int]
    region: Region
    caller: Caller
    used: int


@dataclass(frozen=True)
class Prefix:
    """The first `length` tokens of a text are computed at place `start`."""

    start: int
    length: int


class Prefixes:
    """
    What was computed and may be of use again, least recently used first to go.

    A consumer finds only what was computed for itself: how soon an answer comes must not tell one consumer what
    another has asked.
    """

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        self._clock = count()

    def keep(self, sequence: Sequence) -> Region | None:
        """Keeps a sequence's region; returns one that has to be given back instead, if any."""
        region = sequence.region
        if region is None:
            return None
        if sequence.computed < SHORTEST or sequence.score_prompt:
            return region
        tokens = sequence.tokens(0, sequence.computed)
        self._kept.append(_Kept(tokens, region, sequence.caller, next(self._clock)))
        return self.evict() if len(self._kept) > _MOST else None

    @property
    def regions(self) -> list[Region]:
        """All that could be given back."""
        return [kept.region for kept in self._kept]

    def evict(self) -> Region | None:
        """Forgets the least recently used; the region to give back, None when nothing is kept."""
        if not self._kept:
            return None
        oldest = min(self._kept, key=lambda kept: kept.used)
        self._kept.remove(oldest)
        return oldest.region

    def find(self, wanted: Sequence, running: Iterable[Sequence]) -> Prefix | None:
        """The longest beginning of a sequence that is computed already, here or by a running one, if it is worth it."""
        best: Prefix | None = None
        longest = SHORTEST - 1
        if wanted.score_prompt:
            return None
        tokens = wanted.tokens(0, wanted.total - 1)  # the last one must be computed: its logits are wanted
        source: _Kept | None = None
        for kept in self._kept:
            if kept.caller.consumer == wanted.caller.consumer:
                length = _common(tokens, kept.tokens)
                if length > longest:
                    best, longest, source = Prefix(kept.region.start, length), length, kept
        for other in running:
            if other.region is not None and other.caller.consumer == wanted.caller.consumer:
                length = _common(tokens, other.tokens(0, other.computed))
                if length > longest:
                    best, longest, source = Prefix(other.region.start, length), length, None
        if source is not None:
            source.used = next(self._clock)
        return best


def _common(first: list[int], second: list[int]) -> int:
    """The length of the longest common beginning."""
    low, high = 0, min(len(first), len(second))
    if first[:SHORTEST] != second[:SHORTEST]:
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
