"""The HTTP application: routes, and around each the request's id, admission, deadline, errors and log line."""

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from model_image import routes
from model_image.admission import Admission, Place
from model_image.api_errors import ApiError
from model_image.http_body import ClientLeft, parse, read_body, until_client_leaves
from model_image.metrics import Meter, Metrics
from model_image.registry import Registry
from model_image.request_log import Answered, JsonLog
from model_image.schemas import Request
from model_image.scopes import Scopes, caller_of

if TYPE_CHECKING:
    from model_image.tracing import Tracer

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INTERNAL = frozenset({"/health", "/ready", "/metrics"})
_EVENT_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_ERROR_SECONDS = 5.0  # for an error to be written, which a client that stopped reading would put off for ever
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
    write_seconds: float = 0.0

    @property
    def headers(self) -> Headers:
        """The request's headers."""
        return Headers(scope=self.scope)

    def answered(self) -> Answered:
        """What is known of it once it is over; a method nobody serves is a text of the client's and left out."""
        return Answered(
            request_id=self.request_id,
            method=self.scope["method"] if self.scope["method"] in {"GET", "POST"} else "other",
            route=self.route,
            status=self.status,
            code=self.code,
            started=self.started,
            ended=time.monotonic(),
            meter=self.meter,
        )

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
        began = time.monotonic()
        await Response(body, status_code=status, media_type=media_type, headers=headers)(
            self.scope, self.receive, self.send
        )
        self.write_seconds += time.monotonic() - began

    async def reply_error(self, error: ApiError, *, allow: str | None = None) -> None:
        """
        Sends an error, as an answer or as the last event of a stream that has begun; `allow` names the methods.

        If the client does not take it within 5 s, the answer stays unfinished, at which the HTTP server closes the
        connection.
        """
        self.code = error.code
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ERROR_SECONDS):
                await self._send_error(error, allow=allow)

    async def _send_error(self, error: ApiError, *, allow: str | None) -> None:
        body = orjson.dumps(error.answer())
        if self.status:
            await self.send({"type": "http.response.body", "body": b"data: " + body + b"\n\n", "more_body": False})
            return
        given = {"Retry-After": error.retry_after, "Allow": allow}
        headers = {name: str(value) for name, value in given.items() if value is not None}
        await self.reply(body, status=error.status, headers=headers)

    async def stream(self, steps: AsyncGenerator[list[Any], None]) -> None:
        """
        Sends chunks as server-sent events, as OpenAI does; the headers go with the first one.

        The chunks of one step go out in one write. What a client that reads slowly has not taken is waited for.
        """
        # Closed here, since a client that leaves must stop the engine now, and not when the generator is collected.
        async with contextlib.aclosing(steps):
            async for chunks in steps:
                if not self.status:
                    await self.send({"type": "http.response.start", "status": 200, "headers": _EVENT_STREAM})
                await self._write(b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks), more=True)
        await self._write(b"data: [DONE]\n\n", more=False)

    async def _write(self, body: bytes, *, more: bool) -> None:
        began = time.monotonic()
        await self.transport({"type": "http.response.body", "body": body, "more_body": more})
        self.write_seconds += time.monotonic() - began


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
        tracer: "Tracer | None" = None,
    ) -> None:
        """
        `body_limit` in bytes; an answer, streamed or not, takes `timeout_seconds` at most.

        Without a `tracer` there are no spans.
        """
        self._registry = registry
        self._admission = admission
        self._metrics = metrics
        self._log = log
        self._body_limit = body_limit
        self._timeout_seconds = timeout_seconds
        self._tracer = tracer
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
        """
        Serves one HTTP request. What goes wrong with it is answered, so that no text reaches the HTTP server's own log.

        Raises ValueError for another protocol, and what `send` raises when an error is answered.
        """
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
            await exchange.reply_error(_routing_error(error), allow=(error.headers or {}).get("Allow"))
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
        answered = exchange.answered()
        if answered.meter is not None:
            answered.meter.spent("write", exchange.write_seconds)
            if answered.code is not None:
                answered.meter.failed(answered.code)
        self._log.request(answered)
        if self._tracer is not None:
            self._tracer.record(answered, exchange.headers)

    def _get(self, path: str, handler: Callable[[Exchange], Awaitable[None]]) -> Route:
        return Route(path, _Endpoint(path, handler), methods=["GET"])

    def _post(self, route: routes.PostRoute) -> Route:
        async def handle(exchange: Exchange) -> None:
            await self._handle_post(exchange, route)

        return Route(route.path, _Endpoint(route.path, handle), methods=["POST"])

    async def _handle_post(self, exchange: Exchange, route: routes.PostRoute) -> None:
        with self._admission.place(caller_of(exchange.headers), seconds=self._timeout_seconds) as place:
            self._check_ready()
            body = await read_body(exchange.receive, exchange.headers, limit=self._body_limit)
            request = parse(body, route.schema)
            await _while_connected(exchange.receive, self._answer(exchange, route, request, place))

    async def _answer(self, exchange: Exchange, route: routes.PostRoute, request: Request, place: Place) -> None:
        parsed = time.monotonic()
        model = routes.choose_model(self._registry, route, request, Scopes.of(exchange.headers))
        exchange.meter = meter = self._metrics.meter(
            model=model.name, task=route.task, caller=place.caller, started=exchange.started, charge=place.charge
        )
        meter.stage("parse", exchange.started, parsed)
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
