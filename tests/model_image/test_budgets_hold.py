"""64 clients at once, on servers of which some die: no more is delivered than a budget has, and hardly less."""

import asyncio
import json
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_image.batching.sequence import Progress, ScoredToken, Sequence
from model_image.budgets import Budgets
from tests.model_image.budget_stand import (
    LIFETIME,
    TABLE,
    Clock,
    Mortal,
    Serial,
    a_table,
    open_reservations,
)
from tests.model_image.in_process import BODY, InProcess
from tests.model_image.test_app import SCOPE

CLIENTS = 64
LETTER = Progress(token=ScoredToken(65))


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Serial]:
    with a_table() as table:
        yield table


class Writer:
    """A generation loop that writes every text to an end of its own, a few tokens at a time."""

    cache_usage = 0.0
    running = waiting = 0

    def __init__(self, luck: random.Random) -> None:
        self._luck = luck
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, sequence: Sequence) -> None:
        task = asyncio.get_running_loop().create_task(self._write(sequence))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self, sequence: Sequence) -> None:
        sequence.cancelled = True

    async def _write(self, sequence: Sequence) -> None:
        length = self._luck.randint(1, sequence.max_new_tokens)
        for place in range(length):
            if place % 32 == 0:
                await asyncio.sleep(self._luck.random() / 500)
            if sequence.cancelled:
                return
            sequence.on_progress(LETTER if place + 1 < length else Progress(token=ScoredToken(65), finish="length"))


class Host:
    """A server that can be killed: its requests end at once, and it tells the table nothing more."""

    def __init__(self, table: Serial, clock: Clock, luck: random.Random) -> None:
        self.way = Mortal(table)
        budgets = Budgets(self.way, table=TABLE, lifetime=LIFETIME, clock=clock, patience=60)
        self.server = InProcess(generation=Writer(luck), limit=1000, tokens=10**9, context=1000, budgets=budgets)
        self.requests: set[asyncio.Task[None]] = set()

    def kill(self) -> None:
        self.way.dead = True
        for request in self.requests:
            request.cancel()

    async def close(self) -> None:
        assert self.server.budgets is not None
        await self.server.budgets.close(seconds=0 if self.way.dead else 30)


class Answer:
    """What a client has seen of an answer: its status, and the tokens that came."""

    def __init__(self) -> None:
        self.status = 0
        self.tokens = 0

    async def take(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        if self.status == 200:
            for event in message["body"].split(b"\n\n"):
                if event.startswith(b"data: {"):
                    self.tokens += len(json.loads(event.removeprefix(b"data: "))["choices"][0]["text"])


async def ask(host: Host, consumer: str, *, limit: int, tokens: int) -> Answer:
    """A streamed request that may take so many tokens, one of them the prompt's."""
    answer = Answer()
    body = json.dumps(BODY | {"max_tokens": tokens - 1, "stream": True}).encode()
    incoming = [{"type": "http.request", "body": body}]
    given = {"x-modelkeep-consumer": consumer, "x-modelkeep-tokens-per-day": str(limit)}
    headers = [(name.encode(), value.encode()) for name, value in given.items()]

    async def receive() -> Any:
        return incoming.pop() if incoming else await asyncio.Event().wait()

    scope = SCOPE | {"headers": [*SCOPE["headers"], *headers]}
    request = asyncio.create_task(host.server.app(scope, receive, answer.take))
    host.requests.add(request)
    await asyncio.wait([request])
    host.requests.discard(request)
    return answer


@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 3))
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_64_parallel_clients_never_pass_the_limit_and_come_within_one_request_of_it(
    dynamodb: Serial, seed: int, deaths: int
) -> None:
    asyncio.run(parallel(dynamodb, random.Random(seed), limit=10_000, biggest=400, deaths=deaths))


async def parallel(table: Serial, luck: random.Random, *, limit: int, biggest: int, deaths: int) -> None:
    clock, consumer = Clock(), f"team-{uuid.uuid4()}"
    hosts = [Host(table, clock, luck) for _ in range(2 + deaths)]
    alive = list(hosts)
    delivered = 0
    ended: Counter[int] = Counter()

    async def client() -> None:
        nonlocal delivered
        status = 0
        while status != 429:
            tokens = luck.randint(2, biggest)
            answer = await ask(luck.choice(alive), consumer, limit=limit, tokens=tokens)
            status = answer.status
            delivered += answer.tokens + (1 if status == 200 else 0)
            ended[status] += 1

    async def murderer() -> None:
        for _ in range(deaths):
            await asyncio.sleep(luck.random() / 2)
            alive.pop().kill()

    await asyncio.gather(murderer(), *(client() for _ in range(CLIENTS)))
    # One by one until nothing more fits: what is left then is less than one request.
    while True:
        answer = await ask(alive[0], consumer, limit=limit, tokens=biggest)
        if answer.status == 429:
            break
        delivered += answer.tokens + 1
    for host in hosts:
        await host.close()
    assert ended[200] > CLIENTS // 2
    assert ended[429] == CLIENTS

    row = table.row(consumer)
    committed = int(row["used_day"])
    assert delivered <= committed <= limit
    assert committed > limit - biggest
    lost = open_reservations(row)
    if not deaths:
        assert (delivered, lost) == (committed, [])

    # What dead servers had reserved is all that was not delivered, and it is forgotten after its time.
    reserved = sum(int(row[name]["n"]["N"]) for name in lost)
    assert committed - reserved <= delivered
    clock.now += LIFETIME + 1
    host = Host(table, clock, luck)
    for _ in range(1 + len(lost) // 16):
        await ask(host, consumer, limit=limit * 2, tokens=2)
    await host.close()
    row = table.row(consumer)
    assert open_reservations(row) == []
    assert int(row.get("lost_month", 0)) == reserved
