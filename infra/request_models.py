"""API Gateway's request models (JSON schema draft 4), cut out of the server's OpenAPI document.

The gateway refuses what is plainly no request of a route: a missing field, or a top-level field of a wrong type. The
rest, and unknown fields by name, is for the server, whose messages say more than the gateway's.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
JSON = "application/json"
OPENAPI_FILE = "model_image/openapi.json"
# The fields of bodies that hold what people write: anything at all, code and SQL among it.
PROMPT_FIELDS = frozenset(
    {
        *("prompt", "suffix", "messages", "input", "stop", "preserve", "prediction"),
        *("tools", "functions", "response_format", "metadata"),
    }
)


def read_openapi(path: Path) -> dict[str, Any]:
    """The OpenAPI document; raises FileNotFoundError or json.JSONDecodeError."""
    document = json.loads(path.read_text())
    if not isinstance(document, dict):
        raise TypeError(f"{path.name} holds no OpenAPI document")
    return document


def body_fields(openapi: Mapping[str, Any], *, method: str, path: str) -> Mapping[str, Any]:
    """The schemas of the top-level fields of the JSON body that `method` on `path` takes; none without a body."""
    body = openapi["paths"][path][method.lower()].get("requestBody")
    return {} if body is None else _resolve(openapi, body["content"][JSON]["schema"]).get("properties", {})


def plain_fields(openapi: Mapping[str, Any]) -> list[str]:
    """The top-level fields of every body that hold a text, and never a prompt."""
    return sorted(
        {
            field
            for path, methods in openapi["paths"].items()
            for method in methods
            for field, schema in body_fields(openapi, method=method, path=path).items()
            if field not in PROMPT_FIELDS and "string" in _types(openapi, schema)
        }
    )


def request_model(openapi: Mapping[str, Any], *, method: str, path: str) -> dict[str, Any] | None:
    """The model of the JSON body that `method` on `path` takes, or None for a route that takes none."""
    body = openapi["paths"][path][method.lower()].get("requestBody")
    if body is None:
        return None
    schema = _resolve(openapi, body["content"][JSON]["schema"])
    properties = {name: _primitive(openapi, each) for name, each in schema.get("properties", {}).items()}
    required = schema.get("required", [])
    return {
        "$schema": DRAFT_4,
        "type": "object",
        "properties": properties,
        **({"required": sorted(required)} if required else {}),
    }


def _primitive(openapi: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    types = sorted(_types(openapi, schema))
    if not types:
        return {}
    return {"type": types[0] if len(types) == 1 else types}


def _types(openapi: Mapping[str, Any], schema: Mapping[str, Any]) -> set[str]:
    """Every JSON type that a value of the schema may have; empty where the schema does not say."""
    schema = _resolve(openapi, schema)
    if "type" in schema:
        return {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
    choices = [_types(openapi, each) for key in ("anyOf", "oneOf") for each in schema.get(key, [])]
    return set().union(*choices) if choices and all(choices) else set()


def _resolve(openapi: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        target: Any = openapi
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema
