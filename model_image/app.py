"""The HTTP application: routes, and around each the request's id, admission, deadline, errors and log line."""

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from model_image import routes
from model_image.admission import Admission, Place
from model_image.allowance import Guard, usage_of
from model_image.api_errors import ApiError
from model_image.exchange import Exchange
from model_image.http_body import ClientLeft, parse, read_body, until_client_leaves
from model_image.metrics import Metrics
from model_image.registry import Registry
from model_image.request_log import Answered, JsonLog
from model_image.schemas import Request
from model_image.scopes import Scopes, caller_of
from model_image.usage import UsageRecords, record_of

if TYPE_CHECKING:
    from model_image.tracing import Tracer

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INTERNAL = frozenset({"/health", "/ready", "/metrics"})
_CLIENT_LEFT = 499  # nginx's status for it; appears in the log only
_CUT_OFF = 503  # likewise, of a request that got no answer


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
        guard: Guard | None = None,
        usage: UsageRecords | None = None,
    ) -> None:
        """
        `body_limit` in bytes; an answer, streamed or not, takes `timeout_seconds` at most.

        Without a `tracer` there are no spans, without a `guard` no budgets, without `usage` no records.
        """
        self._registry = registry
        self._admission = admission
        self._metrics = metrics
        self._log = log
        self._body_limit = body_limit
        self._timeout_seconds = timeout_seconds
        self._tracer = tracer
        self._guard = guard
        self._usage = usage
        metrics.watch(lambda: [model.load() for model in registry.models])
        self._router = Router(
            routes=[
                self._get("/health", self._health),
                self._get("/ready", self._ready),
                self._get("/metrics", self._render_metrics),
                self._get("/v1/models", self._list_models),
                self._get("/v1/models/{model}", self._retrieve_model),
                self._get("/v1/usage", self._tell_usage),
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
            if self._guard is not None:
                exchange.allowance = self._guard.allowance(exchange.headers)
            async with asyncio.timeout(self._timeout_seconds):
                await self._router(exchange.scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:  # the process ends, and did not wait any longer
            exchange.status, exchange.code = exchange.status or _CUT_OFF, "draining"
            raise
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
        """Counts, settles and logs the request; the checks of the balancer every few seconds are not worth a line."""
        if exchange.route in _INTERNAL:
            return
        answered = exchange.answered()
        self._account(exchange, answered)
        if answered.meter is not None:
            answered.meter.spent("write", exchange.write_seconds)
            if answered.code is not None:
                answered.meter.failed(answered.code)
        self._log.request(answered)
        if self._tracer is not None:
            self._tracer.record(answered, exchange.headers)

    def _account(self, exchange: Exchange, answered: Answered) -> None:
        """Settles what the request has taken, and records it."""
        meter = answered.meter
        if meter is None:
            return
        if exchange.allowance is not None:
            exchange.allowance.settle(meter.total_tokens)
        if self._usage is not None:
            self._usage.add(record_of(answered, exchange.headers, at=time.time()))

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
            model=model.name,
            version=model.version,
            task=route.task,
            streamed=getattr(request, "stream", None) is True,
            caller=place.caller,
            started=exchange.started,
            charge=place.charge,
            reserve=None if exchange.allowance is None else exchange.allowance.reserve,
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

    async def _tell_usage(self, exchange: Exchange) -> None:
        await exchange.reply(orjson.dumps(await usage_of(self._guard, exchange.headers)))


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
