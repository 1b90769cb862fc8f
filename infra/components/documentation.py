"""The documentation of the API in API Gateway, from the server's own OpenAPI document, published with the stage.

`aws apigateway get-export --export-type oas30` answers with it: the deployed API as an OpenAPI document.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra import openapi as documents
from infra.routes import ROUTES


@dataclass(frozen=True)
class Part:
    """What is said of one entity of the API: where it is in API Gateway's terms, and OpenAPI's keys for it."""

    slug: str
    location: Mapping[str, str]
    properties: Mapping[str, Any]


def parts(openapi: Mapping[str, Any], *, title: str) -> Iterator[Part]:
    """The API itself, every method, its body, and its path parameters."""
    document = documents.deployed(openapi, url="")
    yield Part("api", {"type": "API"}, {"info": {**document["info"], "title": title}})
    for route in ROUTES:
        described = document["paths"][route.path][route.method.lower()]
        place = {"path": route.path, "method": route.method}
        answers = [f"{status}: {answer['description']}" for status, answer in described["responses"].items()]
        yield Part(
            route.slug,
            {"type": "METHOD", **place},
            {"summary": described["summary"], "description": "\n".join(answers)},
        )
        if "requestBody" in described:
            schema = described["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            text = openapi["components"]["schemas"][schema].get("description") or described["summary"]
            yield Part(f"{route.slug}-body", {"type": "REQUEST_BODY", **place}, {"description": text})
        for name in route.path_parameters:
            yield Part(
                f"{route.slug}-{name}",
                {"type": "PATH_PARAMETER", **place, "name": name},
                {"description": f"The name of a {name}, as GET /{name}s lists it"},
            )


def version_of(published: list[Part]) -> str:
    """The version of a documentation: another text is another version."""
    text = json.dumps([[each.location, each.properties] for each in published], sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class DocumentationArgs:
    """The API, its title, and the server's OpenAPI document; the version names methods that are in `after`."""

    api_id: pulumi.Input[str]
    title: str
    openapi: Mapping[str, Any]
    after: list[pulumi.Resource]


class Documentation(pulumi.ComponentResource):
    """A documentation part for everything there is, and a version of them all for the stage."""

    version: pulumi.Output[str]

    def __init__(self, name: str, args: DocumentationArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Documentation", name, None, opts)
        published = list(parts(args.openapi, title=args.title))
        resources = [
            aws.apigateway.DocumentationPart(
                f"{name}-{part.slug}",
                rest_api_id=args.api_id,
                location=aws.apigateway.DocumentationPartLocationArgs(**part.location),
                properties=json.dumps(part.properties),
                opts=ResourceOptions(parent=self, depends_on=args.after),
            )
            for part in published
        ]
        version = aws.apigateway.DocumentationVersion(
            f"{name}-version",
            rest_api_id=args.api_id,
            version=version_of(published),
            description="From the model server's OpenAPI document",
            opts=ResourceOptions(parent=self, depends_on=resources),
        )
        self.version = version.version
        self.register_outputs({"version": self.version})
