"""The application around a model that never answers, or breaks: limits, deadlines, faults."""

import asyncio
import io
import json
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from model_image.admission import Admission
from model_image.app import ModelServer
from model_image.batching.sequence import Progress, ScoredToken, Sequence
from model_image.metrics import Metrics
from model_image.registry import Registry, ServedModel
from model_image.request_log import JsonLog
from model_image.vocabulary import Encoded

MARKER = "Zmarkertext"
BODY = {"model": "m", "prompt": "a", "max_tokens": 5}


class Letters:
    """A vocabulary of ASCII; breaks on the marker, as a fault nobody foresaw would."""

    is_byte_level = True
    special_tokens: frozenset[int] = frozenset()
    mask_token = None
    mask_token_id = None
    has_chat_template = False

    def encode(self, text: str) -> Encoded:
        if text == MARKER:
            raise ArithmeticError(text)
        return Encoded(list(text.encode()), [])

    def token_bytes(self, token: int) -> bytes:
        return bytes([token])


class Hanging:
    """A loop that brings one token and then nothing."""

    def __init__(self) -> None:
        self.submitted: list[Sequence] = []
        self.cancelled: list[Sequence] = []
        self.running = self.waiting = 0
        self.cache_usage = 0.0
        self._arrived = asyncio.Event()

    def submit(self, sequence: Sequence) -> None:
        self.submitted.append(sequence)
        sequence.on_progress(Progress(token=ScoredToken(65)))
        self._arrived.set()

    async def has_submitted(self, count: int) -> None:
        while len(self.submitted) < count:
            await self._arrived.wait()
            self._arrived.clear()

    def cancel(self, sequence: Sequence) -> None:
        self.cancelled.append(sequence)


class Setting:
    """A server in this process."""

    def __init__(self, *, limit: int = 4, timeout_seconds: float = 60) -> None:
        self.output = io.StringIO()
        self.loop = Hanging()
        loop: Any = self.loop
        tokenizer: Any = Letters()
        self.registry = Registry()
        self.registry.add(
            ServedModel(
                name="m",
                version="1",
                tasks=("completions",),
                created=0,
                context_length=100,
                vocabulary=128,
                tokenizer=tokenizer,
                stop_tokens=frozenset(),
                labels=(),
                generation=loop,
            )
        )
        self.registry.ready = True
        self.app = ModelServer(
            registry=self.registry,
            admission=Admission(limit=limit),
            metrics=Metrics(),
            log=JsonLog(self.output),
            body_limit=10_000,
            timeout_seconds=timeout_seconds,
        )

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.getvalue().splitlines()]


def run(setting: Setting, talk: Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        transport = httpx.ASGITransport(setting.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=60) as client:
            await talk(client)

    asyncio.run(whole())


@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_of_the_server_tells_nothing(stream: bool) -> None:
    setting = Setting()

    async def talk(client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/completions", json=BODY | {"prompt": MARKER, "stream": stream})
        assert response.status_code == 500
        assert response.json()["error"] == {
            "message": "the server failed on this request",
            "type": "server_error",
            "param": None,
            "code": "internal_error",
        }

    run(setting, talk)
    assert MARKER not in setting.output.getvalue()
    assert [entry.get("exception") for entry in setting.logged] == ["ArithmeticError", None]
    assert setting.logged[0]["request_id"] == setting.logged[1]["request_id"]


def test_over_its_limit_the_server_refuses_with_advice() -> None:
    setting = Setting(limit=2)

    async def talk(client: httpx.AsyncClient) -> None:
        inside = [asyncio.create_task(client.post("/v1/completions", json=BODY)) for _ in range(2)]
        await setting.loop.has_submitted(2)
        refused = await client.post("/v1/completions", json=BODY)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "overloaded"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert (await client.get("/ready")).status_code == 200
        for task in inside:
            task.cancel()

    run(setting, talk)
    assert len(setting.loop.submitted) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_takes_too_long_ends(stream: bool) -> None:
    setting = Setting(timeout_seconds=0.05)

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

    run(setting, talk)
    assert setting.loop.cancelled == setting.loop.submitted
    assert setting.logged[0]["code"] == "timeout"


def test_before_it_is_ready_it_says_so() -> None:
    setting = Setting()
    setting.registry.ready = False

    async def talk(client: httpx.AsyncClient) -> None:
        for response in (await client.post("/v1/completions", json=BODY), await client.get("/v1/models")):
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "not_ready"
            assert response.headers["retry-after"] == "2"
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).json() == {"status": "loading"}

    run(setting, talk)


def test_a_client_that_leaves_takes_its_sequences_out_at_once() -> None:
    setting = Setting()
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
            if len(sent) == 4:
                streaming.set()

        scope = {
            "type": "http", "method": "POST", "path": "/v1/completions", "raw_path": b"/v1/completions",
            "query_string": b"", "headers": [(b"content-type", b"application/json")], "root_path": "",
        }  # fmt: skip
        serving = asyncio.create_task(setting.app(scope, receive, send))
        await streaming.wait()
        left.set()
        await serving

    asyncio.run(talk())
    assert setting.loop.cancelled == setting.loop.submitted
    assert len(setting.loop.cancelled) == 3
    assert (setting.logged[-1]["status"], setting.logged[-1]["code"]) == (499, "client_left")
