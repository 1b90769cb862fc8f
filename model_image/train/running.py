"""What the three training loops share: seeds and threads, precision, schedule, pace and batches."""

import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

# What Linux calls a processor that multiplies bf16 natively (x86 and Arm); on others bf16 is slower than fp32.
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass
class Pace:
    """Steps and time of one training: when to stop, and how fast it is."""

    steps: int
    max_minutes: float
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    def __iter__(self) -> Iterator[int]:
        """The step numbers from 1, until the steps or the minutes are used up."""
        for step in range(1, self.steps + 1):
            if time.monotonic() - self.started > self.max_minutes * 60:
                return
            yield step

    def tokens_per_second(self, tokens: int) -> float:
        """Adds a step's tokens and returns the mean rate so far."""
        self.tokens += tokens
        return self.tokens / max(time.monotonic() - self.started, 1e-9)


def prepare(*, seed: int, threads: int) -> None:
    """Fix every random source; `threads` 0 leaves torch its own choice, one for each core."""
    torch.manual_seed(seed)
    if threads:
        torch.set_num_threads(threads)


def computing(precision: Literal["fp32", "bf16", "auto"]) -> AbstractContextManager[object]:
    """The context in which the forward pass runs: autocast to bf16 or nothing."""
    if precision == "bf16" or (precision == "auto" and _has_native_bf16()):
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return nullcontext()


def _has_native_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    try:
        words = cpuinfo.read_text(encoding="utf-8", errors="replace").split()
    except OSError:  # not Linux: fp32 is right everywhere
        return False
    return not BF16_FLAGS.isdisjoint(words)


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


def padded(rows: Sequence[Sequence[int]], *, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of shape [rows, longest] filled up with `pad`, and their attention mask (1 where a token is)."""
    longest = max(len(row) for row in rows)
    tokens = torch.full((len(rows), longest), pad, dtype=torch.long)
    attention = torch.zeros(len(rows), longest, dtype=torch.long)
    for position, row in enumerate(rows):
        tokens[position, : len(row)] = torch.tensor(row, dtype=torch.long)
        attention[position, : len(row)] = 1
    return tokens, attention
