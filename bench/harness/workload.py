"""What is asked of every server: the same prompts in the same order, made from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Encode = Callable[[str], list[int]]
Decode = Callable[[list[int]], str]


@dataclass(frozen=True)
class Prompt:
    """A prompt as ids and as the text that tokenises to exactly these ids, and the tokens to generate."""

    ids: tuple[int, ...]
    text: str
    new_tokens: int


class Prompts:
    """Cuts prompts of an exact number of tokens out of a text."""

    def __init__(self, text: str, *, encode: Encode, decode: Decode) -> None:
        self._encode = encode
        self._decode = decode
        self._ids = encode(text)

    def cut(self, tokens: int, new_tokens: int, rng: random.Random) -> Prompt:
        """A piece of the text from a random place; pieces that would not tokenise to the same ids are not taken."""
        while True:
            start = rng.randrange(len(self._ids) - tokens)
            ids = self._ids[start : start + tokens]
            text = self._decode(ids)
            if self._encode(text) == ids:
                return Prompt(tuple(ids), text, new_tokens)

    def equal(self, count: int, *, seed: str, tokens: int = 64, new_tokens: int = 64) -> list[Prompt]:
        """Prompts of one length, with one number of new tokens."""
        rng = random.Random(f"equal {seed}")
        return [self.cut(tokens, new_tokens, rng) for _ in range(count)]

    def mixed(self, count: int, *, seed: str, low: int = 8, high: int = 96) -> list[Prompt]:
        """Prompts and numbers of new tokens each uniform in low..high."""
        rng = random.Random(f"mixed {seed}")
        return [self.cut(rng.randint(low, high), rng.randint(low, high), rng) for _ in range(count)]

    def log_uniform(self, count: int, *, seed: str, low: int = 8, high: int = 256) -> list[Prompt]:
        """Texts whose lengths in tokens are log-uniform in low..high: short ones are the most common."""
        rng = random.Random(f"log-uniform {seed}")
        return [self.cut(round(low * (high / low) ** rng.random()), 0, rng) for _ in range(count)]


def poisson_arrivals(count: int, *, rate: float, seed: str) -> list[float]:
    """Seconds after the start at which requests arrive, `rate` per second on average."""
    rng = random.Random(f"arrivals {seed}")
    at, arrivals = 0.0, []
    for _ in range(count):
        at += rng.expovariate(rate)
        arrivals.append(at)
    return arrivals


def total_new_tokens(prompts: Sequence[Prompt]) -> int:
    """The tokens that all answers together must have."""
    return sum(prompt.new_tokens for prompt in prompts)
