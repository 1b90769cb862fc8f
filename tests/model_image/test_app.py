"""The application around a model that never answers, or breaks: limits, shares, deadlines, faults."""

import asyncio
import json
import queue
import threading
from typing import Any

import httpx
import pytest

from model_image import exchange
from model_image.batching.generation_loop import Deliveries, GenerationLoop
from model_image.batching.scheduler import Limits, Plan, Scheduler
from model_image.batching.sequence import Progress, ScoredToken
from model_image.batching.turns import Turns
from model_image.metrics import Metrics
from tests.model_image.in_process import BODY, MARKER, WHOLE, InProcess, run

SCOPE = {
    "type": "http", "method": "POST", "path": "/v1/completions", "raw_path": b"/v1/completions",
    "query_string": b"", "headers": [(b"content-type", b"application/json")], "root_path": "",
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_of_the_server_tells_nothing(stream: bool) -> None:
    server = InProcess()

    async def talk(client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/completions", json=BODY | {"prompt": MARKER, "stream": stream})
        assert response.status_code == 500
        assert response.json()["error"] == {
            "message": "the server failed on this request",
            "type": "server_error",
            "param": None,
            "code": "internal_error",
        }

    run(server, talk)
    assert MARKER not in server.output.getvalue()
    assert [entry.get("exception") for entry in server.logged] == ["ArithmeticError", None]
    assert server.logged[0]["request_id"] == server.logged[1]["request_id"]


def test_over_its_limit_the_server_refuses_with_advice() -> None:
    server = InProcess(limit=2)

    async def talk(client: httpx.AsyncClient) -> None:
        inside = [asyncio.create_task(client.post("/v1/completions", json=BODY)) for _ in range(2)]
        await server.loop.has_submitted(2)
        refused = await client.post("/v1/completions", json=BODY)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "overloaded"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert (await client.get("/ready")).status_code == 200
        for task in inside:
            task.cancel()

    run(server, talk)
    assert len(server.loop.submitted) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_takes_too_long_ends(stream: bool) -> None:
    server = InProcess(timeout_seconds=0.05)

    async def talk(client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/completions", json=BODY | {"stream": stream})
        if stream:
            first, last, _ = response.text.split("\n\n")
            assert json.loads(first.removeprefix("data: "))["choices"][0]["text"] == "A"
            error = json.loads(last.removeprefix("data: "))["error"]
        else:
            assert response.status_code == 504
            error = response.json()["error"]
        assert error["code"] == "timeout"
        assert error["message"] == "the answer took over 0.05 s; ask for fewer tokens"

    run(server, talk)
    assert server.loop.cancelled == server.loop.submitted
    assert server.logged[0]["code"] == "timeout"


def test_before_it_is_ready_it_says_so() -> None:
    server = InProcess()
    server.registry.ready = False

    async def talk(client: httpx.AsyncClient) -> None:
        for response in (await client.post("/v1/completions", json=BODY), await client.get("/v1/models")):
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "not_ready"
            assert response.headers["retry-after"] == "2"
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).json() == {"status": "loading"}

    run(server, talk)


def test_a_client_that_leaves_takes_its_sequences_out_at_once() -> None:
    server = InProcess()
    sent: list[dict[str, Any]] = []
    body = json.dumps(BODY | {"n": 3, "stream": True}).encode()

    async def talk() -> None:
        left, streaming = asyncio.Event(), asyncio.Event()
        incoming = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            for message in incoming:
                return message
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 2:
                streaming.set()

        serving = asyncio.create_task(server.app(SCOPE, receive, send))
        await streaming.wait()
        left.set()
        await serving

    asyncio.run(talk())
    assert server.loop.cancelled == server.loop.submitted
    assert len(server.loop.cancelled) == 3
    assert (server.logged[-1]["status"], server.logged[-1]["code"]) == (499, "client_left")


def test_a_client_that_stops_reading_is_dropped_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_ERROR_SECONDS", 0.05)
    server = InProcess(timeout_seconds=0.05)
    sent: list[str] = []
    incoming = [{"type": "http.request", "body": json.dumps(BODY | {"stream": True}).encode()}]

    async def receive() -> Any:
        return incoming.pop() if incoming else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if len(sent) > 1:  # as the HTTP server does while what was written before is not read
            await asyncio.Event().wait()

    async def talk() -> None:
        async with asyncio.timeout(30):
            await server.app(dict(SCOPE), receive, send)

    asyncio.run(talk())
    assert sent == ["http.response.start", "http.response.body", "http.response.body"]
    assert server.loop.cancelled == server.loop.submitted
    assert server.admission.inside == 0
    assert server.logged[-1]["code"] == "timeout"


class GatedEngine:
    """An engine whose steps end when the test lets them; every step makes one token of each sequence."""

    def __init__(self) -> None:
        self.begun: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._gate = threading.Semaphore(0)

    def step(self, plan: Plan) -> list[Progress]:
        self.begun.put(len(plan.chunks))
        assert self._gate.acquire(timeout=60)
        return [Progress(token=ScoredToken(65)) for _ in plan.chunks]

    def let(self, steps: int) -> None:
        self._gate.release(steps)


def test_the_slot_of_a_client_that_left_is_free_in_the_next_step() -> None:
    engine = GatedEngine()

    async def talk() -> None:
        event_loop = asyncio.get_running_loop()

        def deliver(deliveries: Deliveries) -> None:
            for sequence, progress in deliveries:
                event_loop.call_soon_threadsafe(sequence.on_progress, progress)

        loop = GenerationLoop(
            name="m", engine=engine, turns=Turns(), deliver=deliver, observer=Metrics().observer("m"),
            scheduler=Scheduler(Limits(running=4, cache_tokens=1024, prefill_tokens=64)),
            on_failure=lambda _: None, on_crash=lambda _: None,
        )  # fmt: skip
        loop.start()
        server = InProcess(generation=loop)
        leaver, stayer = Client(server, {"max_tokens": 50}), Client(server, {"max_tokens": 20})

        # Both are within one step when one of them leaves; it is cancelled before that step is over.
        while await asyncio.to_thread(engine.begun.get) < 2:
            engine.let(1)
        leaver.left.set()
        await leaver.served
        engine.let(50)
        await stayer.served

        assert (server.logged[0]["code"], server.logged[1]["status"]) == ("client_left", 200)
        steps = []
        while not engine.begun.empty():
            steps.append(engine.begun.get())
        assert steps
        assert set(steps) == {1}
        assert (loop.running, loop.waiting, server.admission.inside, server.admission.tokens) == (0, 0, 0, 0)
        await asyncio.to_thread(loop.stop)

    asyncio.run(talk())


class Client:
    """A streaming request that lasts until its answer is over or `left` is set."""

    def __init__(self, server: InProcess, body: dict[str, Any]) -> None:
        self.left = asyncio.Event()
        self._incoming = [{"type": "http.request", "body": json.dumps(BODY | {"stream": True} | body).encode()}]
        self.served = asyncio.create_task(server.app(dict(SCOPE), self._receive, self._send))

    async def _receive(self) -> Any:
        if self._incoming:
            return self._incoming.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        pass


async def refused(server: InProcess, client: httpx.AsyncClient, *, count: int, **headers: str) -> list[int]:
    """Asks so many times at once; the statuses of those that were answered and did not come to the model."""
    names = {f"x-modelkeep-{name}": value for name, value in headers.items()}
    before = len(server.loop.submitted)
    asked = [asyncio.create_task(client.post("/v1/completions", json=BODY, headers=names)) for _ in range(count)]
    while len(server.loop.submitted) - before + sum(task.done() for task in asked) < count:
        arrival = asyncio.create_task(server.loop.arrival())
        await asyncio.wait({arrival, *(task for task in asked if not task.done())}, return_when="FIRST_COMPLETED")
        arrival.cancel()
    return [task.result().status_code for task in asked if task.done()]


def test_a_consumer_that_floods_is_refused_and_a_quiet_one_enters() -> None:
    server = InProcess(limit=8)

    async def talk(client: httpx.AsyncClient) -> None:
        assert await refused(server, client, count=12, consumer="flood") == [429] * 4
        assert await refused(server, client, count=1, consumer="quiet") == []
        assert await refused(server, client, count=1, consumer="quiet") == [429]

    run(server, talk)
    assert len(server.loop.submitted) == 9


def test_background_requests_leave_half_of_the_places() -> None:
    server = InProcess(limit=8)

    async def talk(client: httpx.AsyncClient) -> None:
        assert await refused(server, client, count=6, consumer="batch", priority="background") == [429] * 2
        assert await refused(server, client, count=6, consumer="chat") == [429] * 2

    run(server, talk)
    assert len(server.loop.submitted) == 8


@pytest.mark.parametrize("stream", [False, True])
def test_more_tokens_than_there_is_room_for_are_refused_before_the_answer_begins(stream: bool) -> None:
    server = InProcess(limit=8, tokens=16)

    async def talk(client: httpx.AsyncClient) -> None:
        inside = [asyncio.create_task(client.post("/v1/completions", json=BODY)) for _ in range(2)]
        await server.loop.has_submitted(2)  # 6 tokens each: one in the prompt, five to make
        refused = await client.post("/v1/completions", json=BODY | {"stream": stream})
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "overloaded"
        assert "retry-after" in refused.headers
        for task in inside:
            task.cancel()

    run(server, talk)
    assert len(server.loop.submitted) == 2
    assert server.admission.tokens == 0


def test_requests_are_queued_until_a_sequence_of_theirs_starts() -> None:
    server = InProcess()

    async def talk(client: httpx.AsyncClient) -> None:
        asked = asyncio.create_task(client.post("/v1/completions", json=BODY | {"n": 3}))
        await server.loop.has_submitted(3)
        assert server.metrics.queued_requests == 1
        server.loop.submitted[1].started_at = 1.0
        assert server.metrics.queued_requests == 0
        asked.cancel()

    run(server, talk)
    assert server.metrics.queued_requests == 0


def test_the_tokens_of_one_step_go_out_in_one_write() -> None:
    server = InProcess(WHOLE)
    bodies: list[bytes] = []

    async def talk() -> None:
        incoming = iter([{"type": "http.request", "body": json.dumps(BODY | {"n": 2, "stream": True}).encode()}])

        async def receive() -> Any:
            for message in incoming:
                return message
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            bodies.append(message.get("body", b""))

        await server.app(SCOPE, receive, send)

    asyncio.run(talk())
    start, step, done = bodies
    assert (start, done) == (b"", b"data: [DONE]\n\n")
    texts = [json.loads(event.removeprefix(b"data: "))["choices"][0] for event in step.split(b"\n\n") if event]
    assert [(choice["index"], choice["text"]) for choice in texts] == [(0, "A"), (0, "B"), (1, "A"), (1, "B")]
