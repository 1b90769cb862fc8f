"""The way to a target and back: what API Gateway's VPC link and the load balancer do with a request.

Chunks of the answer go to the client one by one as they come. A client that goes away ends the request to the target
at once; a target that breaks off ends the client's connection without a proper end, so that nobody takes half an
answer for a whole one.
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httpx

from local.balancer import Balancer, Target
from local.edge.deployed import Integration
from local.edge.exchange import Exchange, RefusedError
from local.edge.mapping import Mapped

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CONNECT_TIMEOUT = 10.0  # seconds; an Application Load Balancer's time to connect to a target
KEEP_ALIVE = 3.0  # seconds; below the 5 s after which servers here close an idle connection
# "Stream the integration response for your proxy integrations" in the API Gateway Developer Guide.
STREAM_IDLE, STREAM_TOTAL = 300.0, 900.0  # seconds
BUFFERED_LIMIT = 10 * 1024 * 1024  # bytes of an answer that is not streamed

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
REPLACED = frozenset(
    {b"host", b"content-length", b"expect", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-port"}
)
# API Gateway passes these on under another name ("Amazon API Gateway important notes", Developer Guide).
REMAPPED = frozenset({b"date", b"server", b"www-authenticate"})
SAFE_METHODS = frozenset({"GET", "HEAD"})


class Upstream:
    """Sends requests to targets over kept connections; targets' certificates are not verified, as by a balancer."""

    def __init__(self, balancer: Balancer) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=KEEP_ALIVE)
        self._transport = httpx.AsyncHTTPTransport(verify=context, limits=limits, trust_env=False)
        self._balancer = balancer

    async def aclose(self) -> None:
        """Close the kept connections."""
        await self._transport.aclose()

    async def forward(self, integration: Integration, exchange: Exchange, mapped: Mapped, send: Send) -> None:
        """Send the request on and the answer back.

        Raises RefusedError before anything was sent to the client: INTEGRATION_TIMEOUT without headers in time,
        INTEGRATION_FAILURE where no target takes the connection.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        taken: list[Target] = []
        try:
            try:
                async with asyncio.timeout(integration.timeout):
                    response = await self._open(integration, exchange, mapped, taken)
                    exchange.integration_latency = loop.time() - begun
                    if response is not None and integration.buffered:
                        response = await _buffered(response)
            except TimeoutError as error:
                exchange.integration_latency = loop.time() - begun
                raise RefusedError("INTEGRATION_TIMEOUT", "Endpoint request timed out") from error
            if response is None:
                await _send_own(exchange, 503, "no healthy target behind the load balancer, try again shortly", send)
            else:
                await self._relay(response, exchange, send, begun=begun)
        except _BrokenError:
            exchange.integration_latency = loop.time() - begun
            await _send_own(exchange, 502, "the target closed the connection without an answer, send again", send)
        finally:
            for target in taken:
                self._balancer.release(target)

    async def _open(
        self, integration: Integration, exchange: Exchange, mapped: Mapped, taken: list[Target]
    ) -> httpx.Response | None:
        """The answer's head from the first target that takes the request; None where none is healthy.

        A target that refuses the connection has seen nothing, so the next one is tried; one that breaks off before
        answering is tried again only for methods that change nothing.
        """
        method = exchange.request.method if integration.http_method == "ANY" else integration.http_method
        headers = _request_headers(integration, exchange, mapped)
        tried: set[str] = set()
        while True:
            target = self._balancer.pick(integration.load_balancer, exclude=frozenset(tried))
            if target is None:
                if tried:
                    raise RefusedError("INTEGRATION_FAILURE", "Internal server error")
                return None
            taken.append(target)
            request = _request(target, method, mapped, headers, exchange.request.body)
            try:
                return await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                tried.add(target.id)
            except httpx.TransportError as error:
                tried.add(target.id)
                if method not in SAFE_METHODS or len(tried) > 1:
                    raise _BrokenError from error
            taken.remove(target)
            self._balancer.release(target)

    async def _relay(self, response: httpx.Response, exchange: Exchange, send: Send, *, begun: float) -> None:
        loop = asyncio.get_running_loop()
        exchange.status = exchange.integration_status = response.status_code
        await send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": _response_headers(response.headers.raw, exchange),
            }
        )
        try:
            async with asyncio.timeout(STREAM_TOTAL):
                async for chunk in response.aiter_raw():
                    if exchange.first_content is None:
                        exchange.first_content = loop.time() - begun
                    exchange.response_length += len(chunk)
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except (httpx.TransportError, TimeoutError):
            # Returning without the last message makes the server cut the client's connection.
            exchange.error = RefusedError("INTEGRATION_FAILURE", "The target ended its answer early")
            return
        finally:
            await asyncio.shield(response.aclose())
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _BrokenError(Exception):
    """A target took the request and closed the connection before the first byte of its answer."""


def _request(target: Target, method: str, mapped: Mapped, headers: Headers, body: bytes) -> httpx.Request:
    query = b"?" + mapped.query_string if mapped.query_string else b""
    url = httpx.URL(target.url).copy_with(raw_path=mapped.path.encode("ascii") + query)
    timeout = {"connect": CONNECT_TIMEOUT, "read": STREAM_IDLE, "write": STREAM_IDLE, "pool": CONNECT_TIMEOUT}
    if method in SAFE_METHODS and not body:
        return httpx.Request(method, url, headers=headers, extensions={"timeout": timeout})
    return httpx.Request(method, url, headers=headers, content=body, extensions={"timeout": timeout})


def _request_headers(integration: Integration, exchange: Exchange, mapped: Mapped) -> Headers:
    """The client's headers, less those of one hop and those mapped, with what gateway, WAF and balancer add."""
    request = exchange.request
    inserted = {name for name, _ in exchange.waf_headers}
    listed = {
        part.strip().lower().encode("latin-1")
        for value in request.header_values("connection")
        for part in value.split(",")
    }
    dropped = HOP_BY_HOP | REPLACED | listed | inserted | mapped.headers.keys() | {b"x-amzn-trace-id"}
    headers = [(name, value) for name, value in request.headers if name not in dropped]
    headers += [(name, value) for name, values in mapped.headers.items() for value in values if name not in REPLACED]
    headers += exchange.waf_headers
    forwarded = ", ".join([*request.header_values("x-forwarded-for"), request.source_ip])
    return [
        (b"host", integration.load_balancer.encode("ascii")),
        *headers,
        (b"x-forwarded-for", forwarded.encode("latin-1")),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-port", b"443"),
        (b"x-amzn-trace-id", exchange.trace_id.encode("ascii")),
        (b"x-amzn-apigateway-api-id", exchange.api_id.encode("ascii")),
    ]


