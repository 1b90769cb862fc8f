"""The request bodies of the HTTP API: what each route takes.

Fields and their ranges are OpenAI's where the route is OpenAI's. Every string and list is bounded, and a body is
refused at the first thing that is wrong with it: a list of all that is wrong with a hostile one would take very long.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

MAX_TEXT_CHARS = 1_000_000
MAX_INPUTS = 256
MAX_TOKEN_IDS = 131_072
MAX_SEQUENCES = 64

Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
TokenIds = Annotated[list[TokenId], Field(fail_fast=True, min_length=1, max_length=MAX_TOKEN_IDS)]
StopText = Annotated[str, Field(min_length=1, max_length=256)]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]
Texts = Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MAX_INPUTS)]
TextInput = Annotated[Text | Texts, Field(description="a string or a list of strings")]
TokenInput = Annotated[
    Text | Texts | TokenIds | Annotated[list[TokenIds], Field(fail_fast=True, min_length=1, max_length=MAX_INPUTS)],
    Field(description="a string, a list of strings, a list of token ids or a list of lists of token ids"),
]
Stop = Annotated[
    StopText | Annotated[list[StopText], Field(fail_fast=True, max_length=4)] | None,
    Field(description="a string of 1 to 256 characters or a list of up to 4 of them"),
]
Seed = Annotated[int | None, Field(ge=-(2**63), le=2**63 - 1)]
Temperature = Annotated[float | None, Field(ge=0.0, le=2.0)]
TopP = Annotated[float | None, Field(ge=0.0, le=1.0)]
Choices = Annotated[int | None, Field(ge=1, le=16)]
UserLabel = Annotated[str | None, Field(max_length=512)]


@dataclass(frozen=True)
class _Only:
    """Accepts a field of OpenAI's that this server does not implement only where it asks for nothing."""

    allowed: tuple[object, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "enum": [None, *self.allowed]}

    def _check(self, value: object) -> object:
        if value is None or value in self.allowed:
            return value
        raise PydanticCustomError("unsupported", "is not supported by this server; leave it out")


def _only(*allowed: object) -> _Only:
    return _Only(allowed)


NoNumber = Annotated[float | None, _only(0.0)]
NoMap = Annotated[dict[str, Any] | None, _only({})]
NoList = Annotated[list[Any] | None, _only([])]
NoFlag = Annotated[bool | None, _only(False)]


class Request(BaseModel):
    """A request body: unknown fields refused, no coercion between types, finite numbers only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, value: Any) -> Any:
        """Names the first unknown field; `extra` alone would collect all of them."""
        if isinstance(value, dict):
            for name in value:
                if name not in cls.model_fields:
                    raise PydanticCustomError("unknown_field", "unknown field", {"name": name})
        return value


class StreamOptions(Request):
    """What a stream carries besides its chunks."""

    include_usage: bool | None = None
    include_obfuscation: NoFlag = None


class GenerationRequest(Request):
    """The fields that completions and chat completions share."""

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices = None
    stop: Stop = None
    seed: Seed = None
    temperature: Temperature = None
    top_p: TopP = None
    user: UserLabel = None
    frequency_penalty: NoNumber = None
    presence_penalty: NoNumber = None
    logit_bias: NoMap = None

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("stream_options", "'stream_options' is only allowed with 'stream': true")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings, none to four."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def wants_usage_chunk(self) -> bool:
        """Whether a stream ends with a chunk that holds the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class CompletionRequest(GenerationRequest):
    """Body of POST /v1/completions."""

    prompt: TokenInput
    max_tokens: Annotated[int | None, Field(ge=0, le=MAX_TOKEN_IDS)] = None
    logprobs: Annotated[int | None, Field(ge=0, le=5)] = None
    echo: bool | None = None
    best_of: Annotated[int | None, _only(1)] = None
    suffix: Annotated[str | None, _only("")] = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if len(self.prompts) * (self.n or 1) > MAX_SEQUENCES:
            message = "'prompt' times 'n' asks for more than {limit} choices; send several requests"
            raise PydanticCustomError("too_many_choices", message, {"limit": MAX_SEQUENCES})
        if self.max_tokens == 0 and not self.echo:
            raise PydanticCustomError("no_tokens", "'max_tokens' of 0 generates nothing and needs 'echo': true")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """One entry per prompt."""
        return as_inputs(self.prompt)


