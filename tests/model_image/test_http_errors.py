"""Everything that is refused: status, code, one sentence, a request id."""

from typing import Any

import httpx
import pytest

COMPLETION = {"model": "tiny-gpt2", "prompt": "a", "max_tokens": 1}


def error_of(response: httpx.Response, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert response.headers["x-request-id"]
    message: str = error["message"]
    assert "\n" not in message
    return message


def test_an_unknown_model_is_404_with_the_models_there_are(client: httpx.Client) -> None:
    message = error_of(client.post("/v1/completions", json=COMPLETION | {"model": "nope"}), 404, "model_not_found")

    assert "tiny-gpt2" in message
    assert "nope" not in message
    error_of(client.get("/v1/models/nope"), 404, "model_not_found")


def test_a_task_a_model_does_not_serve_is_404_with_models_that_do(client: httpx.Client) -> None:
    message = error_of(client.post("/v1/embeddings", json={"model": "tiny-gpt2", "input": "a"}), 404, "model_not_found")

    assert message == "model tiny-gpt2 does not serve embeddings; models that do: tiny-embed"


def test_a_model_without_a_chat_template_says_so(client: httpx.Client) -> None:
    body = {"model": "tiny-gpt2", "messages": [{"role": "user", "content": "a"}]}

    message = error_of(client.post("/v1/chat/completions", json=body), 400, "unsupported")

    assert message == "model tiny-gpt2 has no chat template, so it cannot chat; use /v1/completions"


def test_the_body_must_be_json_by_name_and_by_nature(client: httpx.Client) -> None:
    path = "/v1/completions"

    error_of(client.post(path, content=b"{}"), 415, "unsupported_media_type")
    error_of(client.post(path, content=b"{}", headers={"content-type": "text/plain"}), 415, "unsupported_media_type")
    json_type = {"content-type": "application/json; charset=utf-8"}
    error_of(
        client.post(path, content=b"{}", headers=json_type | {"content-encoding": "gzip"}),
        415,
        "unsupported_media_type",
    )
    error_of(client.post(path, content=b"{nope", headers=json_type), 400, "invalid_request_body")
    error_of(client.post(path, content=b'{"model": "\xff"}', headers=json_type), 400, "invalid_request_body")
    error_of(client.post(path, content=b"", headers=json_type), 400, "invalid_request_body")


def test_a_large_body_is_refused_however_it_comes(client: httpx.Client) -> None:
    large = b'{"model": "' + b"a" * 70_000 + b'"}'
    headers = {"content-type": "application/json"}

    def pieces() -> Any:
        for start in range(0, len(large), 7000):
            yield large[start : start + 7000]

    message = error_of(client.post("/v1/completions", content=large, headers=headers), 413, "request_too_large")
    assert message == "the body is over this server's limit of 64 KB; send less"
    error_of(client.post("/v1/completions", content=pieces(), headers=headers), 413, "request_too_large")


def test_routes_and_methods_that_are_not_there(client: httpx.Client) -> None:
    error_of(client.post("/v1/nope", json={}), 404, "not_found")
    error_of(client.get("/v1/completions/"), 404, "not_found")
    error_of(client.get("/v1/completions"), 405, "method_not_allowed")
    error_of(client.delete("/v1/models"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"x-modelkeep-models": "*", "x-modelkeep-tasks": "*"}, True),
        ({"x-modelkeep-models": "tiny-chat, tiny-gpt2", "x-modelkeep-tasks": "completions"}, True),
        ({"x-modelkeep-models": "tiny-chat"}, False),
        ({"x-modelkeep-models": ""}, False),
        ({"x-modelkeep-tasks": "chat,embeddings"}, False),
    ],
)
def test_scopes_are_enforced(client: httpx.Client, headers: dict[str, str], allowed: bool) -> None:
    response = client.post("/v1/completions", json=COMPLETION, headers=headers)

    if allowed:
        assert response.status_code == 200
    else:
        error_of(response, 403, "access_denied")


def test_a_consumer_sees_only_its_models(client: httpx.Client) -> None:
    headers = {"x-modelkeep-models": "tiny-embed"}

    assert [model["id"] for model in client.get("/v1/models", headers=headers).json()["data"]] == ["tiny-embed"]
    error_of(client.get("/v1/models/tiny-gpt2", headers=headers), 403, "access_denied")
    assert client.get("/v1/models/tiny-embed", headers=headers).status_code == 200


def test_generation_for_augmentation_stays_within_scopes(client: httpx.Client) -> None:
    body = {"input": "a fox", "method": "generate"}

    response = client.post("/v1/augment", json=body, headers={"x-modelkeep-models": "tiny-mlm"})

    assert "needs a model that serves chat or completions" in error_of(response, 400, "unsupported")
    error_of(client.post("/v1/augment", json=body, headers={"x-modelkeep-tasks": "chat"}), 403, "access_denied")


def test_the_gateways_request_id_is_kept(client: httpx.Client) -> None:
    kept = client.get("/v1/models", headers={"x-modelkeep-request-id": "abc-123"})
    made = client.get("/v1/models", headers={"x-modelkeep-request-id": "not one\tword"})

    assert kept.headers["x-request-id"] == "abc-123"
    assert len(made.headers["x-request-id"]) == 36
