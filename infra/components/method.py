"""One route of the gateway: what it asks of a request, and how the request goes on to the balancer."""

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra import request_models
from infra.components.balancer import Balancer
from infra.routes import Route

# What the servers may know of the caller; each overwrites a header of that name that the client may have sent.
FORWARDED = {
    "x-modelkeep-consumer": "context.authorizer.consumer",
    "x-modelkeep-plan": "context.authorizer.plan",
    "x-modelkeep-models": "context.authorizer.models",
    "x-modelkeep-tasks": "context.authorizer.tasks",
    "x-modelkeep-tokens-per-day": "context.authorizer.tokens_per_day",
    "x-modelkeep-tokens-per-month": "context.authorizer.tokens_per_month",
    "x-modelkeep-request-id": "context.requestId",
    # The token has done its work; the servers get this word in its place, in either header.
    "Authorization": "'withheld'",
    "x-api-key": "'withheld'",
}


@dataclass(frozen=True)
class MethodArgs:
    """The route and its body's schema, if it has one; who authorizes; and where the request goes."""

    route: Route
    api_id: pulumi.Input[str]
    resource_id: pulumi.Input[str]
    authorizer_id: pulumi.Input[str]
    validator_id: pulumi.Input[str]
    schema: dict[str, Any] | None
    balancer: Balancer
    balancer_url: pulumi.Input[str]
    verify_balancer: bool
    timeout_seconds: int


class Method(pulumi.ComponentResource):
    """A method that asks for a token, is validated, and streams from the balancer."""

    def __init__(self, name: str, args: MethodArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Method", name, None, opts)
        route = args.route
        method = aws.apigateway.Method(
            name,
            rest_api=args.api_id,
            resource_id=args.resource_id,
            http_method=route.method,
            authorization="CUSTOM",
            authorizer_id=args.authorizer_id,
            api_key_required=True,
            request_validator_id=args.validator_id,
            request_models=self._models(name, args),
            request_parameters={f"method.request.path.{each}": True for each in route.path_parameters},
            opts=ResourceOptions(parent=self),
        )
        aws.apigateway.Integration(
            f"{name}-integration",
            rest_api=args.api_id,
            resource_id=args.resource_id,
            http_method=method.http_method,
            integration_http_method=route.method,
            type="HTTP_PROXY",
            connection_type="VPC_LINK",
            connection_id=args.balancer.vpc_link_id,
            integration_target=args.balancer.arn,
            uri=args.balancer_url,
            response_transfer_mode="STREAM",
            timeout_milliseconds=args.timeout_seconds * 1000,
            request_parameters={f"integration.request.header.{header}": value for header, value in FORWARDED.items()},
            tls_config={"insecure_skip_verification": not args.verify_balancer},
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({})

    def _models(self, name: str, args: MethodArgs) -> dict[str, pulumi.Input[str]]:
        if args.schema is None:
            return {}
        model = aws.apigateway.Model(
            f"{name}-model",
            rest_api=args.api_id,
            name="".join(part.capitalize() for part in args.route.slug.split("-")),
            content_type=request_models.JSON,
            schema=pulumi.Output.json_dumps(args.schema),
            opts=ResourceOptions(parent=self),
        )
        # Without the second a body that calls itself something else would not be validated.
        return {request_models.JSON: model.name, "$default": model.name}
