"""The edge: an ASGI application that answers as the deployed API Gateway stage behind its web ACL does.

The order of evaluation, with its sources in AWS's documentation:
1. the web ACL ("Use AWS WAF to protect your REST APIs": evaluated before resource policies and authorizers);
2. the resource policy's explicit denials, then the Lambda authorizer, then both together ("How API Gateway resource
   policies affect authorization workflow", table A);
3. the usage plan ("Amazon API Gateway logs for troubleshooting": verified after the authorizer, before the execution
   of the method), where its throttles come before the stage's and the account's ("Throttle requests to your REST
   APIs");
4. request validation, the first step of the method's execution ("Request validation for REST APIs": before
   proceeding with the integration request), then the integration.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from local.balancer import Balancer
from local.edge.access_log import AccessLog
from local.edge.configuration import Configuration, Snapshot
from local.edge.deployed import ApiKey, Method
from local.edge.exchange import Exchange, RefusedError, Request
from local.edge.intake import PAYLOAD_LIMIT, Message, Receive, Scope, check_size, read_request
from local.edge.mapping import apply_mappings
from local.edge.plans import Meters
from local.edge.policy import Decision
from local.edge.proxy import Upstream
from local.edge.read_api import Client
from local.edge.validation import check_media_type, validate
from local.edge.variables import escape_json
from local.edge.waf import Inspected, Verdict

AUTHORIZER_THREADS = 16
CLIENT_GONE = 499  # in the access log alone: nobody is there to receive a status

Send = Callable[[Message], Awaitable[None]]


def create_edge(
    *,
    client: Client,
    api_id: str,
    stage_name: str,
    balancer: Balancer,
    log_dir: Path,
    refresh_seconds: float = 2.0,
) -> "Edge":
    """Read the deployed stage through `client("apigateway")` and its like and make the application that enforces it.

    The access log goes to `log_dir/access.log` and the deployed log group; the configuration is looked at again every
    `refresh_seconds`. Raises LocalError for anything deployed that would not be enforced as AWS does.
    """
    return Edge(
        client=client,
        api_id=api_id,
        stage_name=stage_name,
        balancer=balancer,
        log_dir=log_dir,
        refresh_seconds=refresh_seconds,
    )


class Edge:
    """The ASGI application.

    Serve it over TCP with `proxy_headers=False`: uvicorn would otherwise let a client on loopback choose its own source
    address, which the edge refuses to serve. It closes itself with the server's lifespan, or by `aclose`.
    """

    def __init__(
        self, *, client: Client, api_id: str, stage_name: str, balancer: Balancer, log_dir: Path, refresh_seconds: float
    ) -> None:
        self._executor = ThreadPoolExecutor(AUTHORIZER_THREADS, thread_name_prefix="edge-authorizer")
        self._configuration = Configuration(
            client=client, api_id=api_id, stage_name=stage_name, executor=self._executor, interval=refresh_seconds
        )
        self._meters = Meters(monotonic=time.monotonic, now=lambda: datetime.now(UTC))
        self._upstream = Upstream(balancer)
        self._log = AccessLog(directory=log_dir, client=client)
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if not self._started:
            self._started = True
            self._configuration.start()
            self._log.start()
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    def reload(self) -> None:
        """Read the whole configuration now, blocking; raises LocalError, and denies, where it cannot be enforced."""
        self._configuration.reload()

    async def aclose(self) -> None:
        """Stop the threads, deliver the access log, close the connections to targets."""
        self._configuration.close()
        if self._started:
            await asyncio.to_thread(self._log.close)
        await self._upstream.aclose()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        snapshot = self._configuration.latest
        request = await read_request(scope, receive, domain=snapshot.api.domain)
        if request is None:
            return
        exchange = Exchange(
            request=request,
            api_id=snapshot.api.id,
            account=snapshot.api.account,
            stage=snapshot.api.stage,
            domain=snapshot.api.domain,
            path=request.raw_path.removeprefix(f"/{snapshot.api.stage}"),
        )
        try:
            snapshot = self._configuration.current()
            await self._answer(snapshot, exchange, receive, send)
        except RefusedError as refused:
            status, headers, body = snapshot.responses.render(refused, exchange)
            await _send(exchange, status, headers, body, send)
        finally:
            if snapshot.log_format is not None:
                line = snapshot.log_format.render(exchange, missing="-", escape=escape_json)
                self._log.write(line, group=snapshot.log_group)

    async def _answer(self, snapshot: Snapshot, exchange: Exchange, receive: Receive, send: Send) -> None:
        if (verdict := _inspect(snapshot, exchange)) is not None and not verdict.allowed:
            if verdict.response is None:
                raise RefusedError("WAF_FILTERED", "Forbidden")
            own = verdict.response
            headers = [*own.headers, (b"x-amzn-requestid", exchange.request_id.encode("ascii"))]
            await _send(exchange, own.status, headers, own.body, send)
            return
        check_size(exchange.request)
        method = _route(snapshot, exchange)
        await _authorize(snapshot, method, exchange)
        await self._meter(snapshot, method, exchange)
        validate(method, exchange)
        check_media_type(method, exchange)
        mapped = apply_mappings(method, exchange)
        forward = asyncio.create_task(self._upstream.forward(method.integration, exchange, mapped, send))
        await _until_gone(forward, exchange, receive)

    async def _meter(self, snapshot: Snapshot, method: Method, exchange: Exchange) -> None:
        key: ApiKey | None = None
        if method.api_key_required:
            source = snapshot.api.api_key_source
            value = exchange.usage_key if source == "AUTHORIZER" else exchange.request.header("x-api-key")
            key = snapshot.stage.keys.get(value or "")
            if key is None and source == "AUTHORIZER" and value:
                # The authorizer knows a key that the last look did not show: it may have been made since.
                await asyncio.to_thread(self._configuration.catch_up, exchange.started)
                key = self._configuration.current().stage.keys.get(value)
            if key is None or not key.enabled:
                raise RefusedError("INVALID_API_KEY", "Forbidden")
            exchange.api_key_id = key.id
        self._meters.admit(
            key=key, stage=snapshot.stage, resource_path=method.resource_path, http_method=method.http_method
        )


def _inspect(snapshot: Snapshot, exchange: Exchange) -> Verdict | None:
    firewall = snapshot.firewall
    if firewall is None:
        return None
    verdict = firewall.evaluate(Inspected(exchange.request, body_limit=firewall.body_limit))
    exchange.web_acl_arn = firewall.arn
    exchange.waf_status = 200 if verdict.allowed else 403
    exchange.waf_headers = verdict.insert if verdict.allowed else ()
    return verdict


def _route(snapshot: Snapshot, exchange: Exchange) -> Method:
    found = snapshot.router.match(exchange.request.method, exchange.request.raw_path)
    if found is None:
        raise RefusedError("MISSING_AUTHENTICATION_TOKEN", "Missing Authentication Token")
    exchange.method, exchange.path_parameters, exchange.path = found.method, found.parameters, found.path
    exchange.stage_variables = snapshot.stage.variables
    return found.method


def _condition_keys(request: Request) -> Mapping[str, str]:
    """What policies' conditions may ask for; the deployed endpoint speaks TLS only, and this one stands for it."""
    keys = {"aws:sourceip": request.source_ip, "aws:securetransport": "true"}
    for key, header in (("aws:useragent", "user-agent"), ("aws:referer", "referer")):
        if (value := request.header(header)) is not None:
            keys[key] = value
    return keys


