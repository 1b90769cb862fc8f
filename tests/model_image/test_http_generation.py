"""Completions and chat over HTTP."""

from typing import Any

import httpx
import pytest

from tests.model_image.server_process import events_of, metric

GREEDY = {"model": "tiny-gpt2", "prompt": "The quick brown", "temperature": 0, "max_tokens": 12}
CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "seed": 4}


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_completion_has_openais_shape(client: httpx.Client) -> None:
    answer = post(client, "/v1/completions", GREEDY)

    assert answer["object"] == "text_completion"
    assert answer["model"] == "tiny-gpt2"
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["text"]
    prompt = answer["usage"]["prompt_tokens"]
    assert answer["usage"] == {"prompt_tokens": prompt, "completion_tokens": 12, "total_tokens": prompt + 12}


def test_a_stream_brings_the_same_text_and_the_usage_last(client: httpx.Client) -> None:
    whole = post(client, "/v1/completions", GREEDY)
    streamed = client.post("/v1/completions", json=GREEDY | {"stream": True, "stream_options": {"include_usage": True}})

    assert streamed.headers["content-type"].startswith("text/event-stream")
    *chunks, last = events_of(streamed)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "length"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]


def test_a_seed_brings_the_same_choices_again_and_they_differ(client: httpx.Client) -> None:
    body = GREEDY | {"temperature": 1.0, "n": 3, "seed": 7}

    first, second = post(client, "/v1/completions", body), post(client, "/v1/completions", body)

    texts = [choice["text"] for choice in first["choices"]]
    assert texts == [choice["text"] for choice in second["choices"]]
    assert len(set(texts)) > 1
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2]


def test_streamed_choices_keep_their_numbers(client: httpx.Client) -> None:
    body = GREEDY | {"temperature": 1.0, "n": 2, "seed": 7, "prompt": ["The", "A model"]}
    whole = post(client, "/v1/completions", body)

    texts = ["", "", "", ""]
    for chunk in events_of(client.post("/v1/completions", json=body | {"stream": True})):
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]

    assert texts == [choice["text"] for choice in whole["choices"]]


def test_text_ends_before_a_stop_string_that_spans_tokens(client: httpx.Client) -> None:
    text = post(client, "/v1/completions", GREEDY)["choices"][0]["text"]
    stop = text[4:9]
    expected = text[: text.index(stop)]

    for body in (GREEDY | {"stop": stop}, GREEDY | {"stop": ["never this", stop]}):
        choice = post(client, "/v1/completions", body)["choices"][0]
        chunks = events_of(client.post("/v1/completions", json=body | {"stream": True}))
        assert (choice["text"], choice["finish_reason"]) == (expected, "stop")
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == expected


def test_a_prompt_may_be_token_ids(client: httpx.Client) -> None:
    by_ids = post(client, "/v1/completions", GREEDY | {"prompt": [40, 41]})
    by_lists = post(client, "/v1/completions", GREEDY | {"prompt": [[40, 41], [42]]})

    assert by_lists["choices"][0]["text"] == by_ids["choices"][0]["text"]
    assert len(by_lists["choices"]) == 2
    refused = client.post("/v1/completions", json=GREEDY | {"prompt": [400]})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "field 'prompt' has a token id over 383, this model's last"


def test_echo_scores_the_prompt(client: httpx.Client) -> None:
    body = GREEDY | {"echo": True, "logprobs": 2, "max_tokens": 3}

    choice = post(client, "/v1/completions", body)["choices"][0]

    assert choice["text"].startswith(GREEDY["prompt"])
    scores = choice["logprobs"]
    assert "".join(scores["tokens"]) == choice["text"]
    assert scores["token_logprobs"][0] is None
    assert all(score < 0 for score in scores["token_logprobs"][1:])
    assert [
        choice["text"].index(token, at) for token, at in zip(scores["tokens"], scores["text_offset"], strict=True)
    ] == scores["text_offset"]
    assert len(scores["top_logprobs"]) == len(scores["tokens"])
    only_scored = post(client, "/v1/completions", body | {"max_tokens": 0})["choices"][0]
    assert only_scored["text"] == GREEDY["prompt"]
    assert only_scored["finish_reason"] == "length"
    streamed = events_of(client.post("/v1/completions", json=body | {"stream": True}))
    assert "".join(chunk["choices"][0]["text"] for chunk in streamed) == choice["text"]
    tokens = [token for chunk in streamed for token in chunk["choices"][0]["logprobs"]["tokens"]]
    assert tokens == scores["tokens"]


