"""Prometheus metrics, and the same in short for CloudWatch; no label holds anything a user sent."""

import collections
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from model_image.batching.caller import Caller

Stage = Literal["parse", "tokenise", "reserve", "queue", "prefill", "decode", "encode", "write"]

_PER_TASK = ("model_name", "task")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
_STAGE_SECONDS = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 900.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_TOKENS = (1, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class Load:
    """How busy one model is: requests computing and waiting, and the part of its cache that is set aside."""

    model: str
    running: int
    waiting: int
    cache_usage: float | None


class Metrics:
    """Every metric of one server process, under the names that dashboards and alarms rely on."""

    def __init__(self) -> None:
        without_created: Any = disable_created_metrics
        without_created()
        self.registry = CollectorRegistry()
        self.time_to_first_token = self._histogram("time_to_first_token_seconds", "From arrival to the first token")
        self.inter_token_latency = self._histogram("inter_token_latency_seconds", "Between two tokens of a choice")
        self.e2e_latency = self._histogram("e2e_request_latency_seconds", "From arrival to the end of the answer")
        self.stage_time = self._histogram(
            "request_stage_seconds", "What a request spent its time on", "stage", buckets=_STAGE_SECONDS
        )
        self.queue_time = self._histogram(
            "request_queue_time_seconds", "From queueing to the first step", per_task=False
        )
        self.batch_size = self._histogram("batch_size", "Texts in one step", buckets=_SIZES, per_task=False)
        self.batch_tokens = self._histogram("batch_tokens", "Tokens in one step", buckets=_TOKENS, per_task=False)
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens read")
        self.generation_tokens = self._counter("generation_tokens", "Tokens made")
        self.request_success = self._counter("request_success", "Answered requests", "finished_reason")
        self.request_failure = self._counter("request_failure", "Requests that got an error", "code")
        self.budget_failures = Counter(
            "modelkeep_budget_failures",
            "Calls of the table of token budgets that failed",
            ["operation", "mode"],
            registry=self.registry,
        )
        self.usage_records = Counter("modelkeep_usage_records", "Usage records sent", registry=self.registry)
        self.usage_records_lost = Counter(
            "modelkeep_usage_records_lost", "Usage records that were not sent", ["reason"], registry=self.registry
        )
        self.model_load = Gauge(
            "modelkeep_model_load_seconds", "Fetch, load and first inference", ["model_name"], registry=self.registry
        )
        self.weights_digest = Gauge(
            "modelkeep_weights_digest_info", "SHA-256 of the weights", ["model_name", "digest"], registry=self.registry
        )
        self._of_task: dict[tuple[str, str], TaskMetrics] = {}
        self._waiting: dict[object, Callable[[], bool]] = {}
        self._tokens_made = 0

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS, per_task: bool = True
    ) -> Histogram:
        names = (*(_PER_TASK if per_task else _PER_TASK[:1]), *labels)
        return Histogram(f"modelkeep_{name}", text, names, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"modelkeep_{name}", text, (*_PER_TASK, *labels), registry=self.registry)

    def watch(self, loads: Callable[[], Iterable[Load]]) -> None:
        """Has the current load of every model read when the metrics are."""
        self.registry.register(_LoadCollector(loads))

    def meter(
        self,
        *,
        model: str,
        task: str,
        version: str = "",
        streamed: bool = False,
        caller: Caller | None = None,
        started: float | None = None,
        charge: Callable[[int], None] | None = None,
        reserve: Callable[[int], Awaitable[None]] | None = None,
    ) -> "Meter":
        """
        The metrics of one request of a loaded model, which arrived at `started` of time.monotonic(), now if None.

        `charge` is told the tokens that it may come to cost, and raises ApiError where there is no room for them;
        `reserve` sets so many aside for the request as a whole, and raises ApiError where its consumer has none left.
        """
        return Meter(
            self,
            model,
            task,
            version=version,
            streamed=streamed,
            caller=caller,
            started=started,
            charge=charge,
            reserve=reserve,
        )

    def of_task(self, model: str, task: str) -> "TaskMetrics":
        """The metrics of one model and task."""
        found = self._of_task.get((model, task))
        if found is None:
            found = self._of_task[model, task] = TaskMetrics(self, model, task)
        return found

    def observer(self, model: str) -> "StepObserver":
        """What the loops of one model report to."""
        return StepObserver(self, model)

    @contextmanager
    def queued(self, waits: Callable[[], bool]) -> Iterator[None]:
        """Counts a request among `queued_requests` inside the context for as long as `waits` is true."""
        key = object()
        self._waiting[key] = waits
        try:
            yield
        finally:
            del self._waiting[key]

    @property
    def queued_requests(self) -> int:
        """Requests of which no text has left its queue yet."""
        return sum(waits() for waits in self._waiting.values())

    def count_tokens_made(self, tokens: int) -> None:
        """Adds to what `take_tokens_made` returns."""
        self._tokens_made += tokens

    def take_tokens_made(self) -> int:
        """Tokens made since the last call."""
        made, self._tokens_made = self._tokens_made, 0
        return made

    def failures(self) -> dict[str, float]:
        """What failed that no request says, so far, by its name in CloudWatch."""
        return {"BudgetFailures": _total(self.budget_failures), "UsageRecordsLost": _total(self.usage_records_lost)}

    def render(self) -> bytes:
        """The text of /metrics."""
        return generate_latest(self.registry)