async def _authorize(snapshot: Snapshot, method: Method, exchange: Exchange) -> None:
    api = snapshot.api
    arn, keys = api.arn(exchange.request.method, exchange.path), _condition_keys(exchange.request)
    of_resource = api.policy.evaluate(resource=arn, keys=keys) if api.policy else Decision.NEITHER
    if of_resource is Decision.DENY:
        raise RefusedError("ACCESS_DENIED", "User is not authorized to access this resource with an explicit deny")
    if method.authorizer_id is None:
        if api.policy and of_resource is not Decision.ALLOW:
            raise RefusedError("ACCESS_DENIED", "User is not authorized to access this resource")
        return
    begun = time.monotonic()
    try:
        authorization = await snapshot.authorizers[method.authorizer_id].authorize(exchange, method_arn=arn)
    except RefusedError as refused:
        exchange.authorizer_status = 401 if refused.response_type == "UNAUTHORIZED" else 500
        raise
    finally:
        exchange.authorizer_latency = time.monotonic() - begun
    exchange.authorizer_status = 200
    exchange.principal = authorization.principal
    exchange.authorizer_context = authorization.context
    exchange.usage_key = authorization.usage_key
    of_authorizer = authorization.policy.evaluate(resource=arn, keys=keys)
    if of_authorizer is Decision.DENY:
        raise RefusedError("ACCESS_DENIED", "User is not authorized to access this resource with an explicit deny")
    if Decision.ALLOW not in (of_authorizer, of_resource):
        raise RefusedError("ACCESS_DENIED", "User is not authorized to access this resource")


async def _until_gone(forward: asyncio.Task[None], exchange: Exchange, receive: Receive) -> None:
    """Wait for the answer to be sent; cancel it, and with it the target's work, once the client is gone."""
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({forward, gone}, return_when=asyncio.FIRST_COMPLETED)
        if forward.done():
            forward.result()
        else:
            exchange.status = exchange.status or CLIENT_GONE
    except OSError:
        exchange.status = exchange.status or CLIENT_GONE  # the client left while it was being written to
    finally:
        gone.cancel()
        forward.cancel()
        await asyncio.gather(forward, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(exchange: Exchange, status: int, headers: list[tuple[bytes, bytes]], body: bytes, send: Send) -> None:
    exchange.status, exchange.response_length = status, len(body)
    if not any(name == b"content-length" for name, _ in headers):
        headers = [*headers, (b"content-length", str(len(body)).encode("ascii"))]
    if len(exchange.request.body) > PAYLOAD_LIMIT:
        headers = [*headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if exchange.request.method == "HEAD" else body})
