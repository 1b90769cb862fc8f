"""Prometheus metrics, and the same in short for CloudWatch; no label holds anything a user sent."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_PER_TASK = ("model_name", "task")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
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
        self.queue_time = self._histogram(
            "request_queue_time_seconds", "From queueing to the first step", per_task=False
        )
        self.batch_size = self._histogram("batch_size", "Texts in one step", buckets=_SIZES, per_task=False)
        self.batch_tokens = self._histogram("batch_tokens", "Tokens in one step", buckets=_TOKENS, per_task=False)
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens read")
        self.generation_tokens = self._counter("generation_tokens", "Tokens made")
        self.request_success = self._counter("request_success", "Answered requests", "finished_reason")
        self.request_failure = self._counter("request_failure", "Requests that got an error", "code")
        self.model_load = Gauge(
            "modelkeep_model_load_seconds", "Fetch, load and first inference", ["model_name"], registry=self.registry
        )
        self.weights_digest = Gauge(
            "modelkeep_weights_digest_info", "SHA-256 of the weights", ["model_name", "digest"], registry=self.registry
        )
        self._tokens_made = 0

    def _histogram(
        self, name: str, text: str, *, buckets: tuple[float, ...] = _SECONDS, per_task: bool = True
    ) -> Histogram:
        labels = _PER_TASK if per_task else _PER_TASK[:1]
        return Histogram(f"modelkeep_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"modelkeep_{name}", text, (*_PER_TASK, *labels), registry=self.registry)

    def watch(self, loads: Callable[[], Iterable[Load]]) -> None:
        """Has the current load of every model read when the metrics are."""
        self.registry.register(_LoadCollector(loads))

    def meter(self, *, model: str, task: str) -> "Meter":
        """The metrics of one request of a loaded model."""
        return Meter(self, model, task)

    def observer(self, model: str) -> "StepObserver":
        """What the loops of one model report to."""
        return StepObserver(self, model)

    def count_tokens_made(self, tokens: int) -> None:
        """Adds to what `take_tokens_made` returns."""
        self._tokens_made += tokens

    def take_tokens_made(self) -> int:
        """Tokens made since the last call."""
        made, self._tokens_made = self._tokens_made, 0
        return made

    def render(self) -> bytes:
        """The text of /metrics."""
        return generate_latest(self.registry)


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
    """What one request costs, counted while it is served."""

    def __init__(self, metrics: Metrics, model: str, task: str) -> None:
        self._metrics = metrics
        self._labels = (model, task)
        self._started = time.monotonic()
        self._last: dict[int, float] = {}
        self.model = model
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.first_token_seconds: float | None = None

    def read(self, tokens: int) -> None:
        """Counts prompt tokens."""
        self.prompt_tokens += tokens
        self._metrics.prompt_tokens.labels(*self._labels).inc(tokens)

    def made(self, *, choice: int) -> None:
        """Counts a new token of a choice."""
        now = time.monotonic()
        if self.first_token_seconds is None:
            self.first_token_seconds = now - self._started
            self._metrics.time_to_first_token.labels(*self._labels).observe(self.first_token_seconds)
        if choice in self._last:
            self._metrics.inter_token_latency.labels(*self._labels).observe(now - self._last[choice])
        self._last[choice] = now
        self.generation_tokens += 1
        self._metrics.generation_tokens.labels(*self._labels).inc()
        self._metrics.count_tokens_made(1)

    def succeeded(self, finished_reason: str) -> None:
        """Counts the answered request."""
        self._metrics.request_success.labels(*self._labels, finished_reason).inc()
        self._metrics.e2e_latency.labels(*self._labels).observe(time.monotonic() - self._started)

    def failed(self, code: str) -> None:
        """Counts the request that got an error."""
        self._metrics.request_failure.labels(*self._labels, code).inc()


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
