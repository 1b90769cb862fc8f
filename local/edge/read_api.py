"""Reads what a deployment freezes through boto3: resources, methods, models, authorizers, responses, policy."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from local.edge.deployed import (
    Api,
    AuthorizerSettings,
    GatewayResponseSettings,
    Integration,
    Method,
)
from local.edge.mapping import parse_mapping
from local.edge.models import Models
from local.edge.policy import Policy, parse_policy
from local.edge.variables import is_known_source
from local.errors import LocalError

FUNCTION_URI = re.compile(r"arn:[^:]+:apigateway:[^:]+:lambda:path/2015-03-31/functions/(?P<arn>.+)/invocations")
DEFAULT_AUTHORIZER_TTL = 300  # seconds; API Gateway's default for authorizerResultTtlInSeconds
DEFAULT_TIMEOUT = 29_000  # milliseconds; API Gateway's default for timeoutInMillis

Client = Callable[[str], Any]


def pages(client: Any, operation: str, key: str = "items", **arguments: Any) -> list[dict[str, Any]]:
    """Everything a listing call of API Gateway answers, over all its pages."""
    if client.can_paginate(operation):
        answers = client.get_paginator(operation).paginate(**arguments)
    else:
        answers = [getattr(client, operation)(**arguments)]
    return [item for answer in answers for item in answer.get(key) or []]


def read_api(client: Client, *, api_id: str, stage_name: str, deployment_id: str) -> Api:
    """Read the REST API; raises LocalError for whatever the edge would not enforce as API Gateway does."""
    gateway = client("apigateway")
    rest = gateway.get_rest_api(restApiId=api_id)
    account = str(client("sts").get_caller_identity()["Account"])
    region, partition = gateway.meta.region_name, gateway.meta.partition
    authorizers = {item["id"]: _authorizer(item) for item in pages(gateway, "get_authorizers", restApiId=api_id)}
    validators = {item["id"]: item for item in pages(gateway, "get_request_validators", restApiId=api_id)}
    models = Models(pages(gateway, "get_models", restApiId=api_id), api_id=api_id)
    resources = pages(gateway, "get_resources", restApiId=api_id, embed=["methods"])
    return Api(
        id=api_id,
        account=account,
        region=region,
        partition=partition,
        stage=stage_name,
        deployment_id=deployment_id,
        api_key_source=rest.get("apiKeySource") or "HEADER",
        policy=_policy(
            rest.get("policy"), api_id=api_id, root=f"arn:{partition}:execute-api:{region}:{account}:{api_id}"
        ),
        methods=tuple(
            _method(raw, verb=verb, resource=resource, authorizers=authorizers, validators=validators, models=models)
            for resource in resources
            for verb, raw in (resource.get("resourceMethods") or {}).items()
        ),
        authorizers=authorizers,
        responses={
            item["responseType"]: GatewayResponseSettings(
                status=int(item["statusCode"]) if item.get("statusCode") else None,
                parameters=item.get("responseParameters") or {},
                templates=item.get("responseTemplates") or {},
            )
            for item in pages(gateway, "get_gateway_responses", restApiId=api_id)
            if not item.get("defaultResponse")
        },
    )


def _policy(text: str | None, *, api_id: str, root: str) -> Policy | None:
    """Parse the resource policy, which API Gateway answers with its quotes escaped once more."""
    if not text:
        return None
    try:
        document = json.loads(text)
    except ValueError:
        try:
            document = json.loads(json.loads(f'"{text}"'))
        except ValueError as error:
            raise LocalError(f"resource policy of REST API {api_id}: not JSON; deploy it again") from error
    return parse_policy(document, where=f"resource policy of REST API {api_id}", root=root)


def _authorizer(item: Mapping[str, Any]) -> AuthorizerSettings:
    where = f"authorizer {item.get('name')}"
    kind = item.get("type")
    if kind not in ("REQUEST", "TOKEN"):
        raise LocalError(f"{where}: type {kind} is not emulated; use REQUEST or TOKEN")
    found = FUNCTION_URI.fullmatch(item.get("authorizerUri") or "")
    if not found:
        raise LocalError(f"{where}: authorizerUri {item.get('authorizerUri')} is not a Lambda invocation URI")
    sources = tuple(part.strip() for part in (item.get("identitySource") or "").split(",") if part.strip())
    for source in sources:
        if not is_known_source(source):
            raise LocalError(f"{where}: identity source {source} is not known; use method.request.header.NAME or alike")
    ttl = item.get("authorizerResultTtlInSeconds")
    ttl = DEFAULT_AUTHORIZER_TTL if ttl is None else int(ttl)
    if not sources and (kind == "TOKEN" or ttl > 0):
        raise LocalError(f"{where}: needs an identity source, or authorizerResultTtlInSeconds 0 for type REQUEST")
    return AuthorizerSettings(
        id=item["id"],
        type=kind,
        function=found["arn"],
        identity_sources=sources,
        validation_expression=item.get("identityValidationExpression") if kind == "TOKEN" else None,
        ttl=ttl,
    )


def _method(
    raw: Mapping[str, Any],
    *,
    verb: str,
    resource: Mapping[str, Any],
    authorizers: Mapping[str, AuthorizerSettings],
    validators: Mapping[str, Mapping[str, Any]],
    models: Models,
) -> Method:
    where = f"method {verb} {resource['path']}"
    authorization = raw.get("authorizationType") or "NONE"
    if authorization not in ("NONE", "CUSTOM"):
        raise LocalError(
            f"{where}: authorizationType {authorization} is not emulated; use CUSTOM with a Lambda authorizer"
        )
    authorizer_id = raw.get("authorizerId") if authorization == "CUSTOM" else None
    if authorization == "CUSTOM" and authorizer_id not in authorizers:
        raise LocalError(f"{where}: authorizer {authorizer_id} does not exist; deploy it before the method")
    validator_id = raw.get("requestValidatorId")
    if validator_id and validator_id not in validators:
        raise LocalError(f"{where}: request validator {validator_id} does not exist; deploy it before the method")
    validator = validators.get(validator_id or "", {})
    parameters = raw.get("requestParameters") or {}
    for name in parameters:
        if not is_known_source(name):
            raise LocalError(f"{where}: request parameter {name} is not known; use method.request.header.NAME or alike")
    return Method(
        http_method=verb,
        resource_path=resource["path"],
        resource_id=resource["id"],
        authorizer_id=authorizer_id,
        api_key_required=bool(raw.get("apiKeyRequired")),
        required_parameters=tuple(
            name for name, required in parameters.items() if required and validator.get("validateRequestParameters")
        ),
        models={
            kind.lower(): models.validator(name, where=where)
            for kind, name in (raw.get("requestModels") or {}).items()
            if validator.get("validateRequestBody")
        },
        integration=_integration(raw.get("methodIntegration") or {}, where=where),
    )


def _integration(raw: Mapping[str, Any], *, where: str) -> Integration:
    if raw.get("type") != "HTTP_PROXY" or raw.get("connectionType") != "VPC_LINK":
        kind = f"{raw.get('type')} over {raw.get('connectionType')}"
        raise LocalError(f"{where}: integration {kind} is not emulated; use HTTP_PROXY over VPC_LINK")
    parts = urlsplit(raw.get("uri") or "")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise LocalError(
            f"{where}: integration uri {raw.get('uri')} must be a scheme and a host alone; "
            "over a VPC link the stage and the resource's path are sent"
        )
    mappings = tuple(
        parse_mapping(key, value, where=where) for key, value in (raw.get("requestParameters") or {}).items()
    )
    return Integration(
        http_method=raw.get("httpMethod") or "ANY",
        load_balancer=parts.hostname,
        timeout=int(raw.get("timeoutInMillis") or DEFAULT_TIMEOUT) / 1000,
        mappings=mappings,
        passthrough=raw.get("passthroughBehavior") or "WHEN_NO_MATCH",
        template_types=frozenset(kind.lower() for kind in raw.get("requestTemplates") or {}),
        buffered=raw.get("responseTransferMode") == "BUFFERED",
    )