def test_a_chat_answer_and_its_stream_are_one_text(client: httpx.Client) -> None:
    whole = post(client, "/v1/chat/completions", CHAT)
    chunks = events_of(client.post("/v1/chat/completions", json=CHAT | {"stream": True}))

    message = whole["choices"][0]["message"]
    assert message["role"] == "assistant"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == message["content"]
    assert all(chunk["object"] == "chat.completion.chunk" and "usage" not in chunk for chunk in chunks)


def test_chat_reads_text_parts_and_the_developer_role(client: httpx.Client) -> None:
    plain = CHAT | {"messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hello there"}]}
    parts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]
    same = CHAT | {"messages": [{"role": "developer", "content": "Be kind"}, {"role": "user", "content": parts}]}

    assert (
        post(client, "/v1/chat/completions", plain)["choices"] == post(client, "/v1/chat/completions", same)["choices"]
    )


def test_chat_reports_log_probabilities(client: httpx.Client) -> None:
    body = CHAT | {"logprobs": True, "top_logprobs": 3, "temperature": 0}

    scores = post(client, "/v1/chat/completions", body)["choices"][0]["logprobs"]["content"]

    assert scores
    for score in scores:
        assert len(score["top_logprobs"]) == 3
        assert score["top_logprobs"][0]["logprob"] == pytest.approx(score["logprob"])


def test_chat_without_a_limit_ends_with_the_context(client: httpx.Client) -> None:
    body = {key: value for key, value in CHAT.items() if key != "max_tokens"} | {"temperature": 0}

    answer = post(client, "/v1/chat/completions", body)

    reason = answer["choices"][0]["finish_reason"]
    assert (reason == "length") == (answer["usage"]["total_tokens"] == 256)


def test_too_long_a_text_is_refused_with_its_counts(client: httpx.Client) -> None:
    for path, body, counts in (
        (
            "/v1/completions",
            GREEDY | {"prompt": [7] * 250},
            "256 tokens, the request needs 262 (250 in the prompt and 12",
        ),
        ("/v1/chat/completions", CHAT | {"max_tokens": 256}, "this model's context is 256 tokens"),
        (
            "/v1/embeddings",
            {"model": "tiny-embed", "input": [7] * 129},
            "input 0 has 129 tokens, model tiny-embed takes 128",
        ),
    ):
        response = client.post(path, json=body)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"
        assert counts in response.json()["error"]["message"]


def test_a_client_that_leaves_stops_costing(client: httpx.Client) -> None:
    body = {"model": "tiny-slow", "prompt": "The", "temperature": 0, "max_tokens": 8000, "stream": True}
    before = metric(str(client.base_url), "generation_tokens_total", model_name="tiny-slow")

    with client.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        assert metric(str(client.base_url), "num_requests_running", model_name="tiny-slow") == 1

    while metric(str(client.base_url), "num_requests_running", model_name="tiny-slow"):
        pass  # the test's time limit ends this
    made = metric(str(client.base_url), "generation_tokens_total", model_name="tiny-slow") - before
    assert 0 < made < 8000


def test_streams_do_not_wait_for_each_other(client: httpx.Client) -> None:
    slow = {"model": "tiny-slow", "prompt": "The", "temperature": 0, "max_tokens": 8000, "stream": True}

    with client.stream("POST", "/v1/completions", json=slow) as response:
        lines = response.iter_lines()
        next(lines)
        post(client, "/v1/completions", GREEDY | {"model": "tiny-slow"})
        post(client, "/v1/completions", GREEDY)
        post(client, "/v1/sentiment", {"input": "good"})
        # All of these were answered while the first one was still being written.
        assert metric(str(client.base_url), "num_requests_running", model_name="tiny-slow") == 1