class TextPart(Request):
    """One text part of a message."""

    type: Literal["text"]
    text: Text


class Message(Request):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Text | Annotated[list[TextPart], Field(fail_fast=True, min_length=1, max_length=MAX_INPUTS)],
        Field(description="a string or a list of text parts"),
    ]
    name: Annotated[str | None, Field(max_length=64)] = None
    refusal: Annotated[str | None, _only()] = None

    @property
    def text(self) -> str:
        """The content as one string."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ResponseFormat(Request):
    """The only form of answer there is: text."""

    type: Literal["text"]


class ChatRequest(GenerationRequest):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1, max_length=1024)]
    max_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKEN_IDS)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKEN_IDS)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    response_format: ResponseFormat | None = None
    tools: NoList = None
    tool_choice: Annotated[str | None, _only("none", "auto")] = None
    functions: NoList = None
    function_call: Annotated[str | None, _only("none", "auto")] = None
    parallel_tool_calls: bool | None = None
    modalities: Annotated[list[Annotated[str, Field(max_length=64)]] | None, _only(["text"])] = None
    audio: NoMap = None
    prediction: NoMap = None
    store: NoFlag = None
    metadata: NoMap = None
    service_tier: Annotated[str | None, _only("auto", "default")] = None
    safety_identifier: UserLabel = None
    prompt_cache_key: UserLabel = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError("top_logprobs", "'top_logprobs' is only allowed with 'logprobs': true")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            message = "'max_tokens' and 'max_completion_tokens' differ; send 'max_completion_tokens' alone"
            raise PydanticCustomError("max_tokens", message)
        return self


class EmbeddingRequest(Request):
    """Body of POST /v1/embeddings."""

    model: ModelName
    input: TokenInput
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int | None, _only()] = None
    user: UserLabel = None

    @property
    def inputs(self) -> list[str | list[int]]:
        """One entry per text."""
        return as_inputs(self.input)


class TextRequest(Request):
    """What the routes over plain texts share; `model` may be left out where one loaded model serves the task."""

    model: ModelName | None = None
    input: TextInput

    @property
    def texts(self) -> list[str]:
        """One entry per text."""
        return [self.input] if isinstance(self.input, str) else list(self.input)


class SentimentRequest(TextRequest):
    """Body of POST /v1/sentiment."""


class KeywordRequest(TextRequest):
    """Body of POST /v1/keywords."""

    top_k: Annotated[int, Field(ge=1, le=50)] = 5
    ngram_range: Annotated[list[Annotated[int, Field(ge=1, le=5)]], Field(min_length=2, max_length=2)] = [1, 2]
    diversity: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        if self.ngram_range[0] > self.ngram_range[1]:
            raise PydanticCustomError("ngram_range", "'ngram_range' must be [shortest, longest], such as [1, 2]")
        return self


class AugmentRequest(TextRequest):
    """Body of POST /v1/augment."""

    n: Annotated[int, Field(ge=1, le=16)] = 3
    method: Literal["fill_mask", "generate"] = "fill_mask"
    seed: Seed = None
    preserve: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=256)]],
        Field(fail_fast=True, max_length=64, description="a list of up to 64 strings of 1 to 256 characters"),
    ] = []


class FillMaskRequest(TextRequest):
    """Body of POST /v1/fill-mask."""

    top_k: Annotated[int, Field(ge=1, le=100)] = 5


def as_inputs(value: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    """Brings the four forms of OpenAI's `prompt` and `input` to a list with one entry per text."""
    if isinstance(value, str):
        return [value]
    if isinstance(value[0], int):
        return [[token for token in value if isinstance(token, int)]]
    return [entry for entry in value if not isinstance(entry, int)]
