"""A long open loop over capacity: what each request came to, and the server's memory all along."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench.harness.client import Answer, Ask, ClientError, Connection
from bench.harness.loops import run_load
from bench.harness.statistics import median

HANGING_SECONDS = 120
_REFUSALS = frozenset({429, 503})
_MOST_OPEN = 2000


@dataclass
class Soak:
    """
    Counts by outcome, seconds and MiB of the samples, and latencies of what was answered.

    Outcomes: `answered`, `refused` (429 or 503 with Retry-After), `left` (the client went away in mid-stream, as it
    was told to), `hanging` (no end within two minutes), and `lost` for everything else, with its reasons.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    seconds: float = 0.0
    client_cpu: float = 0.0

    @property
    def whole(self) -> bool:
        """No request was lost and none hung."""
        return not self.outcomes["lost"] and not self.outcomes["hanging"]

    def memory_between(self, begin: float, end: float) -> float:
        """The median MiB in a part of the run: 0 is its start, 1 its end."""
        return median([mib for at, mib in self.memory if begin <= at / self.seconds <= end])


def soak(
    port: int, asks: Iterator[Ask], *, rate: float, seconds: float, resident_mib: Callable[[], float], seed: str
) -> Soak:
    """
    Sends `rate` requests per second at random times for `seconds`, then waits for those under way.

    Raises what `resident_mib` raises, which is called once a second.
    """
    cpu = time.process_time()
    arrivals = _arrivals(rate, seconds, random.Random(f"soak {seed}"))
    found = run_load(_soak(port, asks, arrivals, resident_mib), seconds=seconds + 2 * HANGING_SECONDS)
    found.client_cpu = time.process_time() - cpu
    return found


def _arrivals(rate: float, seconds: float, rng: random.Random) -> Iterator[float]:
    at = 0.0
    while (at := at + rng.expovariate(rate)) < seconds:
        yield at


async def _soak(port: int, asks: Iterator[Ask], arrivals: Iterator[float], resident_mib: Callable[[], float]) -> Soak:
    found = Soak()
    began = time.perf_counter()
    sampling = asyncio.create_task(_sample(found, began, resident_mib))
    idle: list[Connection] = []
    running: set[asyncio.Task[None]] = set()
    for at in arrivals:
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        if sampling.done():
            sampling.result()  # raises what ended it: the server is gone
        if len(running) >= _MOST_OPEN:
            raise RuntimeError(f"{_MOST_OPEN} requests are open: the server neither answers nor refuses")
        task = asyncio.create_task(_one(found, port, next(asks), idle))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    found.seconds = time.perf_counter() - began
    sampling.cancel()
    for connection in idle:
        connection.close()
    return found


async def _sample(found: Soak, began: float, resident_mib: Callable[[], float]) -> None:
    while True:
        found.memory.append((time.perf_counter() - began, resident_mib()))
        await asyncio.sleep(1)


async def _one(found: Soak, port: int, ask: Ask, idle: list[Connection]) -> None:
    connection: Connection | None = None
    try:
        async with asyncio.timeout(HANGING_SECONDS):
            answer = None
            if idle:
                connection = idle.pop()
                answer = await connection.send_again(ask)
            if answer is None:
                connection = await Connection.open(port)
                answer = await connection.send(ask)
    except TimeoutError:
        found.outcomes["hanging"] += 1
        if connection is not None:
            connection.close()
        return
    except (ClientError, OSError) as error:
        found.outcomes["lost"] += 1
        found.reasons[str(error) or type(error).__name__] += 1
        return
    outcome = outcome_of(answer, ask)
    found.outcomes[outcome] += 1
    if outcome == "lost":
        found.reasons[answer.failure or f"{answer.tokens} tokens instead of {ask.tokens}"] += 1
    elif outcome == "answered" and ask.streams:
        found.first_tokens.append(answer.first_token)
    if connection is not None and connection.is_open:
        idle.append(connection)


def outcome_of(answer: Answer, ask: Ask) -> str:
    """What a request came to, see `Soak`."""
    if answer.left:
        return "left"
    if answer.status in _REFUSALS and answer.retry_after is not None and answer.retry_after.isdecimal():
        return "refused"
    whole = answer.status == 200 and not answer.failure and ask.tokens in {None, answer.tokens}
    return "answered" if whole else "lost"
