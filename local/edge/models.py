"""API Gateway models as JSON schema draft 4, compiled once, with references between the models of one API."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema import Draft4Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT4

from local.errors import LocalError


class Models:
    """The models of one REST API by name."""

    def __init__(self, items: Sequence[Mapping[str, Any]], *, api_id: str) -> None:
        """Parse every model's schema; raises LocalError naming the model that is not draft 4 JSON schema."""
        self._base = f"https://apigateway.amazonaws.com/restapis/{api_id}/models/"
        self._schemas = {item["name"]: _schema(item) for item in items}
        self._registry: Registry[Any] = Registry().with_resources(
            (self._base + name, DRAFT4.create_resource(schema)) for name, schema in self._schemas.items()
        )

    def validator(self, name: str, *, where: str) -> Draft4Validator:
        """The compiled validator of one model; raises LocalError where it or something it refers to is missing."""
        if name not in self._schemas:
            raise LocalError(f"{where}: model {name} does not exist; deploy it before the method")
        resolver = self._registry.resolver(base_uri=self._base + name)
        for reference in _references(self._schemas[name]):
            try:
                resolver.lookup(reference)
            except Unresolvable as error:
                raise LocalError(f"model {name}: reference {reference} leads nowhere; deploy what it names") from error
        # A reference, so that the schema's own "#/definitions" resolve against its place in the registry.
        return Draft4Validator({"$ref": self._base + name}, registry=self._registry)


def _schema(item: Mapping[str, Any]) -> Any:
    try:
        schema = json.loads(item.get("schema") or "{}")
        Draft4Validator.check_schema(schema)
    except (ValueError, SchemaError) as error:
        raise LocalError(f"model {item['name']}: not a JSON schema of draft 4; correct its schema") from error
    return schema


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []
