"""Who may come in: a bounded number of requests at once, none while the server drains."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from model_image.api_errors import ApiError

_MEMORY = 64
_LONGEST_WAIT = 60


class Admission:
    """
    Counts the requests inside and refuses what is over `limit`.

    The advice when to come back is the time that one place takes to become free, from the last requests that ended.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._draining = False
        self._ends: deque[float] = deque(maxlen=_MEMORY)
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def inside(self) -> int:
        """Requests being served."""
        return self._inside

    @property
    def draining(self) -> bool:
        """Whether new requests are refused because the process is about to end."""
        return self._draining

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place for one request. Raises ApiError: 503 while draining, 429 when full."""
        if self._draining:
            raise ApiError("draining", "this server is being replaced; send the request again", retry_after=1)
        if self._inside >= self._limit:
            raise ApiError("overloaded", "the server is at its limit; come back later", retry_after=self._retry_after())
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            self._ends.append(time.monotonic())
            if self._inside == 0:
                self._empty.set()

    async def drain(self, *, seconds: float) -> bool:
        """Refuses new requests and waits for those inside; False if some are left after `seconds`."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _retry_after(self) -> int:
        """Whole seconds, 1 to 60."""
        if len(self._ends) < 2:
            return 1
        per_place = (time.monotonic() - self._ends[0]) / len(self._ends)
        return max(1, min(_LONGEST_WAIT, math.ceil(per_place)))
