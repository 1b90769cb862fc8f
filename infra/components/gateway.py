"""The gateway: REST API, routes, authorizer, and the deployment of their definition."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from pulumi import ResourceOptions

from infra import request_models
from infra.components.balancer import Balancer
from infra.components.certificate import Certificate
from infra.components.documentation import Documentation, DocumentationArgs
from infra.components.domain import SECURITY_POLICIES
from infra.components.firewall import Firewall
from infra.components.functions import Functions
from infra.components.logs import Logs
from infra.components.method import FORWARDED, Method, MethodArgs
from infra.components.stage import Stage, StageArgs
from infra.gateway_responses import RESPONSES
from infra.iam import ANYONE, Statement, document_text
from infra.routes import ROUTES, STAGE, resource_paths
from infra.settings import Settings
from infra.site import Site


def identity_sources(cache_seconds: int) -> str:
    """What an answer of the authorizer is kept by: the token in its one header, and the address.

    Every source has to be there, or API Gateway answers 401 by itself, so an answer cannot be kept by either of two
    headers; and one that was not kept by the header it came from would let others in. So a token in x-api-key counts
    where nothing is kept.
    https://docs.aws.amazon.com/apigateway/latest/developerguide/configure-api-gateway-lambda-authorization.html
    """
    address = "context.identity.sourceIp"
    return f"method.request.header.Authorization, {address}" if cache_seconds else address


def policy_statements(execution_arn: pulumi.Input[str]) -> list[Statement]:
    """The API's resource policy: the routes there are, by TLS.

    Address lists are the firewall's: a policy holds 8,192 characters, which a long list does not fit in.
    """
    resources = [
        pulumi.Output.concat(execution_arn, f"/{STAGE}/{route.method}{route.path.replace('{model}', '*')}")
        for route in ROUTES
    ]
    return [
        Statement(sid="Routes", actions=["execute-api:Invoke"], resources=resources, principals=ANYONE),
        Statement(
            sid="DenyPlainHttp",
            effect="Deny",
            actions=["execute-api:Invoke"],
            resources=[pulumi.Output.concat(execution_arn, "/*")],
            principals=ANYONE,
            conditions={"Bool": {"aws:SecureTransport": "false"}},
        ),
    ]


def digest(text: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class GatewayArgs:
    """The API's settings and plans, and what stands before and behind it."""

    site: Site
    settings: Settings
    balancer: Balancer
    functions: Functions
    certificate: Certificate
    firewall: Firewall
    logs: Logs


