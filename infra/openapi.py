"""The OpenAPI document of the deployed API: the server's own, as far as the gateway lets it be called.

`python -m infra.openapi "$(pulumi stack output api_url)"` prints it.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infra import request_models
from infra.gateway_responses import RESPONSES
from infra.routes import ROUTES, STAGE, Route

_SCHEME = "bearer"
_DESCRIPTION = "Language models behind a gateway. A call needs a token: Authorization: Bearer mk_..."
_ERROR = "#/components/schemas/ErrorAnswer"


def operation(openapi: Mapping[str, Any], route: Route) -> Mapping[str, Any]:
    """What the server's document says of a route; raises KeyError for a route that it does not have."""
    found: Mapping[str, Any] = openapi["paths"][f"/{STAGE}{route.path}"][route.method.lower()]
    return found


def deployed(openapi: Mapping[str, Any], *, url: str) -> dict[str, Any]:
    """The document of the API at `url` (with its stage): its routes, its token, and what the gateway itself answers."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        described = operation(openapi, route)
        answers = {**dict(_gateway_answers()), **described["responses"]}
        paths.setdefault(route.path, {})[route.method.lower()] = {
            **described,
            "responses": {status: answers[status] for status in sorted(answers)},
        }
    return {
        "openapi": openapi["openapi"],
        "info": {**openapi["info"], "title": "modelkeep", "description": _DESCRIPTION},
        "servers": [{"url": url.rstrip("/")}],
        "security": [{_SCHEME: []}],
        "paths": paths,
        "components": {
            **openapi["components"],
            "securitySchemes": {_SCHEME: {"type": "http", "scheme": "bearer", "bearerFormat": "mk_..."}},
        },
    }


def _gateway_answers() -> Iterator[tuple[str, dict[str, Any]]]:
    """The first of the gateway's answers with each status; an answer of the server's with that status stands before."""
    seen: set[int] = set()
    for response in RESPONSES:
        if response.status is None or response.status in seen:
            continue
        seen.add(response.status)
        yield (
            str(response.status),
            {
                "description": response.message,
                "headers": {
                    "x-request-id": {"schema": {"type": "string"}, "description": "Names this request in the logs"}
                },
                "content": {request_models.JSON: {"schema": {"$ref": _ERROR}}},
            },
        )


def main(arguments: list[str]) -> int:
    """Print the document of the API at the one argument, its URL; 2 for anything else."""
    if len(arguments) != 1 or not arguments[0].startswith("https://"):
        print("usage: python -m infra.openapi https://API/v1", file=sys.stderr)  # noqa: T201 - a usage line
        return 2
    openapi = request_models.read_openapi(Path(__file__).resolve().parents[1] / request_models.OPENAPI_FILE)
    print(json.dumps(deployed(openapi, url=arguments[0]), indent=2))  # noqa: T201 - the answer
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
