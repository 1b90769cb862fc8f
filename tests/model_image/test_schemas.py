"""What a body may hold, and that what is said about a wrong one never quotes it."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_image.api_errors import ApiError
from model_image.http_body import parse
from model_image.routes import POSTS
from model_image.schemas import (
    AugmentRequest,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    KeywordRequest,
    Request,
)

COMPLETION: dict[str, Any] = {"model": "m", "prompt": "p"}
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "p"}]}
WRONG: list[tuple[type[Request], dict[str, Any], str]] = [
    (CompletionRequest, {"prompt": "p"}, "field 'model' is required"),
    (CompletionRequest, COMPLETION | {"foo": 1}, "unknown field 'foo'; remove it"),
    (CompletionRequest, COMPLETION | {"prompt": []}, "field 'prompt' must be a string, a list of strings, a list of"),
    (CompletionRequest, COMPLETION | {"prompt": [1, "a"]}, "field 'prompt' must be a string, a list of strings"),
    (
        CompletionRequest,
        COMPLETION | {"temperature": 2.5},
        "field 'temperature': input should be less than or equal to 2",
    ),
    (CompletionRequest, COMPLETION | {"temperature": "1"}, "field 'temperature': input should be a valid number"),
    (CompletionRequest, COMPLETION | {"max_tokens": True}, "field 'max_tokens': input should be a valid integer"),
    (CompletionRequest, COMPLETION | {"max_tokens": 0}, "'max_tokens' of 0 generates nothing and needs 'echo': true"),
    (CompletionRequest, COMPLETION | {"top_p": -0.1}, "field 'top_p': input should be greater than or equal to 0"),
    (CompletionRequest, COMPLETION | {"logprobs": 6}, "field 'logprobs': input should be less than or equal to 5"),
    (CompletionRequest, COMPLETION | {"seed": 2**64}, "field 'seed': input should be"),
    (
        CompletionRequest,
        COMPLETION | {"stop": ["a"] * 5},
        "field 'stop' must be a string of 1 to 256 characters or a list",
    ),
    (
        CompletionRequest,
        COMPLETION | {"stop": "x" * 100_000},
        "field 'stop' must be a string of 1 to 256 characters or a",
    ),
    (CompletionRequest, COMPLETION | {"best_of": 2}, "field 'best_of' is not supported by this server; leave it out"),
    (CompletionRequest, COMPLETION | {"logit_bias": {"5": 1}}, "field 'logit_bias' is not supported"),
    (CompletionRequest, COMPLETION | {"suffix": "s"}, "field 'suffix' is not supported"),
    (
        CompletionRequest,
        COMPLETION | {"prompt": ["p"] * 60, "n": 16},
        "'prompt' times 'n' asks for more than 64 choices",
    ),
    (CompletionRequest, COMPLETION | {"stream_options": {}}, "'stream_options' is only allowed with 'stream': true"),
    (ChatRequest, CHAT | {"messages": []}, "field 'messages': list should have at least 1 item"),
    (ChatRequest, CHAT | {"messages": [{"role": "user"}]}, "field 'messages[0].content' is required"),
    (
        ChatRequest,
        CHAT | {"messages": [{"role": "tool", "content": "c"}]},
        "field 'messages[0].role': input should be 'sys",
    ),
    (
        ChatRequest,
        CHAT | {"messages": [{"role": "user", "content": "c", "x": 1}]},
        "unknown field 'x' in 'messages[0]'",
    ),
    (
        ChatRequest,
        CHAT | {"messages": [{"role": "user", "content": 1}]},
        "field 'messages[0].content' must be a string or a list of text parts",
    ),
    (
        ChatRequest,
        CHAT | {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
        "field 'messages[0].content[0].text': input should be a valid string",
    ),
    (
        ChatRequest,
        CHAT | {"messages": [{"role": "user", "content": [{"type": "text", "text": "c", "x": 1}]}]},
        "unknown field 'x' in 'messages[0].content[0]'; remove it",
    ),
    (ChatRequest, CHAT | {"tools": [{}]}, "field 'tools' is not supported"),
    (
        ChatRequest,
        CHAT | {"response_format": {"type": "json_object"}},
        "field 'response_format.type': input should be 'te",
    ),
    (ChatRequest, CHAT | {"top_logprobs": 2}, "'top_logprobs' is only allowed with 'logprobs': true"),
    (
        ChatRequest,
        CHAT | {"max_tokens": 1, "max_completion_tokens": 2},
        "'max_tokens' and 'max_completion_tokens' differ",
    ),
    (EmbeddingRequest, {"model": "m", "input": "a", "dimensions": 3}, "field 'dimensions' is not supported"),
    (KeywordRequest, {"input": "a", "ngram_range": [2, 1]}, "'ngram_range' must be [shortest, longest]"),
    (AugmentRequest, {"input": "a", "method": "guess"}, "field 'method': input should be 'fill_mask' or 'generate'"),
    (AugmentRequest, {"input": 3}, "field 'input' must be a string or a list of strings"),
]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(("schema", "body", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_a_wrong_body_is_named_by_field_and_remedy(schema: type[Request], body: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(json.dumps(body).encode(), schema)

    assert caught.value.status == 400
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'"a"',
        b"\xff",
        b'{"model": NaN}',
        b"[" * 100_000,
        b'{"model": "\\ud800"}',
        b'{"a": 1e999}',
        b"{\x00}",
    ],
    ids=repr,
)
def test_what_is_no_json_object_is_a_400(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse(body[:200_000], CompletionRequest)

    assert caught.value.status == 400


@pytest.mark.parametrize("value", [1e999, 10**400])
def test_huge_numbers_are_refused(value: float) -> None:
    body = b'{"model": "m", "prompt": "p", "temperature": %s}' % str(value).replace("inf", "1e999").encode()

    with pytest.raises(ApiError) as caught:
        parse(body, CompletionRequest)

    assert caught.value.status == 400


def test_fields_of_openai_that_ask_for_nothing_are_taken() -> None:
    nothing: dict[str, Any] = {
        "frequency_penalty": 0,
        "presence_penalty": None,
        "logit_bias": {},
        "best_of": 1,
        "user": "u",
    }

    assert parse(orjson.dumps(COMPLETION | nothing), CompletionRequest).prompts == ["p"]


@pytest.mark.parametrize("top_p", [0, 0.0, 1])
def test_top_p_has_openais_range(top_p: float) -> None:
    assert parse(orjson.dumps(COMPLETION | {"top_p": top_p}), CompletionRequest).top_p == top_p


@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.path)
@given(
    value=json_values,
    field=st.sampled_from(["model", "input", "prompt", "messages", "stop", "seed", "n", "user", "top_k"]),
)
def test_any_json_is_taken_or_refused_without_being_quoted(route: Any, value: Any, field: str) -> None:
    marker = "Ztextmarker"
    body = {"model": "m", "input": "a", "prompt": marker, field: [value, marker]}

    said = ""
    try:
        parse(orjson.dumps(body), route.schema)
    except ApiError as error:
        said = error.message

    assert marker not in said
    assert len(said) < 400
