"""What every training needs: batches and their order, the schedule of the learning rate, and the pace."""

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import torch

from model_image.train_recipe import Budget


@dataclass(frozen=True)
class Batch:
    """
    The rows of one step, for all processes together: tensors whose first dimension is the row.

    `predictions` are what the loss is a mean over; `tokens` is how many there are without padding.
    """

    inputs: dict[str, torch.Tensor]
    predictions: int
    tokens: int


@dataclass
class Pace:
    """Steps and time of one training, those before an interruption included: when to stop, and how fast it is."""

    budget: Budget
    tokens: int = 0
    seconds: float = 0.0
    _seconds_before: float = 0.0
    _tokens_before: int = 0
    _started: float = field(default_factory=time.monotonic)

    def go_on(self, *, tokens: int, seconds: float) -> None:
        """Counts go on from those of a checkpoint."""
        self.tokens = self._tokens_before = tokens
        self.seconds = self._seconds_before = seconds

    def now(self) -> float:
        """Seconds of training until now; `seconds` is what all processes have agreed on."""
        return self._seconds_before + time.monotonic() - self._started

    def steps(self, *, after: int) -> Iterator[int]:
        """The step numbers after one that is done, until steps, minutes or money are used up."""
        step = after
        minutes = self.budget.minutes
        while (self.budget.steps is None or step < self.budget.steps) and (
            minutes is None or self.seconds <= minutes * 60
        ):
            step += 1
            yield step

    def expected_steps(self, step: int) -> int:
        """How many there will be: those of the budget, or by the time that those until `step` took."""
        if self.budget.steps is not None:
            return self.budget.steps
        used = self.seconds / ((self.budget.minutes or math.inf) * 60)
        return max(step, round(min((step - 1) / used, 1e12))) if used and step > 1 else 10**12

    @property
    def tokens_per_second(self) -> float:
        """The mean rate of this process's own time."""
        return (self.tokens - self._tokens_before) / max(self.now() - self._seconds_before, 1e-9)


def rate_at(step: int, *, steps: int, warmup: int, shape: Literal["linear", "cosine"]) -> float:
    """The factor on the learning rate at a step counted from 1: linear warm-up, then down to nearly zero."""
    done = (step - 1) / steps
    decay = 1.0 - done if shape == "linear" else 0.1 + 0.45 * (1 + math.cos(math.pi * done))
    return min(1.0, step / max(warmup, 1)) * decay


def batches_by_length(lengths: Sequence[int], *, batch: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of row numbers, each of rows of like length (little padding), in an order that `seed` fixes."""
    rows, order = list(range(len(lengths))), random.Random(seed)
    window = batch * 16
    while True:
        order.shuffle(rows)
        near = [
            sorted(rows[start : start + window], key=lambda row: lengths[row]) for start in range(0, len(rows), window)
        ]
        batches = [rows_of[start : start + batch] for rows_of in near for start in range(0, len(rows_of), batch)]
        order.shuffle(batches)
        yield from batches


def shuffled_batches(rows: Sequence[int], *, batch: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of exactly `batch` of these row numbers; every row once before any twice."""
    order, numbers = random.Random(seed), list(rows)

    def endless() -> Iterator[int]:
        while True:
            order.shuffle(numbers)
            yield from numbers.copy()

    every = endless()
    while True:
        yield list(islice(every, batch))


def padded(rows: Sequence[Sequence[int]], *, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of shape [rows, longest] filled up with `pad`, and their attention mask (1 where a token is)."""
    longest = max(len(row) for row in rows)
    tokens = torch.full((len(rows), longest), pad, dtype=torch.long)
    attention = torch.zeros(len(rows), longest, dtype=torch.long)
    for position, row in enumerate(rows):
        tokens[position, : len(row)] = torch.tensor(row, dtype=torch.long)
        attention[position, : len(row)] = 1
    return tokens, attention
