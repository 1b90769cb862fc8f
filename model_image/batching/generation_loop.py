"""The thread that drives one generative model: schedule, compute, hand out tokens, again."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from model_image.batching.scheduler import Chunk, Plan, Scheduler
from model_image.batching.sequence import Progress, ScoredToken, Sequence
from model_image.batching.turns import Turns


class StepEngine(Protocol):
    """Advances sequences; fills their regions of the cache."""

    def step(self, plan: Plan) -> list[Progress]:
        """Makes the copies, then computes every chunk; one answer per chunk, with a token where it asks for one."""


class LoopObserver(Protocol):
    """Is told what the loop does, from its thread."""

    def on_step(self, *, sequences: int, tokens: int) -> None:
        """A step is about to be computed."""

    def on_start(self, *, queue_seconds: float) -> None:
        """A sequence left the queue."""


Deliveries = list[tuple[Sequence, Progress]]
# What PyTorch raises: out of memory and the like, or an index past a table.
STEP_FAILURES = (RuntimeError, IndexError)


class GenerationLoop:
    """
    Runs the steps of one model on a thread of its own.

    What a step brought is handed to `deliver` once per step, in the loop's thread. A step that fails in PyTorch fails
    the sequences in it; any other exception is a fault of the program, ends the loop and goes to `on_crash`.
    """

    def __init__(
        self,
        *,
        name: str,
        engine: StepEngine,
        scheduler: Scheduler,
        turns: Turns,
        deliver: Callable[[Deliveries], None],
        observer: LoopObserver,
        on_failure: Callable[[BaseException], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._turns = turns
        self._deliver = deliver
        self._observer = observer
        self._on_failure = on_failure
        self._on_crash = on_crash
        self._incoming: list[Sequence] = []
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"generation-{name}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the step that runs now; unfinished sequences are dropped."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def submit(self, sequence: Sequence) -> None:
        """Queues a sequence. Raises ValueError if it can never fit the cache."""
        if sequence.most > self._scheduler.limits.cache_tokens:
            raise ValueError(f"needs {sequence.most} cache tokens of {self._scheduler.limits.cache_tokens}")
        for each in (sequence, *sequence.copies):
            each.queued_at = time.monotonic()
        with self._wake:
            self._incoming.append(sequence)
            self._wake.notify()

    def cancel(self, sequence: Sequence) -> None:
        """Has a sequence dropped before the next step; harmless once it is finished."""
        sequence.cancelled = True
        with self._wake:
            self._wake.notify()

    @property
    def running(self) -> int:
        """Sequences that advance with every step."""
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        """Sequences that have not started, with those that wait for another's prompt."""
        copies = sum(len(sequence.copies) for sequence in [*self._scheduler.running, *self._incoming])
        return len(self._scheduler.waiting) + len(self._incoming) + copies

    @property
    def cache_usage(self) -> float:
        """The part of the cache that running sequences hold, 0 to 1."""
        return self._scheduler.cache_usage

    def _run(self) -> None:
        try:
            while self._take_incoming():
                plan = self._scheduler.schedule()
                if plan.chunks:
                    self._step(plan)
        except BaseException as crash:
            self._on_crash(crash)
            raise

    def _take_incoming(self) -> bool:
        """Waits until there is something to do; False when the loop is to end."""
        with self._wake:
            idle = not self._scheduler.running and not self._scheduler.waiting
            while idle and not self._incoming and not self._stopping:
                self._wake.wait()
            for sequence in self._incoming:
                self._scheduler.add(sequence)
            self._incoming.clear()
            return not self._stopping

    def _step(self, plan: Plan) -> None:
        chunks, now = plan.chunks, time.monotonic()
        for chunk in chunks:
            if chunk.sequence.started_at is None:
                chunk.sequence.started_at = now
                self._observer.on_start(queue_seconds=now - chunk.sequence.queued_at)
        self._observer.on_step(sequences=len(chunks), tokens=sum(chunk.count for chunk in chunks))
        try:
            results = self._turns.run(lambda: self._engine.step(plan))
        except STEP_FAILURES as failure:
            self._on_failure(failure)
            deliveries = self._fail(plan)
        else:
            deliveries = [
                (chunk.sequence, self._advance(chunk, result)) for chunk, result in zip(chunks, results, strict=True)
            ]
        self._deliver([delivery for delivery in deliveries if not delivery[0].cancelled])

    def _fail(self, plan: Plan) -> Deliveries:
        """Ends every sequence whose keys may not be what they should: those that advanced, and those copied for."""
        touched = dict.fromkeys([*(chunk.sequence for chunk in plan.chunks), *plan.filled])
        # One without a region gave it up again in this very step, and will be computed from its beginning.
        failed = [sequence for sequence in touched if sequence.region is not None]
        for sequence in failed:
            self._scheduler.finish(sequence, failed=True)
        return [(sequence, Progress(finish="failed")) for sequence in failed]

    def _advance(self, chunk: Chunk, result: Progress) -> Progress:
        """Books a chunk's result and decides whether the sequence ends with it."""
        sequence = chunk.sequence
        sequence.computed += chunk.count
        if result.finish is None and result.token is not None:
            result = _with_end(sequence, result, result.token)
        if result.finish is not None:
            self._scheduler.finish(sequence)
        elif chunk.samples:
            self._scheduler.start_copies(sequence)
        return result


def _with_end(sequence: Sequence, result: Progress, scored: ScoredToken) -> Progress:
    if sequence.max_new_tokens == 0:
        return Progress(prompt_scores=result.prompt_scores, finish="length")
    sequence.generated.append(scored.token)
    if scored.token in sequence.stop_tokens:
        return Progress(token=scored, prompt_scores=result.prompt_scores, finish="stop")
    if len(sequence.generated) == sequence.max_new_tokens:
        return Progress(token=scored, prompt_scores=result.prompt_scores, finish="length")
    return result
