"""What completions, chat and augmentation share: choices generated side by side, as a stream of text parts."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from functools import partial

from model_image.api_errors import ApiError
from model_image.batching import sequence as batching
from model_image.batching.prefixes import SHORTEST
from model_image.batching.sequence import Progress, Sampling, ScoredToken
from model_image.metrics import Meter
from model_image.registry import ServedModel
from model_image.tasks.text_stream import Detokeniser, StopMatcher

_SEEDS = 2**63


@dataclass(frozen=True)
class PlacedToken:
    """A scored token and the characters of the text that it completed: `text[start:end]`."""

    scored: ScoredToken
    start: int
    end: int


@dataclass(frozen=True)
class Part:
    """The next piece of one choice's text with its tokens; `is_prompt` for a part that holds the prompt's tokens."""

    choice: int
    text: str
    tokens: tuple[PlacedToken, ...] = ()
    is_prompt: bool = False
    finish_reason: batching.FinishReason | None = None


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What to generate: every prompt `n` times, choices numbered prompt by prompt."""

    prompts: Sequence[list[int]]
    n: int = 1
    max_new_tokens: Sequence[int]
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stops: tuple[str, ...] = ()
    logprobs: int | None = None
    score_prompts: bool = False

    @property
    def tokens(self) -> int:
        """What it may come to cost: every choice's prompt and room."""
        return self.n * (self._prompt_tokens + sum(self.max_new_tokens))

    @property
    def counted_tokens(self) -> int:
        """The most that may be counted: every prompt once, and every choice's room."""
        return self._prompt_tokens + self.n * sum(self.max_new_tokens)

    @property
    def _prompt_tokens(self) -> int:
        return sum(len(prompt) for prompt in self.prompts)


@dataclass
class _Choice:
    """One text being received: what may be shown of it, and its tokens, if wanted, that were not handed on yet."""

    detokeniser: Detokeniser
    stop: StopMatcher
    keeps_tokens: bool
    decoded: int = 0
    shown: int = 0
    pending: list[PlacedToken] = field(default_factory=list)

    def push(self, progress: Progress) -> tuple[str, batching.FinishReason | None]:
        """The text to show and whether the choice ends, by its tokens or by a stop string."""
        text = ""
        if progress.token is not None and progress.finish != "stop":  # the token that ends a text is no part of it
            piece = self.detokeniser.push(progress.token.token)
            if self.keeps_tokens:
                self.pending.append(PlacedToken(progress.token, self.decoded, self.decoded + len(piece)))
                self.decoded += len(piece)
            text = self.stop.push(piece)
        if self.stop.stopped:
            return text, "stop"
        if progress.finish is not None:
            text += self.stop.flush()
        return text, progress.finish

    def take(self, text: str, *, ended: bool) -> tuple[PlacedToken, ...]:
        """The tokens that belong to the text shown so far; those of a stop string are never handed on."""
        if not self.keeps_tokens:
            return ()
        self.shown += len(text)
        if ended and self.stop.stopped:
            taken = [placed for placed in self.pending if placed.start < self.shown]
            self.pending.clear()
            return tuple(taken)
        count = 0
        while count < len(self.pending) and (ended or self.pending[count].end <= self.shown):
            count += 1
        taken, self.pending = self.pending[:count], self.pending[count:]
        return tuple(taken)


class _Inbox:
    """Progress that the engine brought and nobody has taken yet; for the event loop's thread only."""

    def __init__(self) -> None:
        self._arrived = asyncio.Event()
        self._items: list[tuple[int, Progress]] = []

    def put(self, index: int, progress: Progress) -> None:
        self._items.append((index, progress))
        self._arrived.set()

    async def take(self) -> list[tuple[int, Progress]]:
        """All that is there, at least one: what one step brought, or several while the client was slow to read."""
        await self._arrived.wait()
        self._arrived.clear()
        taken, self._items = self._items, []
        return taken


class _Reception:
    """Turns the progress of a request's choices into parts."""

    def __init__(self, model: ServedModel, ask: Ask, sequences: Sequence[batching.Sequence]) -> None:
        self.open = set(range(len(sequences)))
        self._sequences = sequences
        self._cancel = model.generation_loop.cancel
        scored = ask.logprobs is not None
        self._choices = [
            _Choice(Detokeniser(model.tokenizer), StopMatcher(ask.stops), keeps_tokens=scored) for _ in sequences
        ]
        self._scores: dict[int, list[ScoredToken]] = {}

    def push(self, index: int, progress: Progress) -> list[Part]:
        """What may be shown with this; raises ApiError if the engine failed on it."""
        if progress.finish == "failed":
            raise ApiError("internal_error", "the model failed on this request; send it again")
        parts = self._push_scores(index, progress.prompt_scores) if progress.prompt_scores else []
        choice = self._choices[index]
        text, finish = choice.push(progress)
        if finish is not None:
            self.open.discard(index)
            if progress.finish is None:  # ended by a stop string, of which the engine knows nothing
                self._cancel(self._sequences[index])
        if text or finish is not None:
            parts.append(Part(index, text, choice.take(text, ended=finish is not None), finish_reason=finish))
        return parts

    def cancel(self) -> None:
        """Takes what has not ended out of the engine."""
        for index in self.open:
            self._cancel(self._sequences[index])

    def _push_scores(self, index: int, scored: Sequence[ScoredToken]) -> list[Part]:
        scores = self._scores.setdefault(index, [])
        scores.extend(scored)
        if len(scores) < len(self._sequences[index].prompt):
            return []
        return [Part(index, "", tuple(PlacedToken(each, 0, 0) for each in scores), is_prompt=True)]


