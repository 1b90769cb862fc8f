"""The thread that drives one encoder: takes what waits, forms a batch, computes it, answers."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from model_image.batching.encoder_batches import BatchLimits, form_batch
from model_image.batching.turns import Turns

Result = TypeVar("Result")
Vector = npt.NDArray[np.float32]


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


@dataclass(eq=False)
class _Entry(Generic[Result]):
    item: EncoderInput
    future: Future[Result] = field(default_factory=Future)


class EncoderLoop(Generic[Result]):
    """
    Runs the batches of one encoder on a thread of its own.

    Cancelled futures are dropped before they are computed. A batch that fails with RuntimeError (torch's, such as out
    of memory) fails its texts; any other exception ends the loop and goes to `on_crash`.
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
        self._waiting: list[_Entry[Result]] = []
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

    def submit(self, items: Sequence[EncoderInput]) -> list[Future[Result]]:
        """Queues texts; each has its own future and may travel in a batch of its own."""
        entries = [_Entry[Result](item) for item in items]
        with self._wake:
            self._waiting.extend(entries)
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
                self._waiting = [entry for entry in self._waiting if not entry.future.cancelled()]
                if self._waiting:
                    break
                self._wake.wait()
            places = form_batch([len(entry.item.tokens) for entry in self._waiting], self._limits)
            chosen = [self._waiting[place] for place in places]
            taken = set(places)
            self._waiting = [entry for place, entry in enumerate(self._waiting) if place not in taken]
        return [entry for entry in chosen if entry.future.set_running_or_notify_cancel()] or self._next_batch()

    def _compute(self, batch: list[_Entry[Result]]) -> None:
        items = [entry.item for entry in batch]
        self._computing = len(items)
        self._observer.on_step(sequences=len(items), tokens=sum(len(item.tokens) for item in items))
        try:
            results = self._turns.run(lambda: self._engine.run(items))
        except RuntimeError as failure:
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
