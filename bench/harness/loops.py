"""Closed loops (as many requests in flight as clients) and open loops (requests come when they come)."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import uvloop

from bench.harness.client import Answer, Ask, ClientError, Connection
from model_image.errors import Interrupted

_GIVE_UP_SECONDS = 600
Found = TypeVar("Found")


@dataclass(frozen=True)
class Run:
    """All answers of one load, the seconds it took, and the seconds of CPU that the client itself used."""

    answers: tuple[Answer, ...]
    seconds: float
    client_cpu: float

    @property
    def good(self) -> list[Answer]:
        """The answers that are whole."""
        return [answer for answer in self.answers if not answer.failure]

    def steady_rate(self, clients: int) -> float:
        """Answers per second as long as there was work for all clients: the last ones run with fewer and fewer."""
        ends = sorted(answer.ended for answer in self.answers)
        count = len(ends) - clients
        return count / (ends[count - 1] - min(answer.sent for answer in self.answers))

    @property
    def failures(self) -> list[str]:
        """Why the others are not."""
        return [answer.failure for answer in self.answers if answer.failure]


def closed_loop(port: int, asks: Sequence[Ask], *, clients: int, stop_after: float = _GIVE_UP_SECONDS) -> Run:
    """
    Sends all requests, `clients` at a time; each client sends its next one as soon as it has its answer.

    After `stop_after` seconds no more are sent; those under way are waited for.
    """
    return _run(_closed_loop(port, asks, clients, stop_after))


def open_loop(port: int, asks: Sequence[Ask], arrivals: Sequence[float]) -> Run:
    """Sends each request at its time, whatever has become of those before."""
    return _run(_open_loop(port, asks, arrivals))


def run_load(load: Awaitable[Found], *, seconds: float) -> Found:
    """Runs a load in an event loop of its own, for `seconds` at most. Raises Interrupted, TimeoutError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_bounded(load, seconds))


def _run(load: Awaitable[list[Answer]]) -> Run:
    cpu, began = time.process_time(), time.perf_counter()
    answers = run_load(load, seconds=2 * _GIVE_UP_SECONDS)
    ended = max((answer.ended for answer in answers), default=time.perf_counter())
    return Run(tuple(answers), ended - began, time.process_time() - cpu)


async def _bounded(load: Awaitable[Found], seconds: float) -> Found:
    """Ends with Interrupted at SIGINT and SIGTERM: an exception of a handler would be lost in the event loop."""
    event_loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        task.cancel()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        event_loop.add_signal_handler(number, stop, number)
    try:
        async with asyncio.timeout(seconds):
            return await load
    except asyncio.CancelledError:
        if received:
            raise Interrupted(received[0]) from None
        raise
    finally:
        for number, handler in before.items():
            event_loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def _closed_loop(port: int, asks: Sequence[Ask], clients: int, stop_after: float) -> list[Answer]:
    waiting = iter(asks)
    deadline = time.perf_counter() + stop_after
    answers: list[Answer] = []

    async def client() -> None:
        connection: Connection | None = None
        for ask in waiting:
            if time.perf_counter() > deadline:
                break
            connection, answer = await _send(port, connection, ask)
            answers.append(answer)
        if connection is not None:
            connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


async def _open_loop(port: int, asks: Sequence[Ask], arrivals: Sequence[float]) -> list[Answer]:
    began = time.perf_counter()
    idle: list[Connection] = []

    async def one(ask: Ask, at: float) -> Answer:
        await asyncio.sleep(began + at - time.perf_counter())
        connection, answer = await _send(port, idle.pop() if idle else None, ask)
        if connection is not None:
            idle.append(connection)
        return answer

    answers = await asyncio.gather(*(one(ask, at) for ask, at in zip(asks, arrivals, strict=True)))
    for connection in idle:
        connection.close()
    return list(answers)


async def _send(port: int, connection: Connection | None, ask: Ask) -> tuple[Connection | None, Answer]:
    """The connection to go on with and the answer; a broken connection becomes an answer that says so."""
    sent = time.perf_counter()
    try:
        answer = None
        if connection is not None and connection.is_open:
            answer = await connection.send_again(ask)
        if answer is None:
            connection = await Connection.open(port)
            answer = await connection.send(ask)
    except (ClientError, OSError) as error:
        return None, Answer(sent, ended=time.perf_counter(), failure=str(error) or type(error).__name__)
    if not answer.failure and not answer.left and ask.tokens is not None and answer.tokens != ask.tokens:
        answer.failure = f"{answer.tokens} tokens instead of {ask.tokens}"
    return connection, answer


def try_once(port: int, ask: Ask) -> Answer:
    """One request on a connection of its own."""
    return _run(_closed_loop(port, [ask], 1, _GIVE_UP_SECONDS)).answers[0]
