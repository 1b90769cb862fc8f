"""A deployed stage in a moto server, made through boto3 as the program makes it, and the servers around the edge."""

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, MutableMapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import boto3
import httpx
import uvicorn

from local.balancer import Target
from local.edge import Edge, create_edge

REGION = "eu-west-1"
FUNCTION = f"arn:aws:lambda:{REGION}:123456789012:function:authorizer"
HOST = "internal-balancer.example"
KEY = "key-of-alice-0123456789"
LOG_GROUP = "/modelkeep/access"
LOG_FORMAT = (
    '{"id":"$context.requestId","ip":"$context.identity.sourceIp","status":"$context.status",'
    '"consumer":"$context.authorizer.consumer","path":"$context.path","error":"$context.error.responseType",'
    '"waf":"$context.wafResponseCode","route":"$context.resourcePath","key":"$context.identity.apiKey"}'
)
CHAT_MODEL = {
    "$schema": "http://json-schema.org/draft-04/schema#",
    "type": "object",
    "required": ["messages"],
    "properties": {"messages": {"type": "array"}, "stream": {"type": "boolean"}, "temperature": {"type": "number"}},
}
ALLOW = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}]}

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class UnauthorizedError(Exception):
    """Raised by a test's authorizer."""


def granted(event: dict[str, Any]) -> dict[str, Any]:
    """An authorizer that admits every token but `bad`."""
    if event["headers"]["Authorization"] == "Bearer bad":
        raise UnauthorizedError("Unauthorized")
    return {
        "principalId": "alice",
        "policyDocument": ALLOW,
        "usageIdentifierKey": KEY,
        "context": {"consumer": "alice", "plan": "demo", "models": "*", "limited": True, "n": 3},
    }


class FakeLambda:
    """Runs a Python function as Lambda does: an exception becomes a function error."""

    def __init__(self, answer: Answer = granted) -> None:
        self.answer = answer
        self.events: list[dict[str, Any]] = []

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803 - boto3's own names
        assert FunctionName == FUNCTION
        event = json.loads(Payload)
        self.events.append(event)
        try:
            content: Any = self.answer(event)
        except UnauthorizedError as error:
            failure = {"errorMessage": str(error), "errorType": "Exception"}
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(json.dumps(failure).encode())}
        return {"Payload": io.BytesIO(json.dumps(content).encode())}


class FixedBalancer:
    """Healthy targets in a fixed order; remembers what is in use."""

    def __init__(self, *urls: str) -> None:
        self.targets = [Target(id=f"i-{n}", url=url) for n, url in enumerate(urls)]
        self.names: list[str] = []
        self.in_use = 0

    def pick(self, load_balancer: str, *, exclude: Collection[str] = ()) -> Target | None:
        self.names.append(load_balancer)
        found = next((target for target in self.targets if target.id not in exclude), None)
        self.in_use += found is not None
        return found

    def release(self, target: Target) -> None:
        self.in_use -= 1


@cache
def _client(service: str, endpoint: str) -> Any:
    return boto3.client(
        service, region_name=REGION, endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test"
    )


