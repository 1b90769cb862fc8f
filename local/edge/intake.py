"""Takes the client's request off the socket: whole, bounded, from the address that really sent it."""

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from local.edge.exchange import RefusedError, Request
from local.errors import LocalError

PAYLOAD_LIMIT = 10 * 1024 * 1024  # bytes; "Amazon API Gateway quotas": payload size, not raisable
HEADER_LIMIT = 10_240  # bytes; ibid.: total combined size of request line and header values

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


async def read_request(scope: Scope, receive: Receive, *, domain: str) -> Request | None:
    """Read the request whole, the body up to its limit and one byte; None where the client left meanwhile."""
    client = scope.get("client")
    if not client or client[1] == 0:
        raise LocalError(
            "the client's own address is not known: serve the edge over TCP, uvicorn with proxy_headers=False"
        )
    chunks: list[bytes] = []
    size, more = 0, True
    while more and size <= PAYLOAD_LIMIT:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        more = message.get("more_body", False)
    return Request(
        method=scope["method"],
        raw_path=(scope.get("raw_path") or scope["path"].encode("utf-8")).decode("latin-1"),
        query_string=scope["query_string"],
        headers=tuple(_named_host(name, value, domain) for name, value in scope["headers"]),
        body=b"".join(chunks)[: PAYLOAD_LIMIT + 1],
        source_ip=_address(client[0]),
        protocol=f"HTTP/{scope['http_version']}",
    )


def _named_host(name: bytes, value: bytes, domain: str) -> tuple[bytes, bytes]:
    """A loopback name in the Host header stands for the API's own domain, which clients call in AWS."""
    if name == b"host" and value.startswith((b"127.", b"localhost", b"[::1]")):
        return name, domain.encode("ascii")
    return name, value


def _address(text: str) -> str:
    """The client's address; an IPv4 client of a socket for both families is an IPv4 client."""
    address = ipaddress.ip_address(text)
    return str(getattr(address, "ipv4_mapped", None) or address)


def check_size(request: Request) -> None:
    """Apply API Gateway's limits on headers and payload; raises RefusedError REQUEST_TOO_LARGE."""
    line = len(request.method) + len(request.raw_path) + len(request.query_string)
    if line + sum(len(value) for _, value in request.headers) > HEADER_LIMIT:
        raise RefusedError("REQUEST_TOO_LARGE", "Request header fields too large")
    if len(request.body) > PAYLOAD_LIMIT:
        raise RefusedError("REQUEST_TOO_LARGE", "Request Too Long")
