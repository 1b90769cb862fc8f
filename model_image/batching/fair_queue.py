"""Whose turn it is: the items that wait, shared fairly among the consumers they came from."""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from model_image.batching.caller import Caller

T = TypeVar("T")


@dataclass(frozen=True)
class _Entry(Generic[T]):
    """An item; of two consumers whose turn comes at the same virtual time, the one with the lower `number` is first."""

    item: T
    cost: int
    number: int


@dataclass
class _Flow(Generic[T]):
    """What waits of one consumer, and the virtual time at which its first item begins (its start tag)."""

    start: int
    entries: deque[_Entry[T]] = field(default_factory=deque)

    @property
    def turn(self) -> tuple[int, int]:
        return self.start, self.entries[0].number


class FairQueue(Generic[T]):
    """
    Start-time fair queueing over consumers by cost in tokens, all of equal weight; not safe for several threads.

    The next item is that of the consumer with the smallest start tag: the virtual time at which its item before ended,
    or, where none of its items waited, the present virtual time, which is the start tag of what was popped last. So two
    consumers that always have something waiting are served costs that differ by one largest item of each at most, a
    newcomer waits for about one item of every other consumer, and what a consumer had while nobody else waited is not
    held against it. Items of one consumer and class keep their order of arrival.

    Interactive items go before background ones: while any waits no background item gets a turn, however long that
    lasts, but none is dropped and their order is kept. Among themselves background items are shared in the same way.

    A cost is charged when the item leaves; one that is discarded costs nothing. Finding the next item takes time in
    proportion to the consumers that wait. Source: Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996.
    """

    def __init__(self) -> None:
        self._interactive: _Class[T] = _Class()
        self._background: _Class[T] = _Class()

    def add(self, item: T, *, caller: Caller, cost: int) -> None:
        """Queues an item behind those of its consumer. Raises ValueError for a cost under 1."""
        self._class_of(caller).add(item, consumer=caller.consumer, cost=cost)

    def put_back(self, item: T, *, caller: Caller, cost: int) -> None:
        """Queues an item that was popped before all others of its consumer and gives its cost back."""
        self._class_of(caller).add_first(item, consumer=caller.consumer, cost=cost, refund=cost)

    def add_first(self, item: T, *, caller: Caller, cost: int) -> None:
        """Queues a new item before all others of its consumer."""
        self._class_of(caller).add_first(item, consumer=caller.consumer, cost=cost, refund=0)

    def firsts(self) -> list[T]:
        """The first item of every consumer that waits, in the order of their turns, interactive ones before others."""
        return self._interactive.firsts() + self._background.firsts()

    def peek(self) -> T | None:
        """The item that `pop` would return; None when nothing waits."""
        queue = self._turn()
        return None if queue is None else queue.first().entries[0].item

    def pop(self) -> T:
        """Takes out the item whose turn it is. Raises IndexError when nothing waits."""
        queue = self._turn()
        if queue is None:
            raise IndexError("pop from an empty queue")
        return queue.pop()

    def take(self, wanted: Callable[[T], bool]) -> list[T]:
        """
        Takes out every item that `wanted` is true of, out of turn: what fits a batch that is about to be computed.

        Their consumers are charged, but fall behind by no more than what they were given now: one whose items have
        often travelled along would otherwise wait for as long once they do not.
        """
        return self._interactive.take(wanted) + self._background.take(wanted)

    def discard(self, drop: Callable[[T], bool]) -> list[T]:
        """Takes out every item that `drop` is true of, and charges nobody for it."""
        return self._interactive.discard(drop) + self._background.discard(drop)

    @property
    def tokens(self) -> int:
        """The cost of all that waits."""
        return self._interactive.tokens + self._background.tokens

    def __len__(self) -> int:
        return self._interactive.size + self._background.size

    def __iter__(self) -> Iterator[T]:
        """The items in the order in which they would be popped if nothing was added; do not change the queue in it."""
        yield from self._interactive.in_turn()
        yield from self._background.in_turn()

    def _class_of(self, caller: Caller) -> "_Class[T]":
        return self._background if caller.background else self._interactive

    def _turn(self) -> "_Class[T] | None":
        if self._interactive.size:
            return self._interactive
        return self._background if self._background.size else None


