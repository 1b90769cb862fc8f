"""The POST routes: path, task, schema, and the function that serves a request on a model."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from model_image.answers import Answer, ChatChunk, Completion
from model_image.metrics import Meter
from model_image.registry import Registry, ServedModel
from model_image.schemas import (
    AugmentRequest,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    FillMaskRequest,
    KeywordRequest,
    Request,
    SentimentRequest,
)
from model_image.scopes import Scopes
from model_image.tasks.augmentation import augment_by_generation, augment_by_masks
from model_image.tasks.chat import ChatTask
from model_image.tasks.completions import CompletionTask
from model_image.tasks.embeddings import embed
from model_image.tasks.fill_mask import fill
from model_image.tasks.keywords import extract
from model_image.tasks.sentiment import classify
from model_image.tasks.texts import tokenise


@dataclass(frozen=True)
class Outcome:
    """An answer, or the chunks of a streamed one, those of one step together; `finish_reason` is known at its end."""

    answer: Answer | AsyncGenerator[list[Completion], None] | AsyncGenerator[list[ChatChunk], None]
    finish_reason: Callable[[], str]


@dataclass(frozen=True)
class PostRoute:
    """One route of the API."""

    path: str
    task: str
    schema: type[Request]
    serve: Callable[[ServedModel, Any, Meter], Awaitable[Outcome]]


def choose_model(registry: Registry, route: PostRoute, request: Any, scopes: Scopes) -> ServedModel:
    """The model a request means. Raises ApiError."""
    if isinstance(request, AugmentRequest) and request.method == "generate":
        scopes.check_task(route.task)
        return registry.generator(request.model, scopes=scopes)
    return registry.resolve(request.model, task=route.task, scopes=scopes)


async def _complete(model: ServedModel, request: CompletionRequest, meter: Meter) -> Outcome:
    task = await tokenise(meter, CompletionTask, model, request, meter)
    await _admit(task, meter)
    answer = task.chunks() if request.stream else await task.answer()
    return Outcome(answer, lambda: task.finish_reason)


async def _chat(model: ServedModel, request: ChatRequest, meter: Meter) -> Outcome:
    task = await tokenise(meter, ChatTask, model, request, meter)
    await _admit(task, meter)
    answer = task.chunks() if request.stream else await task.answer()
    return Outcome(answer, lambda: task.finish_reason)


async def _admit(task: CompletionTask | ChatTask, meter: Meter) -> None:
    """Asks for room in the server, and then for tokens of the consumer's budget. Raises ApiError."""
    meter.charge(task.tokens)
    await meter.reserve(task.counted_tokens)


async def _augment(model: ServedModel, request: AugmentRequest, meter: Meter) -> Outcome:
    by = augment_by_generation if request.method == "generate" else augment_by_masks
    return _whole(await by(model, request, meter))


async def _embed(model: ServedModel, request: EmbeddingRequest, meter: Meter) -> Outcome:
    return _whole(await embed(model, request, meter))


async def _classify(model: ServedModel, request: SentimentRequest, meter: Meter) -> Outcome:
    return _whole(await classify(model, request, meter))


async def _extract(model: ServedModel, request: KeywordRequest, meter: Meter) -> Outcome:
    return _whole(await extract(model, request, meter))


async def _fill(model: ServedModel, request: FillMaskRequest, meter: Meter) -> Outcome:
    return _whole(await fill(model, request, meter))


def _whole(answer: Answer) -> Outcome:
    return Outcome(answer, lambda: "stop")


POSTS = (
    PostRoute("/v1/completions", "completions", CompletionRequest, _complete),
    PostRoute("/v1/chat/completions", "chat", ChatRequest, _chat),
    PostRoute("/v1/embeddings", "embeddings", EmbeddingRequest, _embed),
    PostRoute("/v1/sentiment", "sentiment", SentimentRequest, _classify),
    PostRoute("/v1/keywords", "keywords", KeywordRequest, _extract),
    PostRoute("/v1/augment", "augmentation", AugmentRequest, _augment),
    PostRoute("/v1/fill-mask", "fill-mask", FillMaskRequest, _fill),
)
