"""
Token budgets that hold: a request's tokens are reserved before anything is computed, and afterwards settled.

The table's calls run on threads of their own, none longer than a moment: what the table does not answer by then is an
error. Settling happens behind the answer's back, again and again until it has come through or the reservation expired.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeVar

from model_image.budget_queue import BudgetQueue
from model_image.budget_rows import Reservation, new_reservation
from model_image.budget_table import BudgetError, BudgetTable, OutOfBudget, unreachable
from model_image.standing import Limits, Standing

Result = TypeVar("Result")
Operation = Literal["reserve", "settle", "book", "read"]

_THREADS = 16
_SECONDS = 1.0  # for a connection, and for an answer
_PATIENCE = 2.0  # for a call with what was tried again and the wait for a thread
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_TRIES = 3  # to take back what most likely was never reserved
_REMEMBERED, _FRESH_SECONDS = 1024, 60.0


class Budgets:
    """The budgets of every consumer; for the event loop's thread."""

    def __init__(
        self,
        client: Any,
        *,
        table: str,
        lifetime: float,
        on_failure: Callable[[Operation, BudgetError], None] = lambda _, __: None,
        clock: Callable[[], float] = time.time,
        patience: float = _PATIENCE,
    ) -> None:
        """
        A reservation lives for `lifetime` seconds, which is longer than any request may take; a call for `patience`.

        `on_failure` is told what failed that nobody waits for.
        """
        self._table = BudgetTable(client, name=table)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="budgets")
        self._queue = BudgetQueue(self._table, threads=self._threads, clock=clock)
        self._lifetime = lifetime
        self.on_failure = on_failure
        self._clock = clock
        self._patience = patience
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: OrderedDict[str, tuple[Standing, float]] = OrderedDict()

    async def close(self, *, seconds: float) -> None:
        """Waits for what is being settled and ends the threads; what is not settled by then stays counted."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def reserve(
        self, consumer: str, limits: Limits, tokens: int, *, enforced: bool = True
    ) -> tuple[Reservation, Standing]:
        """
        Sets tokens aside; if they are not `enforced`, whatever the limits. Raises OutOfBudget and BudgetError.

        Where nobody waits any more for what then comes through after all, it is given back.
        """
        asked = new_reservation(consumer, tokens, at=self._clock(), lifetime=self._lifetime)
        call = self._queue.reserve(asked, limits, enforced=enforced)
        try:
            reservation, standing = await self._within_patience(call)
        except OutOfBudget as refusal:
            self._remember(consumer, refusal.standing)
            raise
        except (BudgetError, asyncio.CancelledError):
            self._in_background(self._take_back(call, asked))
            raise
        return reservation, self._remember(consumer, standing)

    async def settle(self, reservation: Reservation, *, used: int) -> Standing:
        """Gives back what was not used; once only. Raises BudgetError; until it is settled all of it counts as used."""
        call = self._queue.settle(reservation, used)
        return self._remember(reservation.consumer, await self._within_patience(call))

    async def standing(self, consumer: str) -> Standing:
        """What is committed now. Raises BudgetError."""
        call = self._threads.submit(self._table.standing, consumer, at=self._clock())
        return self._remember(consumer, await self._within_patience(call))

    def last_standing(self, consumer: str) -> Standing | None:
        """What was committed within the last minute, as far as this server was told."""
        standing, at = self._seen.get(consumer, (None, 0.0))
        return standing if self._clock() - at < _FRESH_SECONDS else None

    def settle_later(self, reservation: Reservation, *, used: int) -> None:
        """Settles, while whoever calls goes on; tries until the reservation has expired."""
        self._in_background(self._settle_until_done(reservation, used))

    def book_later(self, consumer: str, limits: Limits, used: int) -> None:
        """Counts tokens for which there is no reservation, beyond every limit; tries once."""
        self._in_background(self._book(consumer, limits, used))

    async def _book(self, consumer: str, limits: Limits, used: int) -> None:
        try:
            reservation, _ = await self.reserve(consumer, limits, used, enforced=False)
        except BudgetError as error:
            self.on_failure("book", error)
        else:
            await self._settle_until_done(reservation, used)

    async def _settle_until_done(self, reservation: Reservation, used: int, *, tries: float = math.inf) -> None:
        pause = _FIRST_PAUSE
        while tries > 0 and self._clock() < reservation.until:
            tries -= 1
            try:
                await self.settle(reservation, used=used)
            except BudgetError as error:
                self.on_failure("settle", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return

    async def _take_back(self, call: "Future[tuple[Reservation, Standing]]", asked: Reservation) -> None:
        """Settles what may have been reserved although its call failed, or its caller is gone."""
        if call.cancel():
            return
        try:
            asked, _ = await asyncio.wrap_future(call)
        except OutOfBudget:
            return
        except BudgetError:
            pass  # the table may have done it, and its answer was lost
        await self._settle_until_done(asked, 0, tries=_TRIES)

    async def _within_patience(self, call: "Future[Result]") -> Result:
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.wrap_future(call)
        except TimeoutError:
            raise unreachable(self._table.name, f"not within {self._patience:g} s") from None

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _remember(self, consumer: str, standing: Standing) -> Standing:
        self._seen[consumer] = (standing, self._clock())
        self._seen.move_to_end(consumer)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return standing


def dynamodb() -> Any:
    """boto3's client of DynamoDB, which gives up soon: a request waits for it."""
    import boto3  # noqa: PLC0415  (half a second that a server without budgets does not need)
    from botocore.config import Config  # noqa: PLC0415

    retries: Any = {"mode": "standard", "total_max_attempts": 2}
    return boto3.client(
        "dynamodb",
        config=Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries=retries, max_pool_connections=_THREADS),
    )
