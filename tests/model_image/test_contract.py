"""The server keeps to its OpenAPI document: schemathesis makes right and wrong requests and checks the answers."""

import json
import os
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from model_image.openapi import document
from tests.model_image.server_process import ServerProcess

# MODELKEEP_CONTRACT_EXAMPLES=300 looks longer, and elsewhere each time.
EXAMPLES = int(os.environ.get("MODELKEEP_CONTRACT_EXAMPLES", "0"))
LIMITS = settings(
    max_examples=EXAMPLES or 10,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
WORDS = {"type": "string", "minLength": 1, "maxLength": 24, "pattern": "^[a-z][a-z .,'<|>]*$"}
MODELS = ["tiny-gpt2", "tiny-chat", "tiny-embed", "tiny-sentiment", "tiny-mlm"]
# What a request must be besides what a schema can say in a way that one can make examples of it: a model that is there,
# few tokens, and fields that go together.
AIMED: dict[str, dict[str, Any]] = {
    "CompletionRequest": {
        "model": {"enum": ["tiny-gpt2", "tiny-chat"]},
        "prompt": {"anyOf": [WORDS, {"type": "array", "items": WORDS, "minItems": 1, "maxItems": 2},
                             {"type": "array", "items": {"type": "integer", "minimum": 3, "maximum": 300},
                              "minItems": 1, "maxItems": 5}]},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 4},
        "n": {"enum": [None, 1, 2]},
        "stream": {"type": "boolean"},
        "stream_options": None,
    },
    "ChatRequest": {
        "model": {"const": "tiny-chat"},
        "messages": {"type": "array", "minItems": 1, "maxItems": 3, "items": {
            "type": "object", "required": ["role", "content"], "additionalProperties": False, "properties": {
                "role": {"enum": ["system", "developer", "user", "assistant"]}, "content": WORDS}}},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 4},
        "max_completion_tokens": None,
        "n": {"enum": [None, 1, 2]},
        "logprobs": {"const": True},
        "stream": {"type": "boolean"},
        "stream_options": None,
    },
    "EmbeddingRequest": {"model": {"const": "tiny-embed"}, "input": WORDS},
    "SentimentRequest": {"model": {"enum": [None, "tiny-sentiment"]}, "input": WORDS},
    "KeywordRequest": {"model": {"enum": [None, "tiny-embed"]}, "input": WORDS, "ngram_range": {"const": [1, 3]}},
    "AugmentRequest": {"model": {"const": "tiny-mlm"}, "input": WORDS, "method": {"const": "fill_mask"}},
    "FillMaskRequest": {"model": {"const": "tiny-mlm"}, "input": {"enum": ["the [MASK] dog", "[MASK] [MASK] [SEP]"]}},
}  # fmt: skip


def aimed() -> dict[str, Any]:
    """The document with its requests narrowed to such as this server can answer; its answers as they are."""
    found = document(version="1")
    for name, fields in AIMED.items():
        schema = found["components"]["schemas"][name]
        schema["properties"] |= {field: shape for field, shape in fields.items() if shape is not None}
        schema["required"] = [*schema["required"], *(field for field in ("max_tokens", "logprobs") if field in fields)]
        for field in (field for field, shape in fields.items() if shape is None):
            del schema["properties"][field]
    found["paths"]["/v1/models/{model}"]["get"]["parameters"][0]["schema"] = {"enum": MODELS}
    return found


def bounded(value: Any) -> Any:
    """The document without bounds so far away that what breaks them is larger than a body may be."""
    if isinstance(value, Mapping):
        far = {"maxLength": 256, "maxItems": 64}
        return {key: bounded(inner) for key, inner in value.items() if not (key in far and inner > far[key])}
    return [bounded(inner) for inner in value] if isinstance(value, list) else value


def configured(mode: str) -> SchemathesisConfig:
    # What it may not do is in the document; too large a body is refused by its own status.
    rejected = {"expected-statuses": ["400", "404", "405", "413", "415"]}
    accepted = {"expected-statuses": ["2xx"]}
    checks = {"negative_data_rejection": rejected, "positive_data_acceptance": accepted}
    return SchemathesisConfig.from_dict({"generation": {"mode": mode}, "checks": checks})


right = schemathesis.openapi.from_dict(aimed(), config=configured("positive"))
wrong = schemathesis.openapi.from_dict(bounded(document(version="1")), config=configured("negative"))


@right.hook
def map_body(_: schemathesis.HookContext, body: Any) -> Any:
    """JSON schema takes 5.0 for an integer, and this server does not."""
    return with_whole_numbers(body)


def with_whole_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: with_whole_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_whole_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@right.parametrize()
@LIMITS
def test_right_requests_are_answered_as_described(case: schemathesis.Case, server: ServerProcess) -> None:
    response = case.call_and_validate(base_url=server.url)

    if response.headers.get("content-type", [""])[0].startswith("text/event-stream"):
        check_events(case.path, response.content.decode())


@wrong.parametrize()
@LIMITS
def test_wrong_requests_are_refused_as_described(case: schemathesis.Case, server: ServerProcess) -> None:
    case.call_and_validate(base_url=server.url)


def check_events(path: str, body: str) -> None:
    """Every event is a chunk as described, which OpenAPI 3.1 can only say in words."""
    described = document(version="1")
    chunk = {"/v1/completions": "Completion", "/v1/chat/completions": "ChatChunk"}[path]
    schema = {"$ref": f"#/components/schemas/{chunk}", "components": described["components"]}
    *events, done, rest = body.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert events
    for event in events:
        jsonschema.validate(json.loads(event.removeprefix("data: ")), schema)


@pytest.mark.parametrize("body", ["data: {}\n\ndata: [DONE]\n\n", 'data: {"error": {}}\n\n', "data: [DONE]\n\n"])
def test_other_events_would_be_noticed(body: str) -> None:
    with pytest.raises((AssertionError, jsonschema.ValidationError, ValueError)):
        check_events("/v1/completions", body)
