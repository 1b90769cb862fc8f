"""The HTTP application: routes, and around each the request's id, admission, deadline, errors and log line."""

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from model_image import routes
from model_image.admission import Admission
from model_image.api_errors import ApiError
from model_image.http_body import ClientLeft, parse, read_body, until_client_leaves
from model_image.metrics import Meter, Metrics
from model_image.registry import Registry
from model_image.request_log import JsonLog
from model_image.schemas import Request
from model_image.scopes import Scopes

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INTERNAL = frozenset({"/health", "/ready", "/metrics"})
_CLIENT_LEFT = 499  # nginx's status for it; appears in the log only


@dataclass
class Exchange:
    """One request and what is known of its answer."""

    scope: Scope
    receive: Receive
    transport: Send
    request_id: str
    started: float = field(default_factory=time.monotonic)
    route: str = "unmatched"
    status: int = 0
    code: str | None = None
    meter: Meter | None = None

    @property
    def headers(self) -> Headers:
        """The request's headers."""
        return Headers(scope=self.scope)

    async def send(self, message: Message) -> None:
        """Passes a message on to the client, with the request's id among the headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], (b"x-request-id", self.request_id.encode())]}
        await self.transport(message)

    async def reply(
        self,
        body: bytes,
        *,
        status: int = 200,
        media_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Sends a whole answer."""
        await Response(body, status_code=status, media_type=media_type, headers=headers)(
            self.scope, self.receive, self.send
        )

    async def reply_error(self, error: ApiError) -> None:
        """Sends an error: as an answer, or as the last event of a stream that has begun."""
        self.code = error.code
        body = orjson.dumps(error.answer())
        if self.status:
            await self.send({"type": "http.response.body", "body": b"data: " + body + b"\n\n", "more_body": False})
            return
        retry = None if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        await self.reply(body, status=error.status, headers=retry)

    async def stream(self, chunks: AsyncGenerator[Any, None]) -> None:
        """Sends chunks as server-sent events, as OpenAI does; the headers go with the first chunk."""
        async with contextlib.aclosing(
            chunks
        ):  # a client that leaves must stop the engine now, not when it is collected
            async for chunk in chunks:
                if not self.status:
                    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
                    await self.send({"type": "http.response.start", "status": 200, "headers": headers})
                event = b"data: " + orjson.dumps(chunk) + b"\n\n"
                await self.send({"type": "http.response.body", "body": event, "more_body": True})
        await self.send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


