"""API Gateway: REST APIs and VPC links."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.types.documents import document
from local.types.spec import Autoname, Follow, Inputs, Made, TypeSpec, known, text

_METHOD_SETTINGS = {
    "metricsEnabled": "metrics/enabled",
    "loggingLevel": "logging/loglevel",
    "dataTraceEnabled": "logging/dataTrace",
    "throttlingBurstLimit": "throttling/burstLimit",
    "throttlingRateLimit": "throttling/rateLimit",
    "cachingEnabled": "caching/enabled",
    "cacheTtlInSeconds": "caching/ttlInSeconds",
    "cacheDataEncrypted": "caching/dataEncrypted",
    "requireAuthorizationForCacheControl": "caching/requireAuthorizationForCacheControl",
    "unauthorizedCacheControlHeaderStrategy": "caching/unauthorizedCacheControlHeaderStrategy",
}


def _replace(path: str, value: Any) -> dict[str, str]:
    return {"op": "replace", "path": path, "value": text(value)}


def _api_outputs(made: Made) -> Mapping[str, Any]:
    resources = made.call("apigateway", "GetResources", restApiId=made.id)["items"]
    return {
        "arn": made.arn("apigateway", f"/restapis/{made.id}", account=False),
        "executionArn": made.arn("execute-api", made.id),
        "rootResourceId": next(entry["id"] for entry in resources if entry["path"] == "/"),
    }


def access_log(made: Made) -> None:
    settings = made.inputs["accessLogSettings"]
    operations = [_replace(f"/accessLogSettings/{key}", settings[key]) for key in ("destinationArn", "format")]
    update_stage(made, operations)


def update_stage(made: Made, operations: list[dict[str, str]]) -> None:
    names = {"restApiId": made.inputs["restApi"], "stageName": made.inputs["stageName"]}
    made.call("apigateway", "UpdateStage", patchOperations=operations, **names)


def _stage_outputs(made: Made) -> Mapping[str, Any]:
    api, stage = made.inputs["restApi"], made.inputs["stageName"]
    return {
        "arn": made.arn("apigateway", f"/restapis/{api}/stages/{stage}", account=False),
        "executionArn": made.arn("execute-api", f"{api}/{stage}"),
        "invokeUrl": f"https://{api}.execute-api.{made.region}.amazonaws.com/{stage}",
    }


def _method_settings(inputs: Inputs) -> Inputs:
    """One patch operation per setting; one that the table does not name stays an input, which maps to nothing."""
    rest = {key: value for key, value in inputs.items() if key not in ("settings", "methodPath")}
    settings, path = inputs["settings"], inputs["methodPath"]
    if not (known(settings) and known(path)):
        return {**rest, "patchOperations": []}
    strange = {f"settings.{key}": value for key, value in settings.items() if key not in _METHOD_SETTINGS}
    operations = [
        {"op": "replace", "path": f"/{path}/{_METHOD_SETTINGS[key]}", "value": text(value) if known(value) else value}
        for key, value in settings.items()
        if key in _METHOD_SETTINGS
    ]
    return {**rest, **strange, "patchOperations": operations}


def _usage_plan(inputs: Inputs) -> Inputs:
    """Throttles of single methods are a list with Pulumi and a map by path with the API."""
    stages = inputs.get("apiStages")
    if not isinstance(stages, list):
        return inputs
    return {**inputs, "apiStages": [_plan_stage(stage) for stage in stages]}


def _plan_stage(stage: Any) -> Any:
    if not known(stage) or not known(stage.get("throttles", [])):
        return stage
    rest = {key: value for key, value in stage.items() if key != "throttles"}
    throttles = stage.get("throttles") or []
    limits = {entry["path"]: {key: entry[key] for key in entry if key != "path"} for entry in throttles}
    return {**rest, "throttle": limits} if limits else rest


def _account(inputs: Inputs) -> Inputs:
    return {"patchOperations": [{"op": "replace", "path": "/cloudwatchRoleArn", "value": inputs["cloudwatchRoleArn"]}]}


def _policy(inputs: Inputs) -> Inputs:
    operation = {"op": "replace", "path": "/policy", "value": document(inputs["policy"])}
    return {"restApi": inputs["restApiId"], "patchOperations": [operation]}


def _of_api(
    operation: str,
    resource_id: str,
    *,
    rename: Mapping[str, str] | None = None,
    **more: Any,
) -> TypeSpec:
    """A part of a REST API: its `restApi` input is the API's `restApiId`."""
    return TypeSpec(
        service="apigateway",
        operation=operation,
        id=resource_id,
        rename={"restApi": "restApiId", **(rename or {})},
        **more,
    )