class Stack:
    """One REST API with stage `v1`, the routes POST /chat/completions, GET /models and GET /models/{model}."""

    def __init__(self, endpoint: str, tmp_path: Path) -> None:
        self._endpoint = endpoint
        self.tmp_path = tmp_path
        self.function = FakeLambda()
        self.methods: list[tuple[str, str]] = []
        self.plan_id = ""
        self.api_id = ""
        self.authorizer_id: str | None = None

    def client(self, service: str) -> Any:
        if service == "lambda":
            return self.function
        return _client(service, self._endpoint)

    @property
    def gateway(self) -> Any:
        return self.client("apigateway")

    @property
    def stage_arn(self) -> str:
        return f"arn:aws:apigateway:{REGION}::/restapis/{self.api_id}/stages/v1"

    def deploy(
        self,
        *,
        policy: Any = None,
        source: str = "AUTHORIZER",
        authorizer: dict[str, Any] | None = None,
        authorized: bool = True,
        key_required: bool = True,
        plan: dict[str, Any] | None = None,
        integration: dict[str, Any] | None = None,
        parameters: dict[str, bool] | None = None,
    ) -> Self:
        api = self.gateway.create_rest_api(
            name="models", apiKeySource=source, **({"policy": json.dumps(policy)} if policy else {})
        )
        self.api_id = api["id"]
        if authorized:
            self._authorizer(authorizer or {})
        validator = self.gateway.create_request_validator(
            restApiId=self.api_id, name="all", validateRequestBody=True, validateRequestParameters=True
        )["id"]
        self.gateway.create_model(
            restApiId=self.api_id, name="Chat", contentType="application/json", schema=json.dumps(CHAT_MODEL)
        )
        extra = {"authorizationType": "CUSTOM", "authorizerId": self.authorizer_id} if authorized else {}
        method = {"authorizationType": "NONE", "apiKeyRequired": key_required, "requestValidatorId": validator, **extra}
        root = self.gateway.get_resources(restApiId=self.api_id)["items"][0]["id"]
        chat = self._resource(self._resource(root, "chat"), "completions")
        models = self._resource(root, "models")
        one = self._resource(models, "{model}")
        chat_method = {**method, "requestModels": {"application/json": "Chat"}, "requestParameters": parameters or {}}
        for resource, verb, settings in ((chat, "POST", chat_method), (models, "GET", method), (one, "GET", method)):
            self.gateway.put_method(restApiId=self.api_id, resourceId=resource, httpMethod=verb, **settings)
            self.gateway.put_integration(
                restApiId=self.api_id,
                resourceId=resource,
                httpMethod=verb,
                **{
                    "type": "HTTP_PROXY",
                    "integrationHttpMethod": verb,
                    "connectionType": "VPC_LINK",
                    "connectionId": "link",
                    "uri": f"https://{HOST}",
                    "timeoutInMillis": 29000,
                    "requestParameters": {
                        "integration.request.header.x-consumer": "context.authorizer.consumer",
                        "integration.request.header.x-request": "context.requestId",
                        "integration.request.header.x-tasks": "context.authorizer.tasks",
                        "integration.request.header.Authorization": "''",
                    },
                    **(integration or {}),
                },
            )
        deployment = self.gateway.create_deployment(restApiId=self.api_id)["id"]
        self.gateway.create_stage(restApiId=self.api_id, stageName="v1", deploymentId=deployment)
        self._log_settings()
        if key_required:
            self.plan(**(plan or {}))
        return self

    def _authorizer(self, settings: dict[str, Any]) -> None:
        self.authorizer_id = self.gateway.create_authorizer(
            restApiId=self.api_id,
            **{
                "name": "tokens",
                "type": "REQUEST",
                "authorizerUri": f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{FUNCTION}/invocations",
                "identitySource": "method.request.header.Authorization,context.identity.sourceIp",
                "authorizerResultTtlInSeconds": 60,
                **settings,
            },
        )["id"]

    def _resource(self, parent: str, part: str) -> str:
        return str(self.gateway.create_resource(restApiId=self.api_id, parentId=parent, pathPart=part)["id"])

    def _log_settings(self) -> None:
        logs = self.client("logs")
        group = f"{LOG_GROUP}/{self.api_id}"
        logs.create_log_group(logGroupName=group)
        arn = f"arn:aws:logs:{REGION}:123456789012:log-group:{group}"
        self.patch_stage(("/accessLogSettings/destinationArn", arn), ("/accessLogSettings/format", LOG_FORMAT))

    def patch_stage(self, *changes: tuple[str, str]) -> None:
        operations = [{"op": "replace", "path": path, "value": value} for path, value in changes]
        self.gateway.update_stage(restApiId=self.api_id, stageName="v1", patchOperations=operations)

    def plan(
        self,
        *,
        throttle: dict[str, Any] | None = None,
        quota: dict[str, Any] | None = None,
        methods: dict[str, Any] | None = None,
        value: str | None = None,
    ) -> None:
        limits = {name: item for name, item in (("throttle", throttle), ("quota", quota)) if item}
        stage = {"apiId": self.api_id, "stage": "v1", **({"throttle": methods} if methods else {})}
        self.plan_id = self.gateway.create_usage_plan(name="demo", apiStages=[stage], **limits)["id"]
        known = self.gateway.get_api_keys(includeValues=True)["items"]
        found = [key for key in known if key["value"] == (value or KEY)]
        key = found[0] if found else self.gateway.create_api_key(name="alice", value=value or KEY, enabled=True)
        self.gateway.create_usage_plan_key(usagePlanId=self.plan_id, keyId=key["id"], keyType="API_KEY")

    def respond(self, kind: str, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        template = {"error": {"message": "M", "type": "T", "param": None, "code": code}}
        self.gateway.put_gateway_response(
            restApiId=self.api_id,
            responseType=kind,
            statusCode=str(status),
            responseTemplates={"application/json": json.dumps(template).replace('"M"', "$context.error.messageString")},
            responseParameters={
                "gatewayresponse.header.x-request-id": "context.requestId",
                **{f"gatewayresponse.header.{name}": f"'{value}'" for name, value in (headers or {}).items()},
            },
        )

    def protect(self, rules: list[dict[str, Any]], **options: Any) -> str:
        for rule in rules:
            rule.setdefault("VisibilityConfig", VISIBILITY)
        arn = self.client("wafv2").create_web_acl(
            **{
                "Name": f"acl-{self.api_id}",
                "Scope": "REGIONAL",
                "DefaultAction": {"Allow": {}},
                "VisibilityConfig": VISIBILITY,
                "Rules": rules,
                **options,
            }
        )["Summary"]["ARN"]
        self.client("wafv2").associate_web_acl(WebACLArn=arn, ResourceArn=self.stage_arn)
        return str(arn)

    def ip_set(self, name: str, *addresses: str) -> dict[str, Any]:
        summary: dict[str, Any] = self.client("wafv2").create_ip_set(
            Name=f"{name}-{self.api_id}", Scope="REGIONAL", IPAddressVersion="IPV4", Addresses=list(addresses)
        )["Summary"]
        return summary

    def edge(self, balancer: FixedBalancer, *, refresh_seconds: float = 3600) -> Edge:
        return create_edge(
            client=self.client,
            api_id=self.api_id,
            stage_name="v1",
            balancer=balancer,
            log_dir=self.tmp_path / "logs",
            refresh_seconds=refresh_seconds,
        )

    def logged(self) -> list[str]:
        return (self.tmp_path / "logs" / "access.log").read_text().splitlines()

    def cloudwatch(self) -> list[str]:
        logs, group = self.client("logs"), f"{LOG_GROUP}/{self.api_id}"
        return [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]]


VISIBILITY = {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "m"}


@contextmanager
def served(app: Any, *, lifespan: Literal["auto", "off"] = "auto") -> Iterator[str]:
    """The application on a free loopback port, in a thread; yields its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        config = uvicorn.Config(
            app, lifespan=lifespan, proxy_headers=False, log_level="critical", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive()


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[int]]]:
    """A TCP server that gives each connection to `answer` and closes it; yields its URL and the connections seen."""
    seen: list[int] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    seen.append(1)
                    answer(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=10)


def free_url() -> str:
    """A loopback URL where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def echo(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """A target that answers with what it received."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode(), []).append(value.decode())
    content = {
        "path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "method": scope["method"],
        "headers": headers,
        "body": body.decode("utf-8", "replace"),
    }
    head = [(b"content-type", b"application/json"), (b"x-from", b"target")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


def caller(edge: Edge, *, address: str = "127.0.0.1") -> httpx.AsyncClient:
    """A client of the edge in process, from an address of its choice, with a good token."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=edge, client=(address, 50000)),
        base_url="http://127.0.0.1:8080/v1",
        headers={"authorization": "Bearer good"},
    )
