"""One text being continued: what was asked for, how far it is, and where its tokens go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

FinishReason = Literal["stop", "length", "failed"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to pick the next token: `temperature` 0 is greedy, `logprobs` the number of alternatives to report."""

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    logprobs: int | None = None


@dataclass(frozen=True)
class ScoredToken:
    """A token with its log probability and the likeliest alternatives at its place, best first."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Progress:
    """What one step brought to a sequence: at most one new token, the scores of prompt tokens if asked for, the end."""

    token: ScoredToken | None = None
    prompt_scores: tuple[ScoredToken, ...] = ()
    finish: FinishReason | None = None


class Cache(Protocol):
    """The engine's state of one sequence; opaque to the scheduler."""


@dataclass(eq=False, kw_only=True)
class Sequence:
    """
    A prompt and what was generated after it.

    `computed` counts the tokens whose keys and values are in `cache`. `cancelled` may be set from any thread; the
    sequence is then dropped before the next step.
    """

    prompt: list[int]
    max_new_tokens: int
    sampling: Sampling
    stop_tokens: frozenset[int]
    score_prompt: bool = False
    on_progress: Callable[[Progress], None]
    generated: list[int] = field(default_factory=list)
    computed: int = 0
    cache: Cache | None = None
    cancelled: bool = False
    queued_at: float = 0.0
    started_at: float | None = None

    @property
    def total(self) -> int:
        """The tokens known so far."""
        return len(self.prompt) + len(self.generated)

    @property
    def reserved(self) -> int:
        """The cache entries it may come to need: room is set aside at its start, so that it never has to be evicted."""
        return len(self.prompt) + self.max_new_tokens

    def tokens(self, start: int, count: int) -> list[int]:
        """The ids at places `start` to `start + count` of prompt and generated text."""
        if start >= len(self.prompt):
            return self.generated[start - len(self.prompt) :][:count]
        return self.prompt[start : start + count]
