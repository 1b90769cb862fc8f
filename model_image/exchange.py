"""One request and its answer on their way through the application."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from model_image.allowance import Allowance
from model_image.api_errors import ApiError
from model_image.metrics import Meter
from model_image.request_log import Answered

_EVENT_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_ERROR_SECONDS = 5.0  # for an error to be written, which a client that stopped reading would put off for ever


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
    allowance: Allowance | None = None
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
        """Passes a message on to the client, with the request's id and what is left of its budget among the headers."""
        if message["type"] == "http.response.start":
            limits = [] if self.allowance is None else await self.allowance.headers()
            self.status = message["status"]
            headers = [*message["headers"], (b"x-request-id", self.request_id.encode()), *limits]
            message = {**message, "headers": headers}
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
