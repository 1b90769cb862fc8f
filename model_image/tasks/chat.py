"""POST /v1/chat/completions."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from model_image.answers import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    FinishReason,
    TokenLogprob,
)
from model_image.api_errors import ApiError
from model_image.metrics import Meter
from model_image.registry import ServedModel
from model_image.schemas import ChatRequest
from model_image.tasks.completions import usage
from model_image.tasks.generation import Ask, Part, PlacedToken, generate, room_for
from model_image.tasks.text_stream import token_name
from model_image.vocabulary import TemplateRefusedError

# OpenAI's newer name for the same role; templates know the older.
_ROLES = {"developer": "system"}


class ChatTask:
    """One request to answer a chat."""

    def __init__(self, model: ServedModel, request: ChatRequest, meter: Meter) -> None:
        """Renders and tokenises the chat; `tokens` is its cost. Raises ApiError if it does not fit the model."""
        self._model = model
        self._request = request
        self._meter = meter
        prompt = chat_ids(model, [(message.role, message.text) for message in request.messages])
        wanted = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
        self._ask = Ask(
            prompts=[prompt],
            n=request.n or 1,
            max_new_tokens=[room_for(model, prompt, wanted, param="messages")],
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            seed=request.seed,
            stops=request.stops,
            logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        )
        self.tokens, self.counted_tokens = self._ask.tokens, self._ask.counted_tokens
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self.finish_reason = "length"

    async def answer(self) -> ChatCompletion:
        """All choices at once."""
        texts = [""] * self._ask.n
        tokens: list[list[TokenLogprob]] = [[] for _ in texts]
        reasons: list[FinishReason] = ["length"] * self._ask.n
        async with aclosing(generate(self._model, self._ask, self._meter)) as steps:
            async for step in steps:
                for part in step:
                    texts[part.choice] += part.text
                    tokens[part.choice] += self._tokens(part.tokens)
                    if part.finish_reason == "stop":
                        reasons[part.choice] = "stop"
        self.finish_reason = reasons[-1]
        choices: list[ChatChoice] = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": self._logprobs(tokens[index]),
                "finish_reason": reasons[index],
            }
            for index, text in enumerate(texts)
        ]
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model.name,
            "choices": choices,
            "usage": usage(self._meter),
        }

    async def chunks(self) -> AsyncGenerator[list[ChatChunk], None]:
        """The choices piece by piece, those of one step together: the role, then text, then the reason of the end."""
        yield [self._chunk(index, {"role": "assistant", "content": ""}, None, None) for index in range(self._ask.n)]
        async with aclosing(generate(self._model, self._ask, self._meter)) as steps:
            async for step in steps:
                if chunks := [chunk for part in step for chunk in self._chunks_of(part)]:
                    yield chunks
        if self._request.wants_usage_chunk:
            yield [{**self._frame([]), "usage": usage(self._meter)}]

    def _chunks_of(self, part: Part) -> list[ChatChunk]:
        tokens = self._tokens(part.tokens)
        chunks = []
        if part.text or tokens:
            chunks.append(self._chunk(part.choice, {"content": part.text}, self._logprobs(tokens), None))
        if part.finish_reason in {"stop", "length"}:
            self.finish_reason = part.finish_reason
            chunks.append(self._chunk(part.choice, {}, None, part.finish_reason))
        return chunks

    def _tokens(self, tokens: tuple[PlacedToken, ...]) -> list[TokenLogprob]:
        if self._ask.logprobs is None:
            return []
        vocabulary = self._model.tokenizer
        return [
            {
                "token": token_name(vocabulary, placed.scored.token),
                "logprob": placed.scored.logprob or 0.0,
                "bytes": list(vocabulary.token_bytes(placed.scored.token)),
                "top_logprobs": [
                    {
                        "token": token_name(vocabulary, token),
                        "logprob": logprob,
                        "bytes": list(vocabulary.token_bytes(token)),
                    }
                    for token, logprob in placed.scored.top
                ],
            }
            for placed in tokens
        ]

    def _logprobs(self, tokens: list[TokenLogprob]) -> ChatLogprobs | None:
        return None if self._ask.logprobs is None else {"content": tokens, "refusal": None}

    def _chunk(
        self, index: int, delta: ChatDelta, logprobs: ChatLogprobs | None, finish_reason: FinishReason | None
    ) -> ChatChunk:
        frame = self._frame([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}])
        return {**frame, "usage": None} if self._request.wants_usage_chunk else frame

    def _frame(self, choices: list[ChatChunkChoice]) -> ChatChunk:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model.name,
            "choices": choices,
        }


def chat_ids(model: ServedModel, messages: list[tuple[str, str]]) -> list[int]:
    """The ids of a chat, given as (role, text). Raises ApiError if the model has no template or it refuses them."""
    if not model.tokenizer.has_chat_template:
        message = f"model {model.name} has no chat template, so it cannot chat; use /v1/completions"
        raise ApiError("unsupported", message, param="model")
    try:
        return model.tokenizer.encode_chat([
            {"role": _ROLES.get(role, role), "content": text} for role, text in messages
        ])  # fmt: skip
    except TemplateRefusedError:
        message = "the model's chat template refuses this order of roles; alternate user and assistant"
        raise ApiError("invalid_value", message, param="messages") from None