def _response_headers(raw: list[tuple[bytes, bytes]], exchange: Exchange) -> Headers:
    headers: Headers = []
    for name, value in raw:
        lower = name.lower()
        if lower in REMAPPED:
            headers.append((b"x-amzn-remapped-" + lower, value))
        elif lower not in HOP_BY_HOP:
            headers.append((lower, value))
    headers.append((b"x-amzn-requestid", exchange.request_id.encode("ascii")))
    headers.append((b"x-amzn-trace-id", exchange.trace_id.encode("ascii")))
    return headers


async def _buffered(response: httpx.Response) -> httpx.Response:
    """The whole answer in one piece; raises RefusedError above the payload limit, _BrokenError where it breaks off."""
    content = b""
    try:
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > BUFFERED_LIMIT:
                raise RefusedError("INTEGRATION_FAILURE", "Internal server error")
    except httpx.TransportError as error:
        raise _BrokenError from error
    finally:
        await asyncio.shield(response.aclose())
    kept = [(name, value) for name, value in response.headers.raw if name.lower() not in HOP_BY_HOP]
    return httpx.Response(response.status_code, headers=kept, stream=httpx.ByteStream(content))


async def _send_own(exchange: Exchange, status: int, message: str, send: Send) -> None:
    """Answer as the load balancer, in the shape of the API's own errors."""
    code = "bad_gateway" if status == 502 else "overloaded"
    error = {"message": message, "type": "server_error", "param": None, "code": code}
    body = json.dumps({"error": error}).encode("utf-8")
    exchange.status = exchange.integration_status = status
    exchange.response_length = len(body)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"x-request-id", exchange.request_id.encode("ascii")),
        (b"retry-after", b"1"),
    ]
    headers = _response_headers(headers, exchange)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