class _Class(Generic[T]):
    """One class of a queue: flows of consumers that wait, and end tags of consumers that were served too recently."""

    def __init__(self) -> None:
        self.flows: dict[str, _Flow[T]] = {}
        self.size = 0
        self.tokens = 0
        self._ends: dict[str, int] = {}
        self._now = 0
        self._added = 0
        self._put_back = 0

    def add(self, item: T, *, consumer: str, cost: int) -> None:
        _check(cost)
        self._added += 1
        self._flow(consumer).entries.append(_Entry(item, cost, self._added))
        self._count(1, cost)

    def add_first(self, item: T, *, consumer: str, cost: int, refund: int) -> None:
        _check(cost)
        self._put_back += 1
        flow = self._flow(consumer)
        flow.start -= refund
        flow.entries.appendleft(_Entry(item, cost, -self._put_back))
        self._count(1, cost)

    def firsts(self) -> list[T]:
        return [flow.entries[0].item for flow in sorted(self.flows.values(), key=lambda flow: flow.turn)]

    def first(self) -> _Flow[T]:
        return min(self.flows.values(), key=lambda flow: flow.turn)

    def pop(self) -> T:
        flow = self.first()
        self._now = max(self._now, flow.start)
        entry = flow.entries.popleft()
        flow.start += entry.cost
        self._count(-1, -entry.cost)
        self._forget()
        return entry.item

    def take(self, wanted: Callable[[T], bool]) -> list[T]:
        taken = self._remove(wanted)
        for consumer, entries in taken.items():
            flow = self.flows[consumer]
            flow.start = max(flow.start, self._now + sum(entry.cost for entry in entries))
        self._forget()
        return [entry.item for entry in sorted(_all(taken), key=lambda entry: entry.number)]

    def discard(self, drop: Callable[[T], bool]) -> list[T]:
        dropped = self._remove(drop)
        self._forget()
        return [entry.item for entry in sorted(_all(dropped), key=lambda entry: entry.number)]

    def in_turn(self) -> Iterator[T]:
        entries = {consumer: iter(flow.entries) for consumer, flow in self.flows.items()}
        turns = [(*flow.turn, consumer, next(entries[consumer])) for consumer, flow in self.flows.items()]
        heapq.heapify(turns)
        while turns:
            start, _, consumer, entry = turns[0]  # no two entries have the same number
            yield entry.item
            following = next(entries[consumer], None)
            if following is None:
                heapq.heappop(turns)
            else:
                heapq.heapreplace(turns, (start + entry.cost, following.number, consumer, following))

    def _flow(self, consumer: str) -> _Flow[T]:
        flow = self.flows.get(consumer)
        if flow is None:
            flow = self.flows[consumer] = _Flow(max(self._now, self._ends.pop(consumer, self._now)))
        return flow

    def _remove(self, chosen: Callable[[T], bool]) -> dict[str, list[_Entry[T]]]:
        removed = {}
        for consumer, flow in self.flows.items():
            out = [entry for entry in flow.entries if chosen(entry.item)]
            if out:
                numbers = {entry.number for entry in out}
                flow.entries = deque(entry for entry in flow.entries if entry.number not in numbers)
                removed[consumer] = out
                self._count(-len(out), -sum(entry.cost for entry in out))
        return removed

    def _forget(self) -> None:
        """Drops flows without items; their end tags are kept only while they are ahead of the virtual time."""
        for consumer in [consumer for consumer, flow in self.flows.items() if not flow.entries]:
            self._ends[consumer] = self.flows.pop(consumer).start
        if not self.size:  # the end of a busy period: virtual time passes every end tag
            self._now, self._added, self._put_back = 0, 0, 0
            self._ends.clear()
        elif self._ends:
            self._ends = {consumer: end for consumer, end in self._ends.items() if end > self._now}

    def _count(self, items: int, cost: int) -> None:
        self.size += items
        self.tokens += cost


def _all(entries: dict[str, list[_Entry[T]]]) -> Iterator[_Entry[T]]:
    for each in entries.values():
        yield from each


def _check(cost: int) -> None:
    if cost < 1:
        raise ValueError(f"an item's cost is {cost} tokens; it must be 1 at least")
