"""Request validation: required parameters, then the body against the model of its content type.

No message holds a value of the request, nor a name that the schema does not have: bodies are users' texts.
"""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

from jsonschema import Draft4Validator
from jsonschema.exceptions import ValidationError

from local.edge.deployed import Method
from local.edge.exchange import Exchange, RefusedError
from local.edge.variables import source_values

MAX_FINDINGS = 5
# Keywords whose value belongs to the deployed schema and says what was expected.
EXPECTING = frozenset(
    {"type", "enum", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "multipleOf"}
)


def validate(method: Method, exchange: Exchange) -> None:
    """Check the request; raises RefusedError BAD_REQUEST_PARAMETERS or BAD_REQUEST_BODY.

    Where no model fits the content type the body is not validated, as API Gateway documents ("Request validation for
    REST APIs": "If no matching content type is found, request validation is not performed").
    """
    missing = [name for name in method.required_parameters if not any(source_values(name, exchange))]
    if missing:
        names = ", ".join(name.rsplit(".", 1)[-1] for name in missing)
        message = f"Missing required request parameters: [{names}]"
        raise RefusedError("BAD_REQUEST_PARAMETERS", message, validation=message)
    validator = method.models.get(exchange.request.media_type) or method.models.get("$default")
    if validator is not None:
        _validate_body(exchange.request.body, validator)


def check_media_type(method: Method, exchange: Exchange) -> None:
    """Apply the integration's passthrough behaviour; raises RefusedError UNSUPPORTED_MEDIA_TYPE.

    By the table in "Method request behavior for payloads without mapping templates": WHEN_NO_TEMPLATES refuses what
    no template fits once there are templates, NEVER refuses whatever no template fits.
    """
    integration, request = method.integration, exchange.request
    if not request.body or request.media_type in integration.template_types:
        return
    refuses = integration.passthrough == "NEVER" or (
        integration.passthrough == "WHEN_NO_TEMPLATES" and bool(integration.template_types)
    )
    if refuses:
        raise RefusedError("UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type")


def _validate_body(body: bytes, validator: Draft4Validator) -> None:
    try:
        instance = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        findings = [_finding(error, validator) for error in islice(validator.iter_errors(instance), MAX_FINDINGS)]
    except RecursionError:
        findings = ["the body is nested too deeply"]
    except ValueError:
        findings = ["the body is not JSON"]
    if findings:
        raise RefusedError("BAD_REQUEST_BODY", "Invalid request body", validation="[" + ", ".join(findings) + "]")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finding(error: ValidationError, validator: Draft4Validator) -> str:
    known = _property_names(validator)
    path = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" if part in known else ".*" for part in error.absolute_path
    )
    where = path.lstrip(".") or "body"
    if error.validator == "required" and isinstance(error.instance, dict):
        absent = [name for name in error.validator_value if name not in error.instance]
        return f"{where}: required property {', '.join(absent)} is missing"
    if error.validator == "additionalProperties":
        return f"{where}: has properties that are not allowed"
    if error.validator in EXPECTING:
        return f"{where}: {error.validator} must be {_expected(error.validator_value)}"
    return f"{where}: does not match {error.validator}"


def _expected(value: Any) -> str:
    return " or ".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _property_names(validator: Draft4Validator) -> set[str]:
    """Every property name that the model's own text declares."""
    registry = validator._registry
    schema = registry.contents(validator.schema["$ref"])
    return set(_names(schema))


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(properties := node.get("properties"), dict):
            yield from properties
        for value in node.values():
            yield from _names(value)
    elif isinstance(node, list):
        for value in node:
            yield from _names(value)
