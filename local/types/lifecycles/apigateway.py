"""API Gateway: REST APIs, by patches, and VPC links.

moto knows no UpdateMethod, UpdateModel, UpdateResource and UpdateDomainName: where AWS's provider changes those in
place, they are replaced here, methods with their integrations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.types import apigateway as rows
from local.types.lifecycles.vocabulary import Change, Changed, Lifecycle, modify, nothing, resend
from local.types.spec import Inputs, Made, text

Patch = dict[str, str]


def _replace(path: str, value: Any) -> Patch:
    return {"op": "replace", "path": path, "value": "" if value is None else text(value)}


def _patched(operation: str, identity: Mapping[str, str], **paths: str) -> Change:
    """Inputs that an update takes as patches, at the path of each; `identity` names the inputs of its parameters."""

    def send(changed: Changed) -> None:
        operations = [_replace(paths[name], changed.inputs.get(name)) for name in sorted(changed.names)]
        named = {key: changed.id if name == "id" else changed.inputs[name] for key, name in identity.items()}
        changed.call("apigateway", operation, **named, patchOperations=operations)

    return Change(tuple(paths), send, whole=True)


_API = {"restApiId": "restApi"}
_STAGE = {**_API, "stageName": "stageName"}


def _close_endpoint(changed: Changed) -> None:
    operations = [_replace("/disableExecuteApiEndpoint", True)]
    changed.call("apigateway", "UpdateRestApi", restApiId=changed.id, patchOperations=operations)


def _no_policy(made: Made) -> None:
    operations = [_replace("/policy", "")]
    made.call("apigateway", "UpdateRestApi", restApiId=made.inputs["restApiId"], patchOperations=operations)


def _access_log(changed: Changed) -> None:
    if changed.inputs.get("accessLogSettings"):
        rows.access_log(changed)
    else:
        rows.update_stage(changed, [{"op": "remove", "path": "/accessLogSettings"}])


def _variables(changed: Changed) -> None:
    old, new = changed.old.get("variables") or {}, changed.inputs.get("variables") or {}
    gone = [{"op": "remove", "path": f"/variables/{name}"} for name in sorted(set(old) - set(new))]
    rows.update_stage(changed, gone + [_replace(f"/variables/{name}", value) for name, value in sorted(new.items())])


def _no_settings(made: Made) -> None:
    operations = [{"op": "remove", "path": f"/{made.inputs['methodPath']}"}]
    rows.update_stage(made, operations)


def _settings(changed: Changed) -> None:
    changed.call("apigateway", "UpdateStage", **changed.creation())


def _keeps_settings(old: Inputs, new: Inputs) -> bool:
    """AWS has no way to take one setting away without the others."""
    return set(old.get("settings") or {}) <= set(new.get("settings") or {})


def _stages(changed: Changed) -> None:
    """The stages of a usage plan that are gone, and those that are new."""
    old, new = _by_stage(changed.old), _by_stage(changed.inputs)
    operations = [{"op": "remove", "path": "/apiStages", "value": name} for name in old if name not in new]
    operations += [{"op": "add", "path": "/apiStages", "value": name} for name in new if name not in old]
    changed.call("apigateway", "UpdateUsagePlan", usagePlanId=changed.id, patchOperations=operations)


def _keeps_throttles(old: Inputs, new: Inputs) -> bool:
    """moto takes no patch of the throttles of single methods."""
    before, after = _by_stage(old), _by_stage(new)
    return all(stage == before[name] if name in before else not stage.get("throttles") for name, stage in after.items())


def _by_stage(inputs: Inputs) -> dict[str, Mapping[str, Any]]:
    return {f"{stage['apiId']}:{stage['stage']}": stage for stage in inputs.get("apiStages") or []}


def _limits(input_name: str, member: str) -> Change:
    """A plan's throttle or quota, setting by setting; without any there is no limit."""

    def send(changed: Changed) -> None:
        new = changed.inputs.get(input_name) or {}
        fewer = set(changed.old.get(input_name) or {}) - set(new)
        operations = [{"op": "remove", "path": f"/{member}"}] if fewer else []
        operations += [_replace(f"/{member}/{key}", value) for key, value in sorted(new.items())]
        changed.call("apigateway", "UpdateUsagePlan", usagePlanId=changed.id, patchOperations=operations)

    return Change((input_name,), send, whole=True)


def _delete_deployment(made: Made) -> None:
    made.call("apigateway", "DeleteDeployment", restApiId=made.inputs["restApi"], deploymentId=made.id)


def _part(delete: str, member: str, *changes: Change, replaces: tuple[str, ...] = ()) -> Lifecycle:
    """A part of a REST API that has an id of its own."""
    return Lifecycle(
        delete=(delete, {"restApiId": "{restApi}", member: "{id}"}), changes=changes, replaces=frozenset(replaces)
    )


def _of_method(delete: str, *more: str, changes: tuple[Change, ...] = (), replaces: tuple[str, ...] = ()) -> Lifecycle:
    """What is named by API, resource and method."""
    names = ("resourceId", "httpMethod", *more)
    identity = {"restApiId": "{restApi}", **{name: f"{{{name}}}" for name in names}}
    return Lifecycle(delete=(delete, identity), changes=changes, replaces=frozenset({"restApi", *names, *replaces}))


def _put_integration(changed: Changed) -> None:
    """The integration anew; moto forgets its responses with it, so that they are put back."""
    place = {
        "restApiId": changed.inputs["restApi"],
        "resourceId": changed.inputs["resourceId"],
        "httpMethod": changed.inputs["httpMethod"],
    }
    before = changed.call("apigateway", "GetIntegration", **place)
    changed.call("apigateway", "PutIntegration", **changed.creation())
    for response in before.get("integrationResponses", {}).values():
        changed.call("apigateway", "PutIntegrationResponse", **place, **response)


