"""The OpenAPI 3.1 document of the server, made from the request schemas and the answers' types."""

import json
from typing import Any

from pydantic import TypeAdapter

from model_image import answers, schemas

_REF = "#/components/schemas/{model}"

_POSTS: tuple[tuple[str, str, type[schemas.Request], Any, str], ...] = (
    ("/v1/completions", "createCompletion", schemas.CompletionRequest, answers.Completion, "Continue a text"),
    ("/v1/chat/completions", "createChatCompletion", schemas.ChatRequest, answers.ChatCompletion, "Answer a chat"),
    ("/v1/embeddings", "createEmbedding", schemas.EmbeddingRequest, answers.EmbeddingList, "Vectors of texts"),
    ("/v1/sentiment", "createSentiment", schemas.SentimentRequest, answers.SentimentAnswer, "Label texts"),
    ("/v1/keywords", "createKeywords", schemas.KeywordRequest, answers.KeywordAnswer, "Keywords of texts"),
    ("/v1/augment", "createAugmentation", schemas.AugmentRequest, answers.AugmentAnswer, "Variants of texts"),
    ("/v1/fill-mask", "createFillMask", schemas.FillMaskRequest, answers.FillMaskAnswer, "Candidates for masks"),
)
_STREAMS = {"/v1/completions": answers.Completion, "/v1/chat/completions": answers.ChatChunk}
_PROBLEMS = {
    "400": "The body is wrong; the message names the field and the remedy",
    "403": "The consumer may not use this model or task",
    "404": "No such model, or it does not serve this task",
    "413": "The body is too large",
    "415": "The body is not application/json",
    "429": "Too many requests, or no tokens left; Retry-After says when to come back",
    "500": "The server failed",
    "503": "The server is starting or draining, or cannot tell what is left of a budget",
    "504": "The answer took too long",
}
_REQUEST_ID = {
    "x-request-id": {"required": True, "schema": {"type": "string"}, "description": "Names this request in the logs"}
}
_RETRY_AFTER = {
    "Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 0}, "description": "Seconds"}
}
_LEFT = {
    f"x-ratelimit-{name}-tokens": {"schema": schema, "description": description}
    for name, schema, description in (
        ("limit", {"type": "integer"}, "The limit that is reached first; on every answer to a consumer that has one"),
        ("remaining", {"type": "integer"}, "What is left of it after this request's reservation"),
        ("reset", {"type": "string"}, "When it is whole again, such as 6m0s"),
    )
}
_LEFT_THERE = {name: {"$ref": f"#/components/headers/{name}"} for name in _LEFT}


def document(*, version: str) -> dict[str, Any]:
    """Builds the document; the same input gives the same bytes through `render`."""
    components: dict[str, Any] = {}
    paths = {path: {"post": _post(path, *rest, components=components)} for path, *rest in _POSTS}
    paths["/v1/models"] = {"get": _get("listModels", "The loaded models", answers.ModelList, ["403"], components)}
    one = _get("retrieveModel", "One loaded model", answers.Model, ["403", "404"], components)
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    paths["/v1/models/{model}"] = {"get": {**one, "parameters": [name]}}
    paths["/v1/usage"] = {
        "get": _get("getUsage", "The caller's own limits and use", answers.ConsumerUsage, [], components)
    }
    paths["/health"] = {"get": _internal("getHealth", "200 while the process lives", "application/json", ["200"])}
    paths["/ready"] = {
        "get": _internal("getReady", "200 once every model has answered", "application/json", ["200", "503"])
    }
    paths["/metrics"] = {"get": _internal("getMetrics", "Prometheus metrics", "text/plain", ["200"])}
    return {
        "openapi": "3.1.0",
        "info": {"title": "modelkeep model server", "version": version},
        "paths": paths,
        "components": {"headers": _LEFT, "schemas": dict(sorted(components.items()))},
    }


def render(*, version: str) -> str:
    """The document as the text of openapi.json."""
    return json.dumps(document(version=version), indent=2, ensure_ascii=False) + "\n"


def _post(
    path: str, operation: str, request: type[schemas.Request], answer: Any, summary: str, *, components: dict[str, Any]
) -> dict[str, Any]:
    body = _component(request, components)
    _declare_types(components[request.__name__], components)
    content = {"application/json": {"schema": _component(answer, components)}}
    if path in _STREAMS:
        content["text/event-stream"] = {"schema": _event(_STREAMS[path], components)}
    return {
        "operationId": operation,
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "Success", "headers": _REQUEST_ID | _LEFT_THERE, "content": content},
            **_problems(list(_PROBLEMS), components),
        },
    }


def _event(chunk: Any, components: dict[str, Any]) -> dict[str, Any]:
    """One server-sent event: OpenAPI 3.1 has no word for a stream of them, and tools take the schema for each."""
    shapes = [_component(chunk, components), _component(answers.ErrorAnswer, components)]
    part = {"contentMediaType": "application/json", "contentSchema": {"anyOf": shapes}}
    data = {"type": "string", "anyOf": [{"const": "[DONE]"}, part]}
    said = "Each event's data is a chunk, or an error that ends the stream; the data of the last event is [DONE]"
    return {"type": "object", "description": said, "required": ["data"], "properties": {"data": data}}


def _get(operation: str, summary: str, answer: Any, problems: list[str], components: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": _component(answer, components)}}
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": {"description": "Success", "headers": _REQUEST_ID | _LEFT_THERE, "content": content},
            **_problems([*problems, "500", "503"], components),
        },
    }


def _internal(operation: str, summary: str, media_type: str, statuses: list[str]) -> dict[str, Any]:
    schema = {"type": "object"} if media_type == "application/json" else {"type": "string"}
    answer = {"description": summary, "headers": _REQUEST_ID, "content": {media_type: {"schema": schema}}}
    return {
        "operationId": operation,
        "summary": summary,
        "tags": ["internal"],
        "responses": dict.fromkeys(statuses, answer),
    }


def _problems(statuses: list[str], components: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": _component(answers.ErrorAnswer, components)}}
    return {
        status: {
            "description": _PROBLEMS[status],
            "headers": _REQUEST_ID
            | (_RETRY_AFTER if status in {"429", "503"} else {})
            | (_LEFT_THERE if status == "429" else {}),
            "content": content,
        }
        for status in statuses
    }


def _component(shape: Any, components: dict[str, Any]) -> dict[str, str]:
    schema = TypeAdapter(shape).json_schema(ref_template=_REF, mode="validation")
    components.update(schema.pop("$defs", {}))
    components[shape.__name__] = schema
    return {"$ref": _REF.format(model=shape.__name__)}


def _declare_types(schema: dict[str, Any], components: dict[str, Any]) -> None:
    """Gives every top-level property of a request a `type`, which validators without unions can take as it is."""
    for field in schema["properties"].values():
        kinds = sorted(_types(field, components))
        field["type"] = kinds[0] if len(kinds) == 1 else kinds


def _types(field: dict[str, Any], components: dict[str, Any]) -> set[str]:
    if "$ref" in field:
        return _types(components[field["$ref"].rsplit("/", 1)[1]], components)
    if "anyOf" in field:
        return set().union(*(_types(option, components) for option in field["anyOf"]))
    return {field["type"]}
