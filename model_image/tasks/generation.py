"""What completions, chat and augmentation share: choices generated side by side, as a stream of text parts."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from model_image.api_errors import ApiError
from model_image.batching import sequence as batching
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


@dataclass
class _Choice:
    """One text being received: what may be shown of it, and its tokens that were not handed on yet."""

    detokeniser: Detokeniser
    stop: StopMatcher
    decoded: int = 0
    shown: int = 0
    pending: list[PlacedToken] = field(default_factory=list)

    def push(self, progress: Progress) -> tuple[str, batching.FinishReason | None]:
        """The text to show and whether the choice ends, by its tokens or by a stop string."""
        text = ""
        if progress.token is not None and progress.finish != "stop":  # the token that ends a text is no part of it
            piece = self.detokeniser.push(progress.token.token)
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


async def generate(model: ServedModel, ask: Ask, meter: Meter) -> AsyncGenerator[Part, None]:
    """
    Yields the parts of all choices as they come; the last part of each has a finish reason. Close it (`aclosing`).

    With `score_prompts` the first part of a choice has the prompt's scored tokens, unplaced, and no text. Closing the
    iterator early (or a cancelled request) takes the sequences out of the engine before its next step. Raises ApiError.
    """
    received: asyncio.Queue[tuple[int, Progress]] = asyncio.Queue()
    sequences = _sequences(model, ask, received)
    choices = [_Choice(Detokeniser(model.tokenizer), StopMatcher(ask.stops)) for _ in sequences]
    scores: dict[int, list[ScoredToken]] = {}
    meter.read(sum(len(prompt) for prompt in ask.prompts))
    open_choices = set(range(len(sequences)))
    try:
        for sequence in sequences:
            model.generation_loop.submit(sequence)
        while open_choices:
            index, progress = await received.get()
            if index not in open_choices:
                continue
            if progress.finish == "failed":
                raise ApiError("internal_error", "the model failed on this request; send it again")
            if progress.prompt_scores:
                scores.setdefault(index, []).extend(progress.prompt_scores)
                if len(scores[index]) == len(sequences[index].prompt):
                    placed = tuple(PlacedToken(scored, 0, 0) for scored in scores.pop(index))
                    yield Part(index, "", placed, is_prompt=True)
            if progress.token is not None:
                meter.made(choice=index)
            text, finish = choices[index].push(progress)
            if finish is not None:
                open_choices.discard(index)
                model.generation_loop.cancel(sequences[index])
            if text or finish is not None:
                yield Part(index, text, choices[index].take(text, ended=finish is not None), finish_reason=finish)
    finally:
        for index in open_choices:
            model.generation_loop.cancel(sequences[index])


def _sequences(model: ServedModel, ask: Ask, received: asyncio.Queue[tuple[int, Progress]]) -> list[batching.Sequence]:
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
            on_progress=_sink(received, place * ask.n + copy),
        )
        for place, (prompt, room) in enumerate(zip(ask.prompts, ask.max_new_tokens, strict=True))
        for copy in range(ask.n)
    ]


def _sink(received: asyncio.Queue[tuple[int, Progress]], index: int) -> Callable[[Progress], None]:
    return lambda progress: received.put_nowait((index, progress))


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