class TaskMetrics:
    """The metrics of one model and task, looked up once: a look-up by labels costs more than the counting."""

    def __init__(self, metrics: Metrics, model: str, task: str) -> None:
        self.first_token = metrics.time_to_first_token.labels(model, task)
        self.inter_token = metrics.inter_token_latency.labels(model, task)
        self.e2e = metrics.e2e_latency.labels(model, task)
        self.prompt_tokens = metrics.prompt_tokens.labels(model, task)
        self.generation_tokens = metrics.generation_tokens.labels(model, task)
        self.stages = {stage: metrics.stage_time.labels(model, task, stage) for stage in get_args(Stage)}
        self.labels = (model, task)


class StepObserver:
    """Counts the steps of one model's loop."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._size = metrics.batch_size.labels(model)
        self._tokens = metrics.batch_tokens.labels(model)
        self._queue = metrics.queue_time.labels(model)

    def on_step(self, *, sequences: int, tokens: int) -> None:
        """A step begins."""
        self._size.observe(sequences)
        self._tokens.observe(tokens)

    def on_start(self, *, queue_seconds: float) -> None:
        """A text left the queue."""
        self._queue.observe(queue_seconds)


class Meter:
    """What one request costs, counted while it is served, and on whose behalf; for the event loop's thread only."""

    def __init__(
        self,
        metrics: Metrics,
        model: str,
        task: str,
        *,
        version: str = "",
        streamed: bool = False,
        caller: Caller | None = None,
        started: float | None = None,
        charge: Callable[[int], None] | None = None,
        reserve: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._metrics = metrics
        self._bound = metrics.of_task(model, task)
        self._charge = charge
        self._reserve = reserve
        self._last: dict[int, float] = {}
        self.started = time.monotonic() if started is None else started
        self.model = model
        self.version = version
        self.task = task
        self.streamed = streamed
        self.caller = caller or Caller()
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.first_token_seconds: float | None = None
        self.stages: list[tuple[Stage, float, float]] = []

    def charge(self, tokens: int) -> None:
        """Tells what the request may come to cost, before anything of it is computed. Raises ApiError 429."""
        if self._charge is not None:
            self._charge(tokens)

    async def reserve(self, tokens: int) -> None:
        """
        Sets aside what is about to be counted, in the budget of a consumer that has one.

        Raises ApiError: 429 where that is used up, 503 where nobody knows.
        """
        if self._reserve is not None:
            began = time.monotonic()
            await self._reserve(self.total_tokens + tokens)
            self.stage("reserve", began, time.monotonic())

    @property
    def total_tokens(self) -> int:
        """What was counted so far."""
        return self.prompt_tokens + self.generation_tokens

    def read(self, tokens: int) -> None:
        """Counts prompt tokens."""
        self.prompt_tokens += tokens
        self._bound.prompt_tokens.inc(tokens)

    def made(self, choices: Iterable[int]) -> float:
        """
        Counts tokens that came together, one for each time a choice is named, and returns the time.monotonic() of it.

        They are those of one step, or of several while the client was slow to read: a choice's tokens then share the
        time since its last one evenly. What comes along with the first token of a choice has no time to share.
        """
        now = time.monotonic()
        if self.first_token_seconds is None:
            self.first_token_seconds = now - self.started
            self._bound.first_token.observe(self.first_token_seconds)
        counts = collections.Counter(choices)
        for choice, count in counts.items():
            if choice in self._last:
                for _ in range(count):
                    self._bound.inter_token.observe((now - self._last[choice]) / count)
            self._last[choice] = now
        tokens = counts.total()
        self.generation_tokens += tokens
        self._bound.generation_tokens.inc(tokens)
        self._metrics.count_tokens_made(tokens)
        return now

    def queued(self, waits: Callable[[], bool]) -> AbstractContextManager[None]:
        """See `Metrics.queued`."""
        return self._metrics.queued(waits)

    def stage(self, stage: Stage, began: float, ended: float) -> None:
        """Notes a stage by its times of time.monotonic()."""
        self.stages.append((stage, began, ended))
        self.spent(stage, ended - began)

    def spent(self, stage: Stage, seconds: float) -> None:
        """Counts a stage that is no one stretch of time."""
        self._bound.stages[stage].observe(max(0.0, seconds))

    def succeeded(self, finished_reason: str) -> None:
        """Counts the answered request."""
        self._metrics.request_success.labels(*self._bound.labels, finished_reason).inc()
        self._bound.e2e.observe(time.monotonic() - self.started)

    def failed(self, code: str) -> None:
        """Counts the request that got an error."""
        self._metrics.request_failure.labels(*self._bound.labels, code).inc()


def _total(counter: Counter) -> float:
    """The sum over all labels."""
    samples = [sample for metric in counter.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


class _LoadCollector(Collector):
    """Reads the load of the models at the moment the metrics are asked for."""

    def __init__(self, loads: Callable[[], Iterable[Load]]) -> None:
        self._loads = loads

    def collect(self) -> Iterable[Any]:
        running = GaugeMetricFamily("modelkeep_num_requests_running", "Texts being computed", labels=["model_name"])
        waiting = GaugeMetricFamily("modelkeep_num_requests_waiting", "Texts in the queue", labels=["model_name"])
        cache = GaugeMetricFamily("modelkeep_kv_cache_usage_ratio", "Cache set aside, 0 to 1", labels=["model_name"])
        for load in self._loads():
            running.add_metric([load.model], load.running)
            waiting.add_metric([load.model], load.waiting)
            if load.cache_usage is not None:
                cache.add_metric([load.model], load.cache_usage)
        return [running, waiting, cache]
