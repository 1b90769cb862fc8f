"""A server in the test's own process, over a loop that answers what the test says."""

import asyncio
import io
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx

from model_image.admission import Admission, AdmissionLimits
from model_image.allowance import Failures, Guard
from model_image.app import ModelServer
from model_image.batching import sequence as batching
from model_image.batching.sequence import Progress, ScoredToken
from model_image.budgets import Budgets
from model_image.metrics import Metrics
from model_image.registry import Registry, ServedModel
from model_image.request_log import JsonLog
from model_image.usage import UsageRecords
from model_image.vocabulary import Encoded

MARKER = "Zmarkertext"
BODY = {"model": "m", "prompt": "a", "max_tokens": 5}
ONE_TOKEN = (Progress(token=ScoredToken(65)),)
WHOLE = (Progress(token=ScoredToken(65)), Progress(token=ScoredToken(66), finish="length"))


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


class ScriptedLoop:
    """A loop that brings every sequence the same progress at once, and then nothing."""

    def __init__(self, script: Sequence[Progress]) -> None:
        self.script = script
        self.submitted: list[batching.Sequence] = []
        self.cancelled: list[batching.Sequence] = []
        self.running = self.waiting = 0
        self.cache_usage = 0.0
        self._arrived = asyncio.Event()

    def submit(self, sequence: batching.Sequence) -> None:
        self.submitted.append(sequence)
        for progress in self.script:
            sequence.on_progress(progress)
        self._arrived.set()

    async def has_submitted(self, count: int) -> None:
        while len(self.submitted) < count:
            await self.arrival()

    async def arrival(self) -> None:
        await self._arrived.wait()
        self._arrived.clear()

    def cancel(self, sequence: batching.Sequence) -> None:
        self.cancelled.append(sequence)


class InProcess:
    """The application with one model `m`, over `generation` or a scripted loop, by default of answers without end."""

    def __init__(
        self,
        script: Sequence[Progress] = ONE_TOKEN,
        *,
        limit: int = 4,
        tokens: int = 1000,
        timeout_seconds: float = 60,
        tracer: Any = None,
        generation: Any = None,
        context: int = 100,
        budgets: Budgets | None = None,
        fails_open: bool = False,
        firehose: Any = None,
    ) -> None:
        self.output = io.StringIO()
        self.loop = ScriptedLoop(script)
        loop: Any = generation or self.loop
        tokenizer: Any = Letters()
        self.registry = Registry()
        self.registry.add(
            ServedModel(
                name="m",
                version="1",
                tasks=("completions",),
                created=0,
                context_length=context,
                vocabulary=128,
                tokenizer=tokenizer,
                stop_tokens=frozenset(),
                labels=(),
                generation=loop,
            )
        )
        self.registry.ready = True
        self.admission = Admission(AdmissionLimits(requests=limit, tokens=tokens))
        self.metrics = Metrics()
        log = JsonLog(self.output)
        self.budgets = budgets
        if budgets is not None:
            budgets.on_failure = Failures(self.metrics, log, fails_open=fails_open)
        self.usage = None if firehose is None else UsageRecords(firehose, stream="u", metrics=self.metrics, log=log)
        self.app = ModelServer(
            registry=self.registry,
            admission=self.admission,
            metrics=self.metrics,
            log=log,
            body_limit=10_000,
            timeout_seconds=timeout_seconds,
            tracer=tracer,
            guard=None if budgets is None else Guard(budgets, fails_open=fails_open),
            usage=self.usage,
        )

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.getvalue().splitlines()]


def run(server: InProcess, talk: Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=60) as client:
            await talk(client)

    asyncio.run(whole())