async def generate(model: ServedModel, ask: Ask, meter: Meter) -> AsyncGenerator[list[Part], None]:
    """
    Yields the parts of all choices as they come, those of one step together. Close it (`aclosing`).

    The last part of each choice has a finish reason. With `score_prompts` the first part of a choice has the prompt's
    scored tokens, unplaced, and no text. Closing the iterator early (or a cancelled request) takes the sequences out of
    the engine before its next step. Raises ApiError.
    """
    inbox = _Inbox()
    sequences = _sequences(model, ask, meter, inbox)
    reception = _Reception(model, ask, sequences)
    meter.read(sum(len(prompt) for prompt in ask.prompts))
    submitted, first = time.monotonic(), None
    try:
        with meter.queued(lambda: all(sequence.started_at is None for sequence in sequences)):
            for sequence in _with_copies(sequences, ask):
                model.generation_loop.submit(sequence)
            while reception.open:
                parts: list[Part] = []
                made: list[int] = []
                for index, progress in await inbox.take():
                    if index in reception.open:
                        if progress.token is not None:
                            made.append(index)
                        parts += reception.push(index, progress)
                if made:
                    now = meter.made(made)
                    first = first or now
                if parts:
                    yield parts
    finally:
        reception.cancel()
        _note_stages(meter, sequences, submitted=submitted, first=first)


def _note_stages(
    meter: Meter, sequences: Sequence[batching.Sequence], *, submitted: float, first: float | None
) -> None:
    """Times of the whole request: queued until its first sequence starts, prefill until its first token."""
    now = time.monotonic()
    started = min((sequence.started_at for sequence in sequences if sequence.started_at is not None), default=None)
    meter.stage("queue", submitted, started or first or now)
    if started is not None:
        meter.stage("prefill", started, first or now)
    if first is not None:
        meter.stage("decode", first, now)


def _sequences(model: ServedModel, ask: Ask, meter: Meter, inbox: _Inbox) -> list[batching.Sequence]:
    seed = secrets.randbelow(_SEEDS) if ask.seed is None else ask.seed
    return [
        batching.Sequence(
            prompt=prompt,
            max_new_tokens=room,
            # Choices of one request differ, and the same request gives the same choices again.
            sampling=Sampling(
                temperature=ask.temperature,
                top_p=ask.top_p,
                seed=(seed + place * ask.n + copy) % _SEEDS,
                logprobs=ask.logprobs,
            ),
            stop_tokens=model.stop_tokens,
            score_prompt=ask.score_prompts,
            caller=meter.caller,
            on_progress=partial(inbox.put, place * ask.n + copy),
        )
        for place, (prompt, room) in enumerate(zip(ask.prompts, ask.max_new_tokens, strict=True))
        for copy in range(ask.n)
    ]


def _with_copies(sequences: list[batching.Sequence], ask: Ask) -> list[batching.Sequence]:
    """What to submit: where it pays, a prompt's other choices wait until the first has computed it and take it over."""
    firsts = []
    for place, prompt in enumerate(ask.prompts):
        first, *others = sequences[place * ask.n : (place + 1) * ask.n]
        if ask.score_prompts or len(prompt) <= SHORTEST:  # every choice computes the prompt anyway
            firsts += [first, *others]
        else:
            first.copies = others
            firsts.append(first)
    return firsts


def room_for(model: ServedModel, prompt: list[int], wanted: int | None, *, param: str) -> int:
    """
    The tokens that may follow a prompt: as many as wanted, or all that fit where `wanted` is None.

    Raises ApiError with code `context_length_exceeded` if the wanted ones, or not even one, fit.
    """
    if not prompt:
        raise ApiError("invalid_value", f"field '{param}' has no tokens; send some text", param=param)
    left = model.context_length - len(prompt)
    needed = 1 if wanted is None else wanted
    if left < needed:
        asked = f"{len(prompt) + needed} ({len(prompt)} in the prompt and {needed} for the answer)"
        message = (
            f"this model's context is {model.context_length} tokens, the request needs {asked}; shorten one of them"
        )
        raise ApiError("context_length_exceeded", message, param=param)
    return left if wanted is None else wanted


def prompt_ids(model: ServedModel, prompt: str | list[int], *, param: str) -> list[int]:
    """The ids of a prompt given as text or as ids. Raises ApiError for an id that the model does not have."""
    if isinstance(prompt, str):
        return model.tokenizer.encode(prompt).ids
    if max(prompt) >= model.vocabulary:
        raise ApiError(
            "invalid_value",
            f"field '{param}' has a token id over {model.vocabulary - 1}, this model's last",
            param=param,
        )
    return prompt