TYPES: dict[str, TypeSpec] = {
    "aws:apigateway/restApi:RestApi": TypeSpec(
        service="apigateway",
        operation="CreateRestApi",
        id="id",
        convert={"policy": document},
        steering=frozenset({"putRestApiMode", "failOnWarnings"}),
        autoname=Autoname("name"),
        derive=_api_outputs,
    ),
    "aws:apigateway/restApiPolicy:RestApiPolicy": _of_api(
        "UpdateRestApi", "{restApiId}", reshape=_policy, convert={"policy": document}
    ),
    "aws:apigateway/resource:Resource": _of_api("CreateResource", "id", outputs={"path": "path"}),
    "aws:apigateway/authorizer:Authorizer": _of_api(
        "CreateAuthorizer",
        "id",
        autoname=Autoname("name", limit=128),
        derive=lambda made: {
            "arn": made.arn("apigateway", f"/restapis/{made.inputs['restApi']}/authorizers/{made.id}", account=False)
        },
    ),
    "aws:apigateway/requestValidator:RequestValidator": _of_api(
        "CreateRequestValidator", "id", autoname=Autoname("name")
    ),
    "aws:apigateway/model:Model": _of_api("CreateModel", "id", convert={"schema": document}),
    "aws:apigateway/response:Response": _of_api("PutGatewayResponse", "aggr-{restApiId}-{responseType}"),
    "aws:apigateway/method:Method": _of_api(
        "PutMethod", "agm-{restApi}-{resourceId}-{httpMethod}", rename={"authorization": "authorizationType"}
    ),
    "aws:apigateway/methodResponse:MethodResponse": _of_api(
        "PutMethodResponse", "agmr-{restApi}-{resourceId}-{httpMethod}-{statusCode}"
    ),
    "aws:apigateway/integration:Integration": _of_api(
        "PutIntegration",
        "agi-{restApi}-{resourceId}-{httpMethod}",
        rename={"timeoutMilliseconds": "timeoutInMillis"},
    ),
    "aws:apigateway/integrationResponse:IntegrationResponse": _of_api(
        "PutIntegrationResponse", "agir-{restApi}-{resourceId}-{httpMethod}-{statusCode}"
    ),
    "aws:apigateway/deployment:Deployment": _of_api("CreateDeployment", "id", steering=frozenset({"triggers"})),
    "aws:apigateway/stage:Stage": _of_api(
        "CreateStage",
        "ags-{restApi}-{stageName}",
        rename={"deployment": "deploymentId", "xrayTracingEnabled": "tracingEnabled"},
        follow=(Follow(("accessLogSettings",), access_log),),
        derive=_stage_outputs,
    ),
    "aws:apigateway/methodSettings:MethodSettings": _of_api(
        "UpdateStage", "{restApi}-{stageName}-{methodPath}", reshape=_method_settings
    ),
    "aws:apigateway/usagePlan:UsagePlan": TypeSpec(
        service="apigateway",
        operation="CreateUsagePlan",
        id="id",
        rename={"throttleSettings": "throttle", "quotaSettings": "quota"},
        reshape=_usage_plan,
        autoname=Autoname("name"),
        derive=lambda made: {"arn": made.arn("apigateway", f"/usageplans/{made.id}", account=False)},
    ),
    "aws:apigateway/apiKey:ApiKey": TypeSpec(
        service="apigateway",
        operation="CreateApiKey",
        id="id",
        autoname=Autoname("name"),
        derive=lambda made: {"arn": made.arn("apigateway", f"/apikeys/{made.id}", account=False)},
    ),
    "aws:apigateway/usagePlanKey:UsagePlanKey": TypeSpec(service="apigateway", operation="CreateUsagePlanKey", id="id"),
    "aws:apigateway/account:Account": TypeSpec(
        service="apigateway", operation="UpdateAccount", id="api-gateway-account{region}", reshape=_account
    ),
    "aws:apigateway/domainName:DomainName": TypeSpec(
        service="apigateway",
        operation="CreateDomainName",
        id="{domainName}",
        outputs={"regionalDomainName": "regionalDomainName", "regionalZoneId": "regionalHostedZoneId"},
        derive=lambda made: {"arn": made.arn("apigateway", f"/domainnames/{made.id}", account=False)},
    ),
    "aws:apigateway/basePathMapping:BasePathMapping": _of_api(
        "CreateBasePathMapping", "{domainName}/{basePath}", rename={"stageName": "stage"}
    ),
    "aws:apigatewayv2/vpcLink:VpcLink": TypeSpec(
        service="apigatewayv2",
        operation="CreateVpcLink",
        id="VpcLinkId",
        autoname=Autoname("name", limit=128),
        derive=lambda made: {"arn": made.arn("apigateway", f"/vpclinks/{made.id}", account=False)},
    ),
}
