"""Decides before every step which sequences advance and by how many tokens, and where their keys and values lie."""

import operator
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from model_image.batching.fair_queue import FairQueue
from model_image.batching.prefixes import Prefixes
from model_image.batching.regions import Regions
from model_image.batching.sequence import Sequence

# Regions come in multiples of this many places, and a text gets as many more than it needs at once.
_PAGE = 64


@dataclass(frozen=True)
class Copy:
    """Keys and values of `count` tokens that have to be copied from place `source` to place `target`."""

    source: int
    target: int
    count: int


@dataclass(frozen=True)
class Chunk:
    """The next `count` tokens of a sequence from place `start`; `samples` if the token after them is wanted."""

    sequence: Sequence
    start: int
    count: int
    samples: bool


@dataclass
class Plan:
    """
    One step: the copies, to be made first and in their order, and one chunk for every sequence that advances.

    `filled` are the sequences that the copies are for, which need not advance in this step.
    """

    copies: list[Copy] = field(default_factory=list)
    filled: list[Sequence] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    def copy(self, source: int, target: int, count: int, *, to: Sequence) -> None:
        """Adds a copy."""
        self.copies.append(Copy(source, target, count))
        self.filled.append(to)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    Bounds of one generative model.

    `running`: sequences that advance together. `cache_tokens`: tokens whose keys and values fit the memory.
    `prefill_tokens`: prompt tokens of one step, which is how long those that generate can be stalled.
    """

    running: int
    cache_tokens: int
    prefill_tokens: int


class Scheduler:
    """
    Continuous batching: sequences join and leave between steps (Yu et al., "Orca", OSDI 2022).

    A sequence starts when its consumer's turn comes and there is room for its tokens so far; its region grows with it,
    and where memory runs out another gives its own up and is computed again later (Kwon et al., "PagedAttention", SOSP
    2023, call it preemption by recomputation). Each running sequence that has its prompt behind it advances by a token;
    a bounded number of prompt tokens is shared among the others (Agrawal et al., "Sarathi-Serve", OSDI 2024).

    Who gives way: background work first, then the last of the consumer that holds most, to one that holds fewer. So a
    quiet consumer does not wait for the end of another's flood. A text that waits for memory keeps its turn, and nobody
    gives way to it before that is enough for it to start.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting: FairQueue[Sequence] = FairQueue()
        self.running: list[Sequence] = []
        self._regions = Regions(limits.cache_tokens)
        self._prefixes = Prefixes()

    @property
    def cache_usage(self) -> float:
        """The part of the cache that running sequences hold, 0 to 1."""
        regions = [sequence.region for sequence in list(self.running)]
        return sum(region.size for region in regions if region is not None) / self.limits.cache_tokens

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence; one that could never fit is the caller's to refuse (`most` over `cache_tokens`)."""
        self.waiting.add(sequence, caller=sequence.caller, cost=sequence.most)

    def schedule(self) -> Plan:
        """Drops cancelled sequences, starts waiting ones, and returns this step's work."""
        plan = Plan()
        self._drop_cancelled()
        for sequence in list(self.running):
            if sequence.region is not None and sequence.total > sequence.region.size:
                self._grow(sequence, plan)
        self._start_waiting(plan)
        plan.chunks = self._chunks()
        return plan

    def finish(self, sequence: Sequence, *, failed: bool = False) -> None:
        """Takes a running sequence out; what it computed is kept for texts that begin alike, unless the step failed."""
        self.running.remove(sequence)
        self._release(sequence, keep=not failed)
        self.start_copies(sequence)

    def start_copies(self, sequence: Sequence) -> None:
        """Queues what waited for the sequence's prompt, before what its consumer has sent since."""
        for copy in reversed(sequence.copies):
            if not copy.cancelled:
                self.waiting.add_first(copy, caller=copy.caller, cost=copy.most)
        sequence.copies = []

    def _drop_cancelled(self) -> None:
        for sequence in [sequence for sequence in self.running if sequence.cancelled]:
            self.finish(sequence)
        for sequence in self.waiting.discard(lambda waiting: waiting.cancelled):
            self.start_copies(sequence)

    def _grow(self, sequence: Sequence, plan: Plan) -> None:
        """Makes a sequence's region longer, where it lies or elsewhere, at the cost of others if it must be."""
        while (region := sequence.region) is not None:
            for size in (self._room(sequence, region.size // 2), self._room(sequence, 0)):
                longer = self._regions.extend(region, size)
                if longer is None and (longer := self._regions.take(size)) is not None:
                    plan.copy(region.start, longer.start, sequence.computed, to=sequence)
                    self._regions.give_back(region)
                if longer is not None:
                    sequence.region = longer
                    return
            if not self._evict():
                self._preempt(self._yielding(sequence))

    def _start_waiting(self, plan: Plan) -> None:
        while (sequence := self._next()) is not None:
            rivals = self._enough(sequence)
            if rivals is None:
                return
            self.waiting.take(partial(operator.is_, sequence))
            for rival in rivals:
                self._preempt(rival)
            self._settle(sequence, plan)
            self.running.append(sequence)

    def _next(self) -> Sequence | None:
        """Whose turn it is, among those for whom there is a place or somebody who gives way."""
        if len(self.running) < self.limits.running:
            return self.waiting.peek()
        return next((each for each in self.waiting.firsts() if self._rival(each, self.running) is not None), None)

    def _enough(self, sequence: Sequence) -> list[Sequence] | None:
        """Who has to give way so that a sequence can start; None where not even that is enough."""
        running, rivals = list(self.running), list[Sequence]()
        freed = self._prefixes.regions
        while len(running) >= self.limits.running or not self._regions.would_fit(self._room(sequence, 0), freed):
            rival = self._rival(sequence, running)
            if rival is None:
                return None
            running.remove(rival)
            rivals.append(rival)
            freed += [rival.region] if rival.region is not None else []
        return rivals

    def _settle(self, sequence: Sequence, plan: Plan) -> None:
        """Gives a sequence room, of which there must be enough, and takes over what of it is computed already."""
        self._prefixes.find(sequence, self.running)  # what is of use now is the last to be forgotten to make room
        region = self._regions.take(self._room(sequence, _PAGE))
        while region is None:
            region = self._regions.take(self._room(sequence, 0))
            if region is None and not self._evict():
                raise LookupError("a sequence was started without room for it")
        sequence.region, sequence.computed = region, 0
        prefix = self._prefixes.find(sequence, self.running)
        if prefix is not None:
            plan.copy(prefix.start, region.start, prefix.length, to=sequence)
            sequence.computed = prefix.length

    def _rival(self, sequence: Sequence, running: list[Sequence], *, lead: int = 2) -> Sequence | None:
        """
        Who of `running` gives way to a sequence, if any.

        That is background work before all else, or else the last of the consumer that holds most, where that is at
        least `lead` more than the sequence's own holds: to one that waits with less, the two would change places for
        ever.
        """
        rivals = [other for other in running if other.caller.background or not sequence.caller.background]
        background = [other for other in rivals if other.caller.background]
        if background and not sequence.caller.background:
            return background[-1]
        held = Counter(other.caller.consumer for other in rivals)
        consumer, most = held.most_common(1)[0] if held else ("", 0)
        if most - held[sequence.caller.consumer] < lead:
            return None
        return [other for other in rivals if other.caller.consumer == consumer][-1]

    def _yielding(self, grown: Sequence) -> Sequence:
        """Who gives its region up to a running sequence that has outgrown its own: it may be that sequence itself."""
        background = [other for other in self.running if other.caller.background]
        own = [other for other in self.running if other.caller.consumer == grown.caller.consumer]
        return background[-1] if background else self._rival(grown, self.running, lead=1) or own[-1]

    def _preempt(self, sequence: Sequence) -> None:
        """Puts a running sequence back to the front of its consumer's; it goes on later as if nothing had been."""
        self.running.remove(sequence)
        self._release(sequence, keep=True)
        sequence.computed = 0
        self.waiting.put_back(sequence, caller=sequence.caller, cost=sequence.most)

    def _release(self, sequence: Sequence, *, keep: bool) -> None:
        unwanted = self._prefixes.keep(sequence) if keep else sequence.region
        sequence.region = None
        if unwanted is not None:
            self._regions.give_back(unwanted)

    def _evict(self) -> bool:
        region = self._prefixes.evict()
        if region is not None:
            self._regions.give_back(region)
        return region is not None

    def _room(self, sequence: Sequence, more: int) -> int:
        """Places for a sequence's tokens and `more`, in whole pages, but never more than it may come to need."""
        wanted = min(sequence.total + more, sequence.most)
        return min(-(-wanted // _PAGE) * _PAGE, self.limits.cache_tokens)

    def _chunks(self) -> list[Chunk]:
        chunks, reading = [], []
        for sequence in self.running:
            if sequence.total - sequence.computed == 1:
                chunks.append(Chunk(sequence, sequence.computed, 1, samples=True))
            else:
                reading.append(sequence)
        interactive = [sequence for sequence in reading if not sequence.caller.background]
        for sequence, count in share_out(interactive or reading, self.limits.prefill_tokens).items():
            left = sequence.total - sequence.computed
            chunks.append(Chunk(sequence, sequence.computed, count, samples=count == left))
        return chunks


def share_out(reading: Iterable[Sequence], budget: int) -> dict[Sequence, int]:
    """Splits `budget` prompt tokens evenly among consumers, oldest sequence first, and what is left over likewise."""
    wanted: dict[str, list[Sequence]] = {}
    for sequence in reading:
        wanted.setdefault(sequence.caller.consumer, []).append(sequence)
    counts: dict[Sequence, int] = {}
    while wanted and budget > 0:
        share = max(1, budget // len(wanted))
        for consumer, sequences in list(wanted.items()):
            left = min(share, budget)
            budget -= left
            while sequences and left:
                wants = sequences[0].total - sequences[0].computed - counts.get(sequences[0], 0)
                count = min(wants, left)
                counts[sequences[0]] = counts.get(sequences[0], 0) + count
                left -= count
                if count == wants:
                    sequences.pop(0)
            budget += left
            if not sequences:
                del wanted[consumer]
            if budget == 0:
                break
    return counts
