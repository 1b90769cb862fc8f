"""The official client, with nothing but base_url and api_key set."""

from __future__ import annotations

import math
import time

import openai
import pytest

from lambdas import tokens
from tests.end_to_end.conftest import RunningStack


def test_models_are_listed_with_their_tasks(stack: RunningStack) -> None:
    models = {model.id: model.model_dump() for model in stack.openai().models.list()}
    assert {"tiny-chat", "tiny-gpt2", "tiny-embed", "tiny-sentiment", "tiny-mlm"} <= set(models)
    assert models["tiny-chat"]["tasks"] == ["chat", "completions"]
    assert models["tiny-gpt2"]["version"] == "1"
    assert stack.openai().models.retrieve("tiny-gpt2").id == "tiny-gpt2"


def test_chat_streams_the_text_that_it_also_answers_whole(stack: RunningStack) -> None:
    messages = [{"role": "user", "content": "hello"}]
    whole = stack.openai().chat.completions.create(model="tiny-chat", messages=messages, max_tokens=24, temperature=0)
    chunks = list(
        stack.openai().chat.completions.create(
            model="tiny-chat",
            messages=messages,
            max_tokens=24,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens > 0


def test_completions_answer_every_prompt_and_choice(stack: RunningStack) -> None:
    answer = stack.openai().completions.create(
        model="tiny-gpt2", prompt=["one", "two"], n=2, max_tokens=5, seed=1, temperature=1.0
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    again = stack.openai().completions.create(
        model="tiny-gpt2", prompt=["one", "two"], n=2, max_tokens=5, seed=1, temperature=1.0
    )
    assert [choice.text for choice in answer.choices] == [choice.text for choice in again.choices]


def test_embeddings_come_as_unit_vectors(stack: RunningStack) -> None:
    answer = stack.openai().embeddings.create(model="tiny-embed", input=["a model", "a server"])
    for entry in answer.data:
        assert math.isclose(sum(value * value for value in entry.embedding), 1.0, rel_tol=1e-3)


def test_the_other_tasks_answer(stack: RunningStack) -> None:
    sentiment = stack.post("sentiment", {"input": ["great product", "terrible service"]}).json()
    assert {entry["label"] for entry in sentiment["data"]} <= {"negative", "positive"}
    keywords = stack.post("keywords", {"input": "a model server answers requests", "top_k": 2}).json()
    assert len(keywords["data"][0]["keywords"]) == 2
    filled = stack.post("fill-mask", {"input": "the quick [MASK] fox", "top_k": 3})
    assert filled.status_code == 200
    augmented = stack.post(
        "augment", {"input": "the quick brown fox jumps", "n": 2, "method": "fill_mask", "seed": 1}
    ).json()
    assert augmented["data"][0]["index"] == 0


def test_errors_are_the_clients_own_classes(stack: RunningStack) -> None:
    with pytest.raises(openai.AuthenticationError) as unknown:
        stack.openai(token=tokens.mint()).models.list()
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError) as mistyped:
        stack.openai(token="mk_" + "0" * 49).models.list()
    assert mistyped.value.code == "token_mistyped"
    with pytest.raises(openai.PermissionDeniedError) as blocked:
        stack.openai(address="127.0.0.66").models.list()
    assert blocked.value.code == "blocked_by_firewall"
    with pytest.raises(openai.NotFoundError):
        stack.openai().completions.create(model="no-such-model", prompt="hello")
    with pytest.raises(openai.BadRequestError) as bad:
        stack.openai().completions.create(model="tiny-gpt2", prompt="hello", extra_body={"best_off": 2})
    assert "best_off" in bad.value.message
    trickle = stack.openai(token=stack.token("trickle"))
    with pytest.raises(openai.RateLimitError) as limited:
        _call_often(trickle, times=8)
    assert limited.value.code == "rate_limit_exceeded"
    assert int(limited.value.response.headers["retry-after"]) > 0


def _call_often(client: openai.OpenAI, *, times: int) -> None:
    for _ in range(times):
        client.models.list()


def test_a_quota_ends(stack: RunningStack) -> None:
    client = stack.openai(token=stack.token("sample"))
    with pytest.raises(openai.RateLimitError) as ended:
        _call_often(client, times=5)
    assert ended.value.code == "quota_exceeded"


def test_the_first_token_arrives_before_the_last_is_made(stack: RunningStack) -> None:
    """Through gateway, balancer and server: a slow generation's chunks arrive spread over the time it takes."""
    started = time.monotonic()
    arrivals = [
        time.monotonic() - started
        for chunk in stack.openai().completions.create(
            model="slow-gpt2", prompt="the", max_tokens=300, temperature=1.0, seed=6, stream=True
        )
        if chunk.choices and chunk.choices[0].text
    ]
    assert len(arrivals) > 50
    assert arrivals[0] < arrivals[-1] / 2
    middle = arrivals[len(arrivals) // 2]
    assert arrivals[0] < middle < arrivals[-1]


def test_every_answer_names_its_request(stack: RunningStack) -> None:
    good = stack.post("completions", {"model": "tiny-gpt2", "prompt": "a", "max_tokens": 1})
    refused = stack.post("completions", {"model": "tiny-gpt2"})
    assert good.status_code == 200
    assert refused.status_code == 400
    assert good.headers["x-request-id"] != refused.headers["x-request-id"]
