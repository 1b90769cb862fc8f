"""One text being continued: what was asked for, how far it is, and where its tokens go."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from model_image.batching.caller import Caller
from model_image.batching.regions import Region

FinishReason = Literal["stop", "length", "failed"]
_NOBODY = Caller()


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


@dataclass(eq=False, kw_only=True)
class Sequence:
    """
    A prompt and what was generated after it.

    `computed` counts the tokens whose keys and values lie in `region`, and `scored` the prompt tokens whose scores were
    given out. `copies` are other texts for the same prompt, which start when it is computed and take it over.
    `state` is the engine's own. `cancelled` may be set from any thread; the sequence is then dropped before the next
    step.
    """

    prompt: list[int]
    max_new_tokens: int
    sampling: Sampling
    stop_tokens: frozenset[int]
    score_prompt: bool = False
    on_progress: Callable[[Progress], None]
    caller: Caller = _NOBODY
    copies: "list[Sequence]" = field(default_factory=list)
    generated: list[int] = field(default_factory=list)
    computed: int = 0
    scored: int = 0
    region: Region | None = None
    state: object = None
    cancelled: bool = False
    queued_at: float = 0.0
    started_at: float | None = None
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.sampling.seed)

    @property
    def total(self) -> int:
        """The tokens known so far."""
        return len(self.prompt) + len(self.generated)

    @property
    def most(self) -> int:
        """The cache entries it may come to need."""
        return len(self.prompt) + self.max_new_tokens

    def tokens(self, start: int, count: int) -> list[int]:
        """The ids at places `start` to `start + count` of prompt and generated text."""
        end = start + count
        if end <= len(self.prompt):
            return self.prompt[start:end]
        from_prompt = self.prompt[start:]
        return from_prompt + self.generated[max(0, start - len(self.prompt)) : end - len(self.prompt)]
