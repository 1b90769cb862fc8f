"""The bodies the HTTP API answers with, checked where they are built and described in openapi.json."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class Usage(TypedDict):
    """Tokens read and made for one request."""

    prompt_tokens: int
    completion_tokens: NotRequired[int]
    total_tokens: int


class ErrorBody(TypedDict):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(TypedDict):
    """The body of every answer that is not a success."""

    error: ErrorBody


class Model(TypedDict):
    """One loaded model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str
    tasks: list[str]
    context_length: int


class ModelList(TypedDict):
    """Answer of GET /v1/models."""

    object: Literal["list"]
    data: list[Model]


class UsagePeriod(TypedDict):
    """Tokens of a day or month (UTC); null where nothing is counted or limited."""

    used: int | None
    reserved: int | None
    limit: int | None
    remaining: int | None
    reset_seconds: int | None


class ConsumerUsage(TypedDict):
    """Answer of GET /v1/usage: the caller's own limits and use."""

    object: Literal["usage"]
    consumer: str
    plan: str
    day: UsagePeriod
    month: UsagePeriod


FinishReason = Literal["stop", "length"]


class CompletionLogprobs(TypedDict):
    """Log probabilities of one choice; the first token of an echoed prompt has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(TypedDict):
    """One continuation."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class Completion(TypedDict):
    """Answer of POST /v1/completions, and each chunk of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: NotRequired[Usage | None]


class TopLogprob(TypedDict):
    """One likely token."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TypedDict):
    """One generated token with its likely alternatives."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(TypedDict):
    """Log probabilities of one chat choice."""

    content: list[TokenLogprob]
    refusal: None


class ChatMessage(TypedDict):
    """What the model said."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(TypedDict):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(TypedDict):
    """Answer of POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ChatDelta(TypedDict):
    """What a chunk adds to the message."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]


class ChatChunkChoice(TypedDict):
    """A chunk's part of one answer."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(TypedDict):
    """One chunk of a streamed chat completion."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: NotRequired[Usage | None]


class Embedding(TypedDict):
    """One text's vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(TypedDict):
    """Answer of POST /v1/embeddings."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class SentimentEntry(TypedDict):
    """One text's label and the probability of every label."""

    index: int
    label: str
    score: float
    scores: dict[str, float]


class SentimentAnswer(TypedDict):
    """Answer of POST /v1/sentiment."""

    data: list[SentimentEntry]
    model: str
    usage: Usage


class Keyword(TypedDict):
    """A keyword with its cosine similarity to the text and its place: `input[start:end]` in characters."""

    text: str
    score: float
    start: int
    end: int


class KeywordEntry(TypedDict):
    """One text's keywords, best first."""

    index: int
    keywords: list[Keyword]


class KeywordAnswer(TypedDict):
    """Answer of POST /v1/keywords."""

    data: list[KeywordEntry]
    model: str
    usage: Usage


class AugmentEntry(TypedDict):
    """One text's distinct variants; fewer than asked for where the model finds no more."""

    index: int
    variants: list[str]


class AugmentAnswer(TypedDict):
    """Answer of POST /v1/augment."""

    data: list[AugmentEntry]
    model: str
    usage: Usage


class MaskCandidate(TypedDict):
    """A token for the mask, its probability, and the text with it in place."""

    token: str
    score: float
    text: str


class MaskEntry(TypedDict):
    """The candidates for one mask: `index` counts the inputs, `mask` the masks within one."""

    index: int
    mask: int
    candidates: list[MaskCandidate]


class FillMaskAnswer(TypedDict):
    """Answer of POST /v1/fill-mask."""

    data: list[MaskEntry]
    model: str
    usage: Usage


Answer = Completion | ChatCompletion | EmbeddingList | SentimentAnswer | KeywordAnswer | AugmentAnswer | FillMaskAnswer