class ModelServer:
    """The ASGI application. Serves /health from its first moment and the rest once the registry is ready."""

    def __init__(
        self,
        *,
        registry: Registry,
        admission: Admission,
        metrics: Metrics,
        log: JsonLog,
        body_limit: int,
        timeout_seconds: float,
    ) -> None:
        """`body_limit` in bytes; an answer, streamed or not, takes `timeout_seconds` at most."""
        self._registry = registry
        self._admission = admission
        self._metrics = metrics
        self._log = log
        self._body_limit = body_limit
        self._timeout_seconds = timeout_seconds
        metrics.watch(lambda: [model.load() for model in registry.models])
        self._router = Router(
            routes=[
                self._get("/health", self._health),
                self._get("/ready", self._ready),
                self._get("/metrics", self._render_metrics),
                self._get("/v1/models", self._list_models),
                self._get("/v1/models/{model}", self._retrieve_model),
                *(self._post(route) for route in routes.POSTS),
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one HTTP request; never raises, so that no text can reach the HTTP server's own log."""
        if scope["type"] != "http":
            raise ValueError("this application serves HTTP only; run it with lifespan and websockets off")
        given = Headers(scope=scope).get("x-modelkeep-request-id", "")
        exchange = Exchange(scope, receive, send, given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4()))
        scope["modelkeep"] = exchange
        scope["app"] = self
        try:
            await self._serve(exchange)
        finally:
            self._record(exchange)

    async def _serve(self, exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._router(exchange.scope, exchange.receive, exchange.send)
        except ClientLeft:
            exchange.status, exchange.code = _CLIENT_LEFT, "client_left"
        except ApiError as error:
            await exchange.reply_error(error)
        except HTTPException as error:
            await exchange.reply_error(_routing_error(error))
        except TimeoutError:
            limit = f"{self._timeout_seconds:g} s"
            await exchange.reply_error(ApiError("timeout", f"the answer took over {limit}; ask for fewer tokens"))
        except Exception as error:  # noqa: BLE001  (the boundary: a fault of ours is a 500 without its text)
            self._log.fault("request_failed", error, request_id=exchange.request_id)
            await exchange.reply_error(ApiError("internal_error", "the server failed on this request"))

    def _record(self, exchange: Exchange) -> None:
        """Counts and logs the request; the checks of the balancer every few seconds are not worth a line."""
        if exchange.route in _INTERNAL:
            return
        meter = exchange.meter
        if meter is not None and exchange.code is not None:
            meter.failed(exchange.code)
        first_token = None if meter is None else meter.first_token_seconds
        self._log.write(
            "request",
            request_id=exchange.request_id,
            method=exchange.scope["method"] if exchange.scope["method"] in {"GET", "POST"} else "other",
            route=exchange.route,
            status=exchange.status,
            code=exchange.code,
            model=meter.model if meter else None,
            prompt_tokens=meter.prompt_tokens if meter else None,
            completion_tokens=meter.generation_tokens if meter else None,
            first_token_ms=None if first_token is None else round(first_token * 1000, 1),
            duration_ms=round((time.monotonic() - exchange.started) * 1000, 1),
        )

    def _get(self, path: str, handler: Callable[[Exchange], Awaitable[None]]) -> Route:
        return Route(path, _Endpoint(path, handler), methods=["GET"])

    def _post(self, route: routes.PostRoute) -> Route:
        async def handle(exchange: Exchange) -> None:
            await self._handle_post(exchange, route)

        return Route(route.path, _Endpoint(route.path, handle), methods=["POST"])

    async def _handle_post(self, exchange: Exchange, route: routes.PostRoute) -> None:
        with self._admission.place():
            self._check_ready()
            body = await read_body(exchange.receive, exchange.headers, limit=self._body_limit)
            request = parse(body, route.schema)
            await _while_connected(exchange.receive, self._answer(exchange, route, request))

    async def _answer(self, exchange: Exchange, route: routes.PostRoute, request: Request) -> None:
        scopes = Scopes.of(exchange.headers)
        model = routes.choose_model(self._registry, route, request, scopes)
        exchange.meter = meter = self._metrics.meter(model=model.name, task=route.task)
        outcome = await route.serve(model, request, meter)
        if isinstance(outcome.answer, dict):
            await exchange.reply(orjson.dumps(outcome.answer))
        else:
            await exchange.stream(outcome.answer)
        meter.succeeded(outcome.finish_reason())

    def _check_ready(self) -> None:
        if not self._registry.ready:
            raise ApiError("not_ready", "the server is loading its models; come back in a moment", retry_after=2)

    async def _health(self, exchange: Exchange) -> None:
        await exchange.reply(orjson.dumps({"status": "alive"}))

    async def _ready(self, exchange: Exchange) -> None:
        if self._admission.draining or not self._registry.ready:
            status = "draining" if self._admission.draining else "loading"
            await exchange.reply(orjson.dumps({"status": status}), status=503)
            return
        models = [{"name": model.name, "version": model.version} for model in self._registry.models]
        await exchange.reply(orjson.dumps({"status": "ready", "models": models}))

    async def _render_metrics(self, exchange: Exchange) -> None:
        await exchange.reply(self._metrics.render(), media_type="text/plain; version=0.0.4")

    async def _list_models(self, exchange: Exchange) -> None:
        self._check_ready()
        models = self._registry.visible(Scopes.of(exchange.headers))
        await exchange.reply(orjson.dumps({"object": "list", "data": [model.describe() for model in models]}))

    async def _retrieve_model(self, exchange: Exchange) -> None:
        self._check_ready()
        model = self._registry.find(exchange.scope["path_params"]["model"], Scopes.of(exchange.headers))
        await exchange.reply(orjson.dumps(model.describe()))


class _Endpoint:
    """A handler as the ASGI application a route wants; notes the route's template, which holds nothing of a user."""

    def __init__(self, path: str, handler: Callable[[Exchange], Awaitable[None]]) -> None:
        self._path = path
        self._handler = handler

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        exchange: Exchange = scope["modelkeep"]
        exchange.route = self._path
        await self._handler(exchange)


async def _while_connected(receive: Receive, answer: Any) -> None:
    """Runs an answer to its end, or cancels it at once when the client leaves (ClientLeft)."""
    answering = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(until_client_leaves(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientLeft
        answering.result()
    finally:
        leaving.cancel()
        answering.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


def _routing_error(error: HTTPException) -> ApiError:
    if error.status_code == 405:
        return ApiError("method_not_allowed", "this route takes another method; see openapi.json")
    return ApiError("not_found", "there is no such route; see openapi.json")
