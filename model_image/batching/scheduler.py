"""Decides before every step which sequences advance and by how many tokens."""

from collections import deque
from dataclasses import dataclass

from model_image.batching.sequence import Sequence


@dataclass(frozen=True)
class Chunk:
    """The next `count` tokens of a sequence from place `start`; `samples` if the token after them is wanted."""

    sequence: Sequence
    start: int
    count: int
    samples: bool


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    Bounds of one generative model.

    `running`: sequences that advance together. `cache_tokens`: tokens of all their reserved keys and values.
    `prefill_tokens`: prompt tokens of one step while other sequences generate, which is how long they can be stalled.
    """

    running: int
    cache_tokens: int
    prefill_tokens: int


class Scheduler:
    """
    Continuous batching: sequences join and leave between steps.

    Starts waiting sequences in order of arrival while there is room; lets every running one that has its prompt
    behind it advance by a token; and shares a bounded number of prompt tokens among the others, oldest first.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    @property
    def reserved_tokens(self) -> int:
        """Cache entries set aside for the running sequences."""
        return sum(sequence.reserved for sequence in self.running)

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence; one that could never fit is the caller's to refuse (`reserved` over `cache_tokens`)."""
        self.waiting.append(sequence)

    def schedule(self) -> list[Chunk]:
        """Drops cancelled sequences, starts waiting ones, and returns this step's work, one chunk per sequence."""
        self.running = [sequence for sequence in self.running if not sequence.cancelled]
        if any(sequence.cancelled for sequence in self.waiting):
            self.waiting = deque(sequence for sequence in self.waiting if not sequence.cancelled)
        self._start_waiting()
        decoding = [sequence for sequence in self.running if sequence.total - sequence.computed == 1]
        chunks = [Chunk(sequence, sequence.computed, 1, samples=True) for sequence in decoding]
        budget = self.limits.prefill_tokens * (1 if decoding else 4)
        for sequence in self.running:
            left = sequence.total - sequence.computed
            if left == 1 or budget == 0:
                continue
            count = min(left, budget)
            budget -= count
            chunks.append(Chunk(sequence, sequence.computed, count, samples=count == left))
        return chunks

    def finish(self, sequence: Sequence) -> None:
        """Takes a running sequence out; its room is free for the next."""
        self.running.remove(sequence)

    def _start_waiting(self) -> None:
        reserved = self.reserved_tokens
        while self.waiting and len(self.running) < self.limits.running:
            if reserved + self.waiting[0].reserved > self.limits.cache_tokens:
                return
            reserved += self.waiting[0].reserved
            self.running.append(self.waiting.popleft())
