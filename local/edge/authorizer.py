"""Lambda authorizers: invoked for real, their answers checked strictly and kept for the deployed time to live."""

import asyncio
import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.edge.deployed import Api, AuthorizerSettings
from local.edge.exchange import Exchange, RefusedError
from local.edge.policy import Policy, parse_policy
from local.edge.variables import source_values
from local.errors import LocalError

INVOKE_TIMEOUT = 29.0  # seconds; API Gateway's maximum for an authorizer
CACHE_ENTRIES = 10_000

# Invokes the authorizer's function with a JSON payload, blocking; answers (is a function error, payload).
Invoke = Callable[[bytes], tuple[bool, bytes]]


@dataclass(frozen=True)
class Authorization:
    """What an authorizer answered; context values are strings, as API Gateway passes them on."""

    principal: str
    policy: Policy
    context: Mapping[str, str]
    usage_key: str | None = field(repr=False)


class Authorizer:
    """One deployed Lambda authorizer with its result cache."""

    def __init__(self, settings: AuthorizerSettings, *, api: Api, invoke: Invoke, executor: Executor) -> None:
        self.settings = settings
        self._root = f"arn:{api.partition}:execute-api:{api.region}:{api.account}:{api.id}"
        self._invoke = invoke
        self._executor = executor
        self._cache: OrderedDict[bytes, tuple[float, Authorization]] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[Authorization]] = {}
        expression = settings.validation_expression
        try:
            self._expression = re.compile(expression) if expression else None
        except re.error as error:
            raise LocalError(f"authorizer {settings.id}: identity validation {expression} is not a regex") from error

    async def authorize(self, exchange: Exchange, *, method_arn: str) -> Authorization:
        """Answer from the cache or invoke the function; identical requests at one time share one invocation.

        Raises RefusedError: UNAUTHORIZED for a missing identity source or the function's "Unauthorized", else
        AUTHORIZER_FAILURE (the function failed) or AUTHORIZER_CONFIGURATION_ERROR (not reached, or a bad answer).
        """
        identity = [source_values(source, exchange) for source in self.settings.identity_sources]
        if not all(any(values) for values in identity):
            raise RefusedError("UNAUTHORIZED", "Unauthorized")
        if self._expression and not self._expression.fullmatch(identity[0][-1]):
            raise RefusedError("UNAUTHORIZED", "Unauthorized")
        if self.settings.ttl == 0:
            return await self._call(_event(self.settings, exchange, method_arn, identity))
        key = hashlib.sha256(json.dumps(identity).encode("utf-8")).digest()
        cache = self._cache
        kept = cache.get(key)
        if kept and time.monotonic() < kept[0]:
            cache.move_to_end(key)
            return kept[1]
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._fill(key, _event(self.settings, exchange, method_arn, identity)))
            self._running[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        # A client that goes away must not end the invocation that others wait for.
        return await asyncio.shield(task)

    def flush(self) -> None:
        """Drop every answer that is kept, and keep none of those that are being waited for; from any thread."""
        self._cache, self._running = OrderedDict(), {}

    def _forget(self, key: bytes, task: asyncio.Task[Authorization]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen here, so that a refusal nobody waits for any more is no warning

    async def _fill(self, key: bytes, event: dict[str, Any]) -> Authorization:
        cache = self._cache  # the one of now: an answer that began before a flush is not kept after it
        authorization = await self._call(event)
        cache[key] = (time.monotonic() + self.settings.ttl, authorization)
        while len(cache) > CACHE_ENTRIES:
            cache.popitem(last=False)
        return authorization

    async def _call(self, event: dict[str, Any]) -> Authorization:
        payload = json.dumps(event).encode("utf-8")
        call = asyncio.get_running_loop().run_in_executor(self._executor, self._invoke, payload)
        try:
            failed, answer = await asyncio.wait_for(call, INVOKE_TIMEOUT)
        except (BotoCoreError, ClientError, TimeoutError) as error:
            raise RefusedError("AUTHORIZER_CONFIGURATION_ERROR", "Internal server error") from error
        return self._read(failed, answer)

    def _read(self, failed: bool, answer: bytes) -> Authorization:
        try:
            content = json.loads(answer)
        except ValueError as error:
            raise RefusedError("AUTHORIZER_CONFIGURATION_ERROR", "Internal server error") from error
        if failed:
            if isinstance(content, dict) and content.get("errorMessage") == "Unauthorized":
                raise RefusedError("UNAUTHORIZED", "Unauthorized")
            raise RefusedError("AUTHORIZER_FAILURE", "Internal server error")
        principal = content.get("principalId") if isinstance(content, dict) else None
        if not isinstance(principal, str) or not principal:
            raise RefusedError("AUTHORIZER_CONFIGURATION_ERROR", "Internal server error")
        usage_key = content.get("usageIdentifierKey")
        try:
            policy = parse_policy(
                content.get("policyDocument"), where=f"answer of authorizer {self.settings.id}", root=self._root
            )
            context = {str(name): _text(value) for name, value in (content.get("context") or {}).items()}
        except (LocalError, AttributeError, TypeError) as error:
            raise RefusedError("AUTHORIZER_CONFIGURATION_ERROR", "Internal server error") from error
        return Authorization(principal, policy, context, usage_key if isinstance(usage_key, str) else None)


def _text(value: Any) -> str:
    """A context value as a string; API Gateway admits strings, numbers and booleans and no objects or lists."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise TypeError("an authorizer's context holds strings, numbers and booleans only")


def _event(
    settings: AuthorizerSettings, exchange: Exchange, method_arn: str, identity: list[list[str]]
) -> dict[str, Any]:
    """The event of "Input to an API Gateway Lambda authorizer" in the Developer Guide."""
    if settings.type == "TOKEN":
        return {"type": "TOKEN", "methodArn": method_arn, "authorizationToken": identity[0][-1]}
    request, method = exchange.request, exchange.method
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        # Servers here see names in lower case; HTTP/1.1 clients of API Gateway send them as `Authorization`.
        headers.setdefault(name.decode("latin-1").title(), []).append(value.decode("latin-1"))
    return {
        "type": "REQUEST",
        "methodArn": method_arn,
        "resource": method.resource_path if method else None,
        "path": exchange.path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "queryStringParameters": {name: values[-1] for name, values in request.query.items()},
        "multiValueQueryStringParameters": request.query,
        "pathParameters": dict(exchange.path_parameters),
        "stageVariables": dict(exchange.stage_variables),
        "requestContext": {
            "accountId": exchange.account,
            "apiId": exchange.api_id,
            "domainName": exchange.domain,
            "httpMethod": request.method,
            "identity": {"sourceIp": request.source_ip, "userAgent": request.header("user-agent")},
            "path": f"/{exchange.stage}{exchange.path}",
            "protocol": request.protocol,
            "requestId": exchange.request_id,
            "requestTimeEpoch": int(exchange.received * 1000),
            "resourceId": method.resource_id if method else None,
            "resourcePath": method.resource_path if method else None,
            "stage": exchange.stage,
        },
    }
