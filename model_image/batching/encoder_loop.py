"""The thread that drives one encoder: takes what waits, forms a batch, computes it, answers."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from model_image.batching.caller import Caller
from model_image.batching.encoder_batches import BatchLimits, next_batch
from model_image.batching.fair_queue import FairQueue
from model_image.batching.turns import Turns

Result = TypeVar("Result")
Vector = npt.NDArray[np.float32]
_ITSELF = Caller()


@dataclass(frozen=True)
class EncoderInput:
    """One text as token ids; `places` are those whose token candidates a masked language model is asked for."""

    tokens: list[int]
    places: tuple[int, ...] = ()


@dataclass(frozen=True)
class Candidates:
    """The likeliest tokens for one place, best first: ids and probabilities."""

    tokens: list[int]
    probabilities: list[float]


class BatchEngine(Protocol[Result]):
    """Computes a batch of texts of unlike lengths."""

    def run(self, batch: Sequence[EncoderInput]) -> list[Result]:
        """One result per input, the same whatever else is in the batch."""


class BatchObserver(Protocol):
    """Is told of every batch, from the loop's thread."""

    def on_step(self, *, sequences: int, tokens: int) -> None:
        """A batch is about to be computed; `tokens` counts no padding."""

    def on_start(self, *, queue_seconds: float) -> None:
        """A text left the queue."""


@dataclass(eq=False)
class _Entry(Generic[Result]):
    item: EncoderInput
    future: Future[Result] = field(default_factory=Future)
    queued_at: float = field(default_factory=time.monotonic)

    def __len__(self) -> int:
        return len(self.item.tokens)


class EncoderLoop(Generic[Result]):
    """
    Runs the batches of one encoder on a thread of its own.

    Whose turn it is decides the fair queue. Cancelled futures are dropped before they are computed. A batch that fails
    with RuntimeError (torch's, such as out of memory) fails its texts; any other exception ends the loop and goes to
    `on_crash`.
    """

    def __init__(
        self,
        *,
        name: str,
        engine: BatchEngine[Result],
        limits: BatchLimits,
        turns: Turns,
        observer: BatchObserver,
        on_failure: Callable[[BaseException], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._turns = turns
        self._observer = observer
        self._on_failure = on_failure
        self._on_crash = on_crash
        self._waiting: FairQueue[_Entry[Result]] = FairQueue()
        self._wake = threading.Condition()
        self._stopping = False
        self._computing = 0
        self._thread = threading.Thread(target=self._run, name=f"encoder-{name}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the batch that runs now; what waits is cancelled."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()
        for entry in self._waiting:
            entry.future.cancel()

    def submit(self, items: Sequence[EncoderInput], caller: Caller = _ITSELF) -> list[Future[Result]]:
        """Queues texts of a caller (the server's own if none is named); each may travel in a batch of its own."""
        entries = [_Entry[Result](item) for item in items]
        with self._wake:
            for entry in entries:
                self._waiting.add(entry, caller=caller, cost=max(1, len(entry)))
            self._wake.notify()
        return [entry.future for entry in entries]

    @property
    def running(self) -> int:
        """Texts in the batch that is computed now."""
        return self._computing

    @property
    def waiting(self) -> int:
        """Texts in the queue."""
        return len(self._waiting)

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._compute(batch)
        except BaseException as crash:
            self._on_crash(crash)
            raise

    def _next_batch(self) -> list[_Entry[Result]]:
        """Waits for work; an empty list when the loop is to end."""
        with self._wake:
            while True:
                if self._stopping:
                    return []
                self._waiting.discard(lambda entry: entry.future.cancelled())
                if len(self._waiting):
                    break
                self._wake.wait()
            chosen = next_batch(self._waiting, self._limits)
        return [entry for entry in chosen if entry.future.set_running_or_notify_cancel()] or self._next_batch()

    def _compute(self, batch: list[_Entry[Result]]) -> None:
        items = [entry.item for entry in batch]
        self._computing = len(items)
        now = time.monotonic()
        for entry in batch:
            self._observer.on_start(queue_seconds=now - entry.queued_at)
        self._observer.on_step(sequences=len(items), tokens=sum(len(item.tokens) for item in items))
        try:
            results = self._turns.run(lambda: self._engine.run(items))
        except (RuntimeError, IndexError) as failure:
            self._on_failure(failure)
            for entry in batch:
                entry.future.set_exception(BatchFailed())
        else:
            for entry, result in zip(batch, results, strict=True):
                entry.future.set_result(result)
        finally:
            self._computing = 0


class BatchFailed(Exception):  # noqa: N818  (says what happened, not what kind of fault it was)
    """The batch a text was in could not be computed; the reason went to `on_failure`."""
