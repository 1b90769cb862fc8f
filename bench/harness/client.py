"""The load client: HTTP/1.1 over asyncio's transports and httptools' parser, so that it costs little itself."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import cast

import httptools
import orjson

HOST = "127.0.0.1"


class ClientError(Exception):
    """A server closed the connection, or answered what cannot be understood."""


@dataclass(frozen=True)
class Ask:
    """
    One request: where to, the JSON body, whether it streams, and the tokens its answer must have (None: any).

    With `leave_after` the client closes the connection after so many pieces of text.
    """

    path: str
    body: bytes
    streams: bool
    tokens: int | None = None
    leave_after: int | None = None


@dataclass
class Answer:
    """
    What came back; all times are `time.perf_counter()`.

    `events` are the times at which a piece of text arrived, one entry per server-sent event that held text; `body` is
    that of an answer that was not streamed.
    """

    sent: float
    status: int = 0
    first_byte: float = 0.0
    ended: float = 0.0
    events: list[float] = field(default_factory=list)
    tokens: int = 0
    body: bytes = b""
    retry_after: str | None = None
    failure: str = ""
    left: bool = False

    @property
    def first_token(self) -> float:
        """Seconds from the request to the first text of its stream."""
        return (self.events[0] if self.events else self.ended) - self.sent

    @property
    def gaps(self) -> list[float]:
        """Seconds between one piece of text and the next."""
        return [after - before for before, after in zip(self.events, self.events[1:], strict=False)]


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._parser: httptools.HttpResponseParser
        self._answer = Answer(0.0)
        self._buffer = bytearray()
        self._streams = False
        self._leave_after: int | None = None
        self._must_close = False

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connects to a port of this machine. Raises OSError."""
        _, protocol = await asyncio.get_running_loop().create_connection(cls, HOST, port)
        return protocol

    @property
    def is_open(self) -> bool:
        """Whether another request can go over this connection."""
        return self._transport is not None and not self._transport.is_closing() and not self._must_close

    async def send(self, ask: Ask) -> Answer:
        """Sends a request and waits for the whole answer. Raises ClientError if the connection ends before it."""
        if self._transport is None:
            raise ClientError("the connection is closed")
        self._parser = httptools.HttpResponseParser(self)
        self._buffer.clear()
        self._streams = ask.streams
        self._leave_after = ask.leave_after
        self._done = asyncio.get_running_loop().create_future()
        head = (
            f"POST {ask.path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(ask.body)}\r\n\r\n"
        )
        self._answer = Answer(time.perf_counter())
        self._transport.write(head.encode() + ask.body)
        await self._done
        return self._answer

    async def send_again(self, ask: Ask) -> Answer | None:
        """As `send` on a connection that was used before; None if the server had closed it before it read on."""
        try:
            return await self.send(ask)
        except ClientError:
            if self._answer.status:
                raise
            return None

    def close(self) -> None:
        """Closes at once; a request that runs is given up."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, ValueError, LookupError) as error:
            self._fail(f"not understood: {type(error).__name__}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail("the server closed the connection" if exc is None else f"connection lost: {exc}")

    def _fail(self, reason: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ClientError(reason))

    # httptools
    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"retry-after":
            self._answer.retry_after = value.decode()
        elif lowered == b"connection" and value.lower() == b"close":
            self._must_close = True

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        self._answer.first_byte = time.perf_counter()
        self._streams = self._streams and self._answer.status == 200

    def on_body(self, data: bytes) -> None:
        self._buffer += data
        if self._streams:
            self._read_events(time.perf_counter())
            if self._leave_after is not None and len(self._answer.events) >= self._leave_after:
                self._answer.left = True
                self.on_message_complete()
                self.close()

    def on_message_complete(self) -> None:
        self._answer.ended = time.perf_counter()
        if not self._streams:
            self._read_whole()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _read_events(self, now: float) -> None:
        *events, rest = bytes(self._buffer).split(b"\n\n")
        self._buffer[:] = rest
        for event in events:
            payload = event.partition(b"data:")[2].strip()
            if not payload or payload == b"[DONE]":
                continue
            value = orjson.loads(payload)
            if "error" in value:
                self._answer.failure = "an error in the stream"
                continue
            if any(choice.get("text") or (choice.get("delta") or {}).get("content") for choice in value["choices"]):
                self._answer.events.append(now)
            self._count(value)

    def _read_whole(self) -> None:
        self._answer.body = bytes(self._buffer)
        if self._answer.status == 200:
            self._count(orjson.loads(self._answer.body))
        else:
            self._answer.failure = f"status {self._answer.status}"

    def _count(self, value: dict[str, object]) -> None:
        usage = value.get("usage")
        if isinstance(usage, dict):
            self._answer.tokens = usage.get("completion_tokens", 0)


def json_body(value: dict[str, object]) -> bytes:
    """A request body."""
    return json.dumps(value, separators=(",", ":")).encode()
