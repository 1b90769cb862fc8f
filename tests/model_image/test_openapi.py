"""openapi.json is what the code says, and what the server's routes are."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from openapi_spec_validator import validate

from model_image.openapi import document, render
from model_image.routes import POSTS
from tests.model_image.server_process import ServerProcess

FILE = Path(__file__).resolve().parents[2] / "model_image" / "openapi.json"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "tiny-gpt2", "prompt": "a", "logprobs": 1, "echo": True},
    "/v1/chat/completions": {
        "model": "tiny-chat", "messages": [{"role": "user", "content": "a"}], "max_tokens": 4, "logprobs": True
    },
    "/v1/embeddings": {"model": "tiny-embed", "input": "a"},
    "/v1/sentiment": {"input": "a"},
    "/v1/keywords": {"input": "a lazy dog"},
    "/v1/augment": {"input": "a lazy dog"},
    "/v1/fill-mask": {"input": "a lazy [MASK]"},
}  # fmt: skip


def test_the_committed_document_is_the_generated_one() -> None:
    expected = render(version=importlib.metadata.version("modelkeep"))

    assert FILE.read_text() == expected, "write it again: python -m model_image openapi > model_image/openapi.json"


def test_it_is_a_valid_document_with_every_route() -> None:
    found = document(version="1")

    validate(found)
    assert {route.path for route in POSTS} == {path for path, item in found["paths"].items() if "post" in item}
    for route in POSTS:
        schema = found["components"]["schemas"][route.schema.__name__]
        assert schema["additionalProperties"] is False
        assert schema["required"]
        assert all("type" in field for field in schema["properties"].values())


@pytest.mark.parametrize("path", BODIES)
def test_answers_and_errors_are_as_described(client: httpx.Client, server: ServerProcess, path: str) -> None:
    described = document(version="1")
    responses = described["paths"][path]["post"]["responses"]

    for body, status in ((BODIES[path], "200"), ({**BODIES[path], "foo": 1}, "400"), ({}, "400")):
        answer = client.post(path, json=body)
        assert str(answer.status_code) == status, answer.text
        schema = responses[status]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": described["components"]})
        assert answer.headers["x-request-id"]


def test_the_list_of_models_is_as_described(client: httpx.Client) -> None:
    described = document(version="1")

    models = client.get("/v1/models").json()

    schema = described["components"]["schemas"]["ModelList"]
    jsonschema.validate(models, {**schema, "components": described["components"]})
    assert json.dumps(models["data"][0]) == json.dumps(client.get(f"/v1/models/{models['data'][0]['id']}").json())