LIFECYCLES: dict[str, Lifecycle] = {
    "aws:apigateway/restApi:RestApi": Lifecycle(
        delete=("DeleteRestApi", {"restApiId": "{id}"}),
        changes=(
            _patched(
                "UpdateRestApi",
                {"restApiId": "id"},
                name="/name",
                description="/description",
                apiKeySource="/apiKeySource",
            ),
            Change(
                ("disableExecuteApiEndpoint",),
                _close_endpoint,
                whole=True,
                can=lambda _, new: new.get("disableExecuteApiEndpoint") is True,  # moto takes any value for true
            ),
        ),
    ),
    "aws:apigateway/restApiPolicy:RestApiPolicy": Lifecycle(delete=_no_policy, changes=(resend("policy"),)),
    "aws:apigateway/resource:Resource": _part("DeleteResource", "resourceId"),
    "aws:apigateway/authorizer:Authorizer": _part(
        "DeleteAuthorizer",
        "authorizerId",
        _patched(
            "UpdateAuthorizer",
            {**_API, "authorizerId": "id"},
            name="/name",
            type="/type",
            authorizerUri="/authorizerUri",
            authorizerCredentials="/authorizerCredentials",
            authorizerResultTtlInSeconds="/authorizerResultTtlInSeconds",
            identitySource="/identitySource",
            identityValidationExpression="/identityValidationExpression",
        ),
    ),
    "aws:apigateway/requestValidator:RequestValidator": _part(
        "DeleteRequestValidator",
        "requestValidatorId",
        _patched(
            "UpdateRequestValidator",
            {**_API, "requestValidatorId": "id"},
            name="/name",
            validateRequestBody="/validateRequestBody",
            validateRequestParameters="/validateRequestParameters",
        ),
    ),
    "aws:apigateway/model:Model": Lifecycle(
        delete=("DeleteModel", {"restApiId": "{restApi}", "modelName": "{name}"}), delete_first=True
    ),
    "aws:apigateway/response:Response": Lifecycle(
        delete=("DeleteGatewayResponse", {"restApiId": "{restApiId}", "responseType": "{responseType}"}),
        changes=(resend(),),
        replaces=frozenset({"restApiId", "responseType"}),
    ),
    "aws:apigateway/method:Method": _of_method("DeleteMethod"),
    "aws:apigateway/methodResponse:MethodResponse": _of_method(
        "DeleteMethodResponse", "statusCode", changes=(resend(),)
    ),
    "aws:apigateway/integration:Integration": _of_method(
        "DeleteIntegration",
        changes=(Change((), _put_integration, whole=True),),
        replaces=("type", "integrationHttpMethod"),
    ),
    "aws:apigateway/integrationResponse:IntegrationResponse": _of_method(
        "DeleteIntegrationResponse", "statusCode", changes=(resend(),)
    ),
    "aws:apigateway/deployment:Deployment": Lifecycle(delete=_delete_deployment, replaces=frozenset({"triggers"})),
    "aws:apigateway/stage:Stage": Lifecycle(
        delete=("DeleteStage", {"restApiId": "{restApi}", "stageName": "{stageName}"}),
        changes=(
            _patched(
                "UpdateStage",
                _STAGE,
                deployment="/deploymentId",
                description="/description",
                xrayTracingEnabled="/tracingEnabled",
                cacheClusterEnabled="/cacheClusterEnabled",
                cacheClusterSize="/cacheClusterSize",
            ),
            Change(("accessLogSettings",), _access_log, whole=True),
            Change(("variables",), _variables, whole=True),
        ),
    ),
    "aws:apigateway/methodSettings:MethodSettings": Lifecycle(
        delete=_no_settings,
        changes=(Change(("settings",), _settings, can=_keeps_settings),),
    ),
    "aws:apigateway/usagePlan:UsagePlan": Lifecycle(
        delete=("DeleteUsagePlan", {"usagePlanId": "{id}"}),
        changes=(
            _patched(
                "UpdateUsagePlan",
                {"usagePlanId": "id"},
                name="/name",
                description="/description",
                productCode="/productCode",
            ),
            Change(("apiStages",), _stages, whole=True, can=_keeps_throttles),
            _limits("throttleSettings", "throttle"),
            _limits("quotaSettings", "quota"),
        ),
    ),
    "aws:apigateway/apiKey:ApiKey": Lifecycle(
        delete=("DeleteApiKey", {"apiKey": "{id}"}),
        changes=(
            _patched("UpdateApiKey", {"apiKey": "id"}, name="/name", description="/description", enabled="/enabled"),
        ),
    ),
    "aws:apigateway/usagePlanKey:UsagePlanKey": Lifecycle(
        delete=("DeleteUsagePlanKey", {"usagePlanId": "{usagePlanId}", "keyId": "{keyId}"})
    ),
    "aws:apigateway/account:Account": Lifecycle(
        delete=nothing,  # it belongs to the account and its region, not to a stack
        changes=(resend(),),
    ),
    "aws:apigateway/domainName:DomainName": Lifecycle(delete=("DeleteDomainName", {"domainName": "{id}"})),
    "aws:apigateway/basePathMapping:BasePathMapping": Lifecycle(
        delete=("DeleteBasePathMapping", {"domainName": "{domainName}", "basePath": "{basePath}"})
    ),
    "aws:apigatewayv2/vpcLink:VpcLink": Lifecycle(
        delete=("DeleteVpcLink", {"VpcLinkId": "{id}"}),
        changes=(modify("UpdateVpcLink", "name", VpcLinkId="{id}"),),
    ),
}
