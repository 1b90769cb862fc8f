"""
The calls of the table of budgets, on threads: of one consumer's row one after the other, what waits going together.

So a row is written as often as calls of it follow each other on each server, however many requests there are.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from model_image.budget_rows import Reservation
from model_image.budget_table import BudgetTable, OutOfBudget
from model_image.standing import Limits, Standing

_TOGETHER = 40  # whose names fit into the 4 KB that a condition may have


@dataclass(eq=False)
class _Wish:
    """A reservation to be made, by `limits`, or one to be settled, with `used`."""

    reservation: Reservation
    limits: Limits | None = None
    enforced: bool = True
    used: int = 0
    done: "Future[Any]" = field(default_factory=Future)

    @property
    def is_plain(self) -> bool:
        """Whether it may share an update: a reservation larger than a limit never fits, and would spoil the others."""
        if self.limits is None:
            return True
        given = (self.limits.day, self.limits.month)
        return self.enforced and all(limit is None or self.reservation.tokens <= limit for limit in given)


class BudgetQueue:
    """Reserves and settles; what it hands out can be cancelled until it is begun."""

    def __init__(self, table: BudgetTable, *, threads: ThreadPoolExecutor, clock: Callable[[], float]) -> None:
        self._table = table
        self._threads = threads
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[_Wish]] = {}

    def reserve(self, asked: Reservation, limits: Limits, *, enforced: bool) -> "Future[tuple[Reservation, Standing]]":
        """As `BudgetTable.reserve`."""
        return self._put(_Wish(asked, limits, enforced))

    def settle(self, reservation: Reservation, used: int) -> "Future[Standing]":
        """As `BudgetTable.settle`."""
        return self._put(_Wish(reservation, used=used))

    def _put(self, wish: _Wish) -> "Future[Any]":
        consumer = wish.reservation.consumer
        with self._lock:
            waiting = self._waiting.get(consumer)
            if waiting is not None:  # whose call is under way, or about to be
                waiting.append(wish)
                return wish.done
            self._waiting[consumer] = deque([wish])
        self._threads.submit(self._work, consumer)
        return wish.done

    def _work(self, consumer: str) -> None:
        """One call for what waits; then other consumers have their turn."""
        with self._lock:
            waiting = self._waiting[consumer]
            wishes = [waiting.popleft() for _ in range(min(_TOGETHER, len(waiting)))]
        self._fulfil([wish for wish in wishes if wish.done.set_running_or_notify_cancel()])
        with self._lock:
            if not waiting:
                del self._waiting[consumer]
                return
        self._threads.submit(self._work, consumer)

    def _fulfil(self, wishes: Sequence[_Wish]) -> None:
        try:
            if len(wishes) < 2 or not self._all_at_once(wishes):
                self._one_by_one(wishes)
        except Exception as error:  # noqa: BLE001  (whatever it is, who waits has to be told)
            for wish in wishes:
                if not wish.done.done():
                    wish.done.set_exception(error)

    def _all_at_once(self, wishes: Sequence[_Wish]) -> bool:
        """Whether one update did it all; nothing is done where not."""
        reserving = [wish for wish in wishes if wish.limits is not None]
        months = {(wish.reservation.month, wish.reservation.day) for wish in wishes}
        limits = {wish.limits for wish in reserving}
        if len(months) > 1 or len(limits) > 1 or not all(wish.is_plain for wish in wishes):
            return False
        standing = self._table.together(
            [wish.reservation for wish in reserving],
            [(wish.reservation, wish.used) for wish in wishes if wish.limits is None],
            limits=next(iter(limits), None),
            at=self._clock(),
        )
        if standing is None:
            return False
        for wish in wishes:
            wish.done.set_result(standing if wish.limits is None else (wish.reservation, standing))
        return True

    def _one_by_one(self, wishes: Sequence[_Wish]) -> None:
        """Raises BudgetError, which then is everybody's: a table that does not answer is not asked for each of them."""
        refusal: OutOfBudget | None = None
        for wish in sorted(wishes, key=lambda each: each.limits is not None):  # first what gives back
            at, asked, limits = self._clock(), wish.reservation, wish.limits
            if limits is None:
                wish.done.set_result(self._table.settle(asked, wish.used, at=at))
                continue
            if refusal is None or not wish.enforced or refusal.standing.fits(limits, asked.tokens):
                try:
                    wish.done.set_result(self._table.reserve(asked, limits, at=at, enforced=wish.enforced))
                    continue
                except OutOfBudget as error:
                    refusal = error
            wish.done.set_exception(OutOfBudget(refusal.standing))  # as the row said a moment ago
