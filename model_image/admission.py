"""Who may come in: bounded requests and tokens, a share for every consumer, none while the server drains."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from model_image.api_errors import ApiError
from model_image.batching.caller import Caller

_RESERVED_PART = 8
_BUSY_PART = 4
_LONGEST_WAIT = 60
_HALF_LIFE_SECONDS = 60.0
_SHORTEST_MEASUREMENT = 1.0


@dataclass(frozen=True, kw_only=True)
class AdmissionLimits:
    """
    Bounds of what is inside at once: requests, and tokens that they have brought and may come to make.

    An eighth on top of each, at least one, is kept for consumers that have nothing inside.
    """

    requests: int
    tokens: int


class Shares:
    """
    One bounded thing, places or tokens, and who holds how much of it.

    A consumer alone may have all of `limit`. Once over half of it is taken, nobody comes to hold more than the limit
    divided by the consumers that hold some, so one that floods stops growing and shrinks as its requests end. What is
    kept beyond the limit lets in those that hold nothing, so a quiet consumer enters while another has taken the rest.
    Background work has half the limit, shared in the same way and only as far as interactive work leaves it free.
    Whatever comes into an empty server is let in: what is larger than the limit is served alone.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reserve = max(1, limit // _RESERVED_PART)
        self.total = 0
        self._held: dict[Caller, int] = {}

    def held(self, caller: Caller) -> int:
        """What a caller holds."""
        return self._held.get(caller, 0)

    def admits(self, caller: Caller, amount: int) -> bool:
        """Whether a caller may come to hold `amount` more."""
        if not self.total:
            return True
        limit, reserve = self._bounds(caller)
        held, after = self.held(caller), self.total + amount
        if not held:
            return after <= limit + reserve
        if 2 * after <= limit:
            return True
        active = sum(other.background == caller.background for other in self._held)
        return after <= limit and held + amount <= limit // active

    def take(self, caller: Caller, amount: int) -> None:
        """Books `amount` for a caller."""
        self.total += amount
        self._held[caller] = self.held(caller) + amount

    def give_back(self, caller: Caller, amount: int) -> None:
        """Undoes `take`."""
        self.total -= amount
        left = self.held(caller) - amount
        if left:
            self._held[caller] = left
        else:
            self._held.pop(caller, None)

    def ahead_of(self, caller: Caller, amount: int) -> int:
        """
        What is done before `amount` more of a caller under fair queueing: its own, and of others no more than as much.

        For background work all that is interactive goes before. This is the fluid model of fair queueing (Demers,
        Keshav and Shenker 1989): consumers that have less than the caller are through before it, the rest keep pace.
        """
        own = self.held(caller)
        ahead = own
        for other, held in self._held.items():
            if other.background == caller.background:
                ahead += min(held, own + amount) if other != caller else 0
            elif caller.background:
                ahead += held
        return ahead

    def _bounds(self, caller: Caller) -> tuple[int, int]:
        if not caller.background:
            return self.limit, self.reserve
        half = max(1, self.limit // 2)
        return half - half // _RESERVED_PART, half // _RESERVED_PART


class Throughput:
    """
    Tokens per second, measured over time in which the server was busy; a minute of it halves the weight of the past.

    With little to do the figure would say how much was asked, and not how much can be done.
    """

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0

    def spend(self, seconds: float) -> None:
        """Counts time in which the server was busy."""
        fade = 0.5 ** (seconds / _HALF_LIFE_SECONDS)
        self._tokens *= fade
        self._seconds = self._seconds * fade + seconds

    def finish(self, tokens: int) -> None:
        """Counts tokens of a request that ended while the server was busy."""
        self._tokens += tokens

    def seconds_for(self, tokens: int) -> float | None:
        """The time that these tokens take; None while too little was measured."""
        if self._seconds < _SHORTEST_MEASUREMENT or not self._tokens:
            return None
        return tokens * self._seconds / self._tokens


class Place:
    """One request inside, and the tokens it is charged for."""

    def __init__(self, admission: "Admission", caller: Caller, deadline: float) -> None:
        self.caller = caller
        self.deadline = deadline
        self.tokens = 0
        self._admission = admission

    def charge(self, tokens: int) -> None:
        """
        Books the tokens that this request brings and may come to make.

        The first time it raises ApiError 429 where they have no room or would begin after the deadline; what a request
        adds later is counted and never refused, since by then it has cost work.
        """
        self._admission.charge(self, tokens)


class Admission:
    """Holds the places of the server and says no: 429 where there is none for a caller, 503 while draining."""

    def __init__(self, limits: AdmissionLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._requests = Shares(limits.requests)
        self._tokens = Shares(limits.tokens)
        self._throughput = Throughput()
        self._clock = clock
        self._seen = clock()
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def inside(self) -> int:
        """Requests being served."""
        return self._requests.total

    @property
    def tokens(self) -> int:
        """Tokens they are charged for."""
        return self._tokens.total

    @property
    def draining(self) -> bool:
        """Whether new requests are refused because the process is about to end."""
        return self._draining

    @contextmanager
    def place(self, caller: Caller, *, seconds: float) -> Iterator[Place]:
        """A place for one request, which has `seconds` until its deadline. Raises ApiError: 503 draining, 429 full."""
        if self._draining:
            raise ApiError("draining", "this server is being replaced; send the request again", retry_after=1)
        self._pass_time()
        if not self._requests.admits(caller, 1):
            raise self._overloaded()
        self._requests.take(caller, 1)
        self._empty.clear()
        place = Place(self, caller, self._clock() + seconds)
        finished = False
        try:
            yield place
            finished = True
        finally:
            self._leave(place, finished=finished)

    def charge(self, place: Place, tokens: int) -> None:
        """See `Place.charge`."""
        self._pass_time()
        if not place.tokens and (not self._tokens.admits(place.caller, tokens) or self._is_too_late(place, tokens)):
            raise self._overloaded()
        self._tokens.take(place.caller, tokens)
        place.tokens += tokens

    async def drain(self, *, seconds: float) -> bool:
        """Refuses new requests and waits for those inside; False if some are left after `seconds`."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _leave(self, place: Place, *, finished: bool) -> None:
        busy = self._busy
        self._pass_time()
        if finished and busy:
            self._throughput.finish(place.tokens)
        self._requests.give_back(place.caller, 1)
        self._tokens.give_back(place.caller, place.tokens)
        if not self._requests.total:
            self._empty.set()

    @property
    def _busy(self) -> bool:
        """At a quarter of its limit, which is what the fleet aims at, the server works as fast as it can."""
        return any(_BUSY_PART * shares.total >= shares.limit for shares in (self._requests, self._tokens))

    def _pass_time(self) -> None:
        now = self._clock()
        if self._busy:
            self._throughput.spend(now - self._seen)
        self._seen = now

    def _is_too_late(self, place: Place, tokens: int) -> bool:
        """Whether a new request would still wait at its deadline; a server with room to spare makes nobody wait."""
        wait = self._throughput.seconds_for(self._tokens.ahead_of(place.caller, tokens))
        return self._busy and wait is not None and self._clock() + wait > place.deadline

    def _overloaded(self) -> ApiError:
        """The advice is the time that all work inside takes, in whole seconds from 1 to 60."""
        seconds = self._throughput.seconds_for(self._tokens.total) or 0.0
        retry_after = max(1, min(_LONGEST_WAIT, math.ceil(seconds)))
        message = "the server has no room for more requests of yours; come back after Retry-After seconds"
        return ApiError("overloaded", message, retry_after=retry_after)
