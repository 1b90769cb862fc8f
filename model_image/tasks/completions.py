"""POST /v1/completions."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from model_image.answers import Completion, CompletionChoice, CompletionLogprobs, FinishReason, Usage
from model_image.metrics import Meter
from model_image.registry import ServedModel
from model_image.schemas import CompletionRequest
from model_image.tasks.generation import Ask, Part, PlacedToken, generate, prompt_ids, room_for
from model_image.tasks.text_stream import Detokeniser, token_name

_DEFAULT_MAX_TOKENS = 16

_ScoredPart = tuple[Part, CompletionLogprobs | None]


@dataclass
class _Text:
    """One choice as far as it is known."""

    text: str = ""
    logprobs: list[CompletionLogprobs] = field(default_factory=list)
    finish_reason: FinishReason | None = None


class CompletionTask:
    """One request to continue one or more prompts."""

    def __init__(self, model: ServedModel, request: CompletionRequest, meter: Meter) -> None:
        """Tokenises the prompts; `tokens` is their cost. Raises ApiError if one does not fit."""
        self._model = model
        self._request = request
        self._meter = meter
        self._prompts = [prompt_ids(model, prompt, param="prompt") for prompt in request.prompts]
        wanted = _DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
        self._ask = Ask(
            prompts=self._prompts,
            n=request.n or 1,
            max_new_tokens=[room_for(model, prompt, wanted, param="prompt") for prompt in self._prompts],
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            seed=request.seed,
            stops=request.stops,
            logprobs=request.logprobs,
            score_prompts=bool(request.echo) and request.logprobs is not None,
        )
        self.tokens, self.counted_tokens = self._ask.tokens, self._ask.counted_tokens
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self.finish_reason = "length"

    async def answer(self) -> Completion:
        """All choices at once."""
        texts = [_Text() for _ in range(len(self._prompts) * self._ask.n)]
        async with aclosing(self._parts()) as steps:
            async for step in steps:
                for part, logprobs in step:
                    text = texts[part.choice]
                    text.text += part.text
                    if logprobs is not None:
                        text.logprobs.append(logprobs)
                    text.finish_reason = _reason(part)
        choices = [
            self._choice(index, text.text, _joined(text.logprobs) if text.logprobs else None, text.finish_reason)
            for index, text in enumerate(texts)
        ]
        return {**self._frame(choices), "usage": self._usage()}

    async def chunks(self) -> AsyncGenerator[list[Completion], None]:
        """The choices piece by piece, those of one step together."""
        async with aclosing(self._parts()) as steps:
            async for step in steps:
                yield [
                    self._chunk([self._choice(part.choice, part.text, logprobs, _reason(part))])
                    for part, logprobs in step
                ]
        if self._request.wants_usage_chunk:
            yield [{**self._frame([]), "usage": self._usage()}]

    async def _parts(self) -> AsyncGenerator[list[_ScoredPart], None]:
        ask, request = self._ask, self._request
        choices = range(len(self._prompts) * ask.n)
        echoed = [self._echo(index // ask.n) for index in choices] if request.echo else []
        if echoed and not ask.score_prompts:
            yield [(Part(index, text), None) for index, text in enumerate(echoed)]
        async with aclosing(generate(self._model, ask, self._meter)) as steps:
            async for step in steps:
                yield [self._scored(part, echoed[part.choice] if echoed else "") for part in step]

    def _scored(self, part: Part, echoed: str) -> _ScoredPart:
        if part.is_prompt:
            return Part(part.choice, echoed), self._logprobs(self._place(part.tokens), 0)
        if part.finish_reason is not None:
            self.finish_reason = part.finish_reason
        return part, None if self._request.logprobs is None else self._logprobs(part.tokens, len(echoed))

    def _echo(self, index: int) -> str:
        prompt = self._request.prompts[index]
        return prompt if isinstance(prompt, str) else self._model.tokenizer.decode(prompt)

    def _place(self, tokens: tuple[PlacedToken, ...]) -> tuple[PlacedToken, ...]:
        """Finds where in the echoed text each prompt token stands."""
        detokeniser, start, placed = Detokeniser(self._model.tokenizer), 0, []
        for token in tokens:
            end = start + len(detokeniser.push(token.scored.token))
            placed.append(PlacedToken(token.scored, start, end))
            start = end
        return tuple(placed)

    def _logprobs(self, tokens: tuple[PlacedToken, ...], offset: int) -> CompletionLogprobs:
        def name(token: int) -> str:
            return token_name(self._model.tokenizer, token)

        tops = [
            {name(token): logprob for token, logprob in placed.scored.top} if placed.scored.top else None
            for placed in tokens
        ]
        return {
            "tokens": [name(placed.scored.token) for placed in tokens],
            "token_logprobs": [placed.scored.logprob for placed in tokens],
            "top_logprobs": tops if self._request.logprobs else None,
            "text_offset": [offset + placed.start for placed in tokens],
        }

    def _choice(
        self, index: int, text: str, logprobs: CompletionLogprobs | None, finish_reason: FinishReason | None
    ) -> CompletionChoice:
        return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish_reason}

    def _frame(self, choices: list[CompletionChoice]) -> Completion:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model.name,
            "choices": choices,
        }

    def _chunk(self, choices: list[CompletionChoice]) -> Completion:
        """With `include_usage`, every chunk but the last has a `usage` of null."""
        frame = self._frame(choices)
        return {**frame, "usage": None} if self._request.wants_usage_chunk else frame

    def _usage(self) -> Usage:
        return usage(self._meter)


def usage(meter: Meter) -> Usage:
    """What a generating request has cost."""
    return {
        "prompt_tokens": meter.prompt_tokens,
        "completion_tokens": meter.generation_tokens,
        "total_tokens": meter.prompt_tokens + meter.generation_tokens,
    }


def _reason(part: Part) -> FinishReason | None:
    return part.finish_reason if part.finish_reason != "failed" else None


def _joined(pieces: list[CompletionLogprobs]) -> CompletionLogprobs:
    tops = [piece["top_logprobs"] for piece in pieces]
    return {
        "tokens": [token for piece in pieces for token in piece["tokens"]],
        "token_logprobs": [logprob for piece in pieces for logprob in piece["token_logprobs"]],
        "top_logprobs": None if None in tops else [entry for top in tops if top is not None for entry in top],
        "text_offset": [offset for piece in pieces for offset in piece["text_offset"]],
    }
