"""Answers as they come: chunk by chunk, cut off by the client, broken off by the target, too late."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest

from tests.local.edge.stack import FixedBalancer, Stack, caller, raw_server, served

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {"messages": []}
HEADERS = {"authorization": "Bearer good"}
WAIT = 20.0  # seconds until a test gives up; it never decides


class Slow:
    """A target that sends one chunk, then waits for leave before the next; says when its client has gone."""

    def __init__(self) -> None:
        self.leave = threading.Event()
        self.gone = threading.Event()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        if scope["path"] == "/v1/models":
            await self._until_gone(receive)  # never answers
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: one\n\n", "more_body": True})
        watch = asyncio.create_task(self._until_gone(receive))
        await asyncio.to_thread(self.leave.wait, WAIT)
        await send({"type": "http.response.body", "body": b"data: two\n\n", "more_body": False})
        await watch

    async def _until_gone(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set()


async def test_first_chunk_arrives_before_the_target_makes_the_second(stack: Stack) -> None:
    slow = Slow()
    with served(slow, lifespan="off") as target, served(stack.deploy().edge(FixedBalancer(target))) as url:
        async with (
            httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=WAIT) as client,
            client.stream("POST", "/v1/chat/completions", json=BODY) as answer,
        ):
            chunks = answer.aiter_raw()
            assert await anext(chunks) == b"data: one\n\n"
            assert not slow.leave.is_set()
            slow.leave.set()
            assert [chunk async for chunk in chunks] == [b"data: two\n\n"]
            assert answer.headers["content-type"] == "text/event-stream"
            assert answer.headers["x-amzn-requestid"]


async def test_the_access_log_has_the_time_to_the_first_content(stack: Stack) -> None:
    slow = Slow()
    stack.deploy().patch_stage(
        (
            "/accessLogSettings/format",
            '{"first":"$context.integration.timeToFirstContent","all":"$context.responseLatency"}',
        )
    )
    with served(slow, lifespan="off") as target, served(stack.edge(FixedBalancer(target))) as url:
        async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=WAIT) as client:
            async with client.stream("POST", "/v1/chat/completions", json=BODY) as answer:
                chunks = answer.aiter_raw()
                await anext(chunks)
                await asyncio.sleep(0.2)
                slow.leave.set()
                assert [chunk async for chunk in chunks]
            await client.get("/v1/nowhere")
    # The line of a stream is written when it has ended, which may be after the next request's.
    refused, streamed = sorted(map(json.loads, stack.logged()), key=lambda line: line["first"] != "-")
    assert 0 <= int(streamed["first"]) <= int(streamed["all"]) - 200
    assert refused["first"] == "-"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
async def test_a_client_that_goes_ends_the_request_to_the_target(stack: Stack, path: str) -> None:
    slow = Slow()
    balancer = FixedBalancer()
    with served(slow, lifespan="off") as target, served(stack.deploy().edge(balancer)) as url:
        balancer.targets = FixedBalancer(target).targets
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        content = json.dumps(BODY).encode() if "chat" in path else b""
        verb = "POST" if content else "GET"
        head = f"{verb} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\n"
        writer.write(
            f"{head}Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
        )
        if content:
            assert await reader.readuntil(b"data: one")
        else:
            while not balancer.in_use:  # the request is on its way to the target  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        writer.close()
        assert await asyncio.to_thread(slow.gone.wait, WAIT)
        slow.leave.set()
    assert balancer.in_use == 0


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "framing", ["transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", "content-length: 50\r\n\r\nhello"]
)
async def test_a_target_killed_midway_ends_the_clients_stream_as_broken(
    stack: Stack, reset: bool, framing: str
) -> None:
    arrived = threading.Event()

    def die(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing.encode())
        arrived.wait(WAIT)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    balancer = FixedBalancer()
    with raw_server(die) as (target, _), served(stack.deploy().edge(balancer)) as url:
        balancer.targets = FixedBalancer(target).targets
        async with (
            httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=WAIT) as client,
            client.stream("POST", "/v1/chat/completions", json=BODY) as answer,
        ):
            chunks = answer.aiter_raw()
            assert await anext(chunks) == b"hello"
            arrived.set()
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await anext(chunks)
    assert balancer.in_use == 0
    assert [json.loads(line)["error"] for line in stack.logged()] == ["INTEGRATION_FAILURE"]


async def test_a_target_that_closes_without_an_answer_is_a_502_and_not_asked_again(stack: Stack) -> None:
    def close(connection: socket.socket) -> None:
        connection.recv(65536)

    with raw_server(close) as (target, seen):
        edge = stack.deploy().edge(FixedBalancer(target, target))
        async with caller(edge) as client:
            answer = await client.post("/chat/completions", json=BODY)
        await edge.aclose()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "bad_gateway")
    assert len(seen) == 1


async def test_headers_too_late_are_a_504(stack: Stack) -> None:
    done = threading.Event()

    def wait(connection: socket.socket) -> None:
        done.wait(WAIT)

    with raw_server(wait) as (target, _):
        balancer = FixedBalancer(target)
        edge = stack.deploy(integration={"timeoutInMillis": 200}).edge(balancer)
        async with caller(edge) as client:
            answer = await client.post("/chat/completions", json=BODY)
        done.set()
        await edge.aclose()
    assert (answer.status_code, answer.json()) == (504, {"message": "Endpoint request timed out"})
    assert balancer.in_use == 0


async def test_behind_a_server_that_trusts_proxy_headers_nobody_is_served(stack: Stack, target: str) -> None:
    edge = stack.deploy().edge(FixedBalancer(target))
    transport = httpx.ASGITransport(app=edge, client=("10.0.0.1", 0))  # what uvicorn makes of X-Forwarded-For
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1/v1", headers=HEADERS) as client:
        with pytest.raises(Exception, match="proxy_headers=False"):
            await client.get("/models")
    await edge.aclose()