class Gateway(pulumi.ComponentResource):
    """The REST API: every method asks for a token, is validated, and streams from the balancer."""

    api_id: pulumi.Output[str]
    api_name: pulumi.Output[str]
    api_url: pulumi.Output[str]
    stage_name: pulumi.Output[str]
    usage_plan_ids: dict[str, pulumi.Output[str]]
    authorizer_name: pulumi.Output[str]
    web_acl_name: pulumi.Output[str]
    access_log: aws.cloudwatch.LogGroup

    def __init__(self, name: str, args: GatewayArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("modelkeep:index:Gateway", name, None, opts)
        self._name, self._args = name, args
        self._openapi = request_models.read_openapi(args.site.root / request_models.OPENAPI_FILE)
        self._models = {
            route: request_models.request_model(self._openapi, method=route.method, path=f"/{STAGE}{route.path}")
            for route in ROUTES
        }
        api = aws.apigateway.RestApi(
            f"{name}-api",
            name=args.site.name,
            description="Language models",
            endpoint_configuration={"types": "REGIONAL"},
            api_key_source="AUTHORIZER",
            security_policy=SECURITY_POLICIES[args.settings.api.minimum_tls],
            endpoint_access_mode="STRICT",
            # One way in: with a domain, the address that AWS gives is closed.
            disable_execute_api_endpoint=args.settings.api.domain is not None,
            opts=ResourceOptions(parent=self),
        )
        self._api, self.api_id, self.api_name = api, api.id, api.name
        # Host header and name to verify; where a request goes is the target's and the path's matter.
        host = args.settings.api.domain if args.settings.api.domain is not None else args.balancer.dns_name
        self._balancer_url = pulumi.Output.concat("https://", host)
        parts: list[pulumi.Resource] = [self._policy(), *self._responses(), *self._routes()]
        documentation = Documentation(
            f"{name}-documentation",
            DocumentationArgs(api_id=self.api_id, title=args.site.name, openapi=self._openapi, after=parts),
            opts=ResourceOptions(parent=self),
        )
        stage = Stage(
            f"{name}-stage",
            StageArgs(
                site=args.site,
                settings=args.settings,
                api_id=self.api_id,
                deployment_id=self._deployment(parts).id,
                documentation_version=documentation.version,
                certificate=args.certificate,
                firewall=args.firewall,
                logs=args.logs,
            ),
            opts=ResourceOptions(parent=self),
        )
        self.authorizer_name, self.web_acl_name = args.functions.authorizer_name, args.firewall.web_acl_name
        self.stage_name, self.api_url, self.usage_plan_ids = stage.name, stage.url, stage.usage_plan_ids
        self.access_log = stage.access_log
        self.register_outputs({"api_id": self.api_id, "api_url": self.api_url, "stage_name": self.stage_name})

    def _policy(self) -> pulumi.Resource:
        return aws.apigateway.RestApiPolicy(
            f"{self._name}-policy",
            rest_api_id=self.api_id,
            policy=document_text(policy_statements(self._api.execution_arn)),
            opts=ResourceOptions(parent=self),
        )

    def _responses(self) -> list[pulumi.Resource]:
        return [
            aws.apigateway.Response(
                f"{self._name}-{response.type.lower().replace('_', '-')}",
                rest_api_id=self.api_id,
                response_type=response.type,
                status_code=str(response.status) if response.status is not None else None,
                response_parameters=response.headers(),
                response_templates={request_models.JSON: response.template()},
                opts=ResourceOptions(parent=self),
            )
            for response in RESPONSES
        ]

    def _routes(self) -> list[pulumi.Resource]:
        resource_ids: dict[str, pulumi.Output[str]] = {"": self._api.root_resource_id}
        for path in resource_paths(ROUTES):
            parent, _, part = path.rpartition("/")
            resource = aws.apigateway.Resource(
                f"{self._name}{path.replace('/', '-').replace('{', '').replace('}', '')}",
                rest_api=self.api_id,
                parent_id=resource_ids[parent],
                path_part=part,
                opts=ResourceOptions(parent=self),
            )
            resource_ids[path] = resource.id
        authorizer_id = self._authorizer()
        validator = aws.apigateway.RequestValidator(
            f"{self._name}-validator",
            rest_api=self.api_id,
            validate_request_body=True,
            validate_request_parameters=True,
            opts=ResourceOptions(parent=self),
        )
        return [
            Method(
                f"{self._name}-{route.slug}",
                MethodArgs(
                    route=route,
                    api_id=self.api_id,
                    resource_id=resource_ids[route.path],
                    authorizer_id=authorizer_id,
                    validator_id=validator.id,
                    schema=self._models[route],
                    balancer=self._args.balancer,
                    balancer_url=self._balancer_url,
                    verify_balancer=self._args.certificate.verifiable,
                    timeout_seconds=self._args.settings.api.timeout_seconds,
                ),
                opts=ResourceOptions(parent=self),
            )
            for route in ROUTES
        ]

    def _authorizer(self) -> pulumi.Output[str]:
        cache_seconds = self._args.settings.api.authorizer_cache_seconds
        authorizer = aws.apigateway.Authorizer(
            f"{self._name}-authorizer",
            rest_api=self.api_id,
            type="REQUEST",
            authorizer_uri=self._args.functions.authorizer_invoke_arn,
            identity_source=identity_sources(cache_seconds),
            authorizer_result_ttl_in_seconds=cache_seconds,
            opts=ResourceOptions(parent=self),
        )
        aws.lambda_.Permission(
            f"{self._name}-may-authorize",
            action="lambda:InvokeFunction",
            function=self._args.functions.authorizer_name,
            principal="apigateway.amazonaws.com",
            source_arn=pulumi.Output.concat(self._api.execution_arn, "/authorizers/", authorizer.id),
            opts=ResourceOptions(parent=self),
        )
        return authorizer.id

    def _deployment(self, parts: Sequence[pulumi.Resource]) -> aws.apigateway.Deployment:
        """A snapshot of the API as defined; another definition makes another one."""
        args = self._args
        definition = pulumi.Output.json_dumps(
            {
                "routes": [[route.method, route.path, self._models[route]] for route in ROUTES],
                "forwarded": FORWARDED,
                "responses": [[each.type, each.status, each.headers(), each.template()] for each in RESPONSES],
                "policy": [each.to_dict() for each in policy_statements(self._api.execution_arn)],
                "authorizer": [args.functions.authorizer_invoke_arn, args.settings.api.authorizer_cache_seconds],
                "balancer": [
                    args.balancer.vpc_link_id,
                    args.balancer.arn,
                    self._balancer_url,
                    args.certificate.verifiable,
                ],
                "timeout": args.settings.api.timeout_seconds,
            },
            sort_keys=True,
        )
        return aws.apigateway.Deployment(
            f"{self._name}-deployment",
            rest_api=self.api_id,
            triggers={"definition": definition.apply(digest)},
            opts=ResourceOptions(parent=self, depends_on=parts),
        )
