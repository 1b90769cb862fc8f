"""
OpenTelemetry spans of what the server has answered, under the trace id that the gateway gave the request.

Spans are made when a request is over, from the times that its meter has noted: nothing is paid for while it runs. They
hold names, counts and codes, and never a text. Imported only where spans are wanted.
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from model_image.request_log import Answered

_ROOT = re.compile(r"Root=1-([0-9a-f]{8})-([0-9a-f]{24})", re.IGNORECASE)
_PARENT = re.compile(r"Parent=([0-9a-f]{16})", re.IGNORECASE)
# The convention's names of operations where it has one, else the task's own.
_OPERATIONS = {"completions": "text_completion"}
_EXPORT_SECONDS = 5


@dataclass(frozen=True)
class Remote:
    """The trace a request belongs to; `span_id` 0 where the caller has begun one and made no span of its own."""

    trace_id: int
    span_id: int
    sampled: bool


def remote_of(headers: Mapping[str, str]) -> Remote | None:
    """
    The trace that a request's headers name: AWS's X-Amzn-Trace-Id before the W3C's traceparent, since it is the
    gateway's own. None for neither.

    A load balancer sends a Root without a Parent. `Sampled=?`, or none, leaves it to us, and we take all.
    """
    fields = [field.strip() for field in headers.get("x-amzn-trace-id", "").split(";")]
    root = next(filter(None, map(_ROOT.fullmatch, fields)), None)
    if root is not None:
        parent = next(filter(None, map(_PARENT.fullmatch, fields)), None)
        trace_id, span_id = int(root[1] + root[2], 16), int(parent[1], 16) if parent else 0
        return Remote(trace_id, span_id, sampled="Sampled=0" not in fields) if trace_id else None
    # Without tracestate: what a client writes there is no business of a trace's.
    carrier = {"traceparent": headers.get("traceparent", "")}
    found = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    return Remote(found.trace_id, found.span_id, found.trace_flags.sampled) if found.is_valid else None


class _Ids(RandomIdGenerator):
    """Random ids; inside `of_trace` the trace's id is a given one."""

    def __init__(self) -> None:
        self._given: int | None = None

    @contextmanager
    def of_trace(self, trace_id: int) -> Iterator[None]:
        self._given = trace_id
        try:
            yield
        finally:
            self._given = None

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self._given is None else self._given


class Tracer:
    """Makes spans; for one thread."""

    def __init__(self, processor: SpanProcessor, *, stack: str) -> None:
        resource = Resource.create({"service.name": "modelkeep", "deployment.environment.name": stack})
        self._ids = _Ids()
        self._provider = TracerProvider(
            sampler=DEFAULT_ON, resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("model_image")

    def record(self, answered: Answered, headers: Mapping[str, str]) -> None:
        """One span for the request and one below it for every stage; none where its headers say not to sample."""
        remote = remote_of(headers)
        if remote is not None and not remote.sampled:
            return
        at = time.time_ns() - round(time.monotonic() * 1e9)
        with self._ids.of_trace(remote.trace_id) if remote and not remote.span_id else nullcontext():
            span = self._tracer.start_span(
                f"{answered.method} {answered.route}",
                context=_context(remote),
                kind=SpanKind.SERVER,
                attributes=_attributes(answered),
                start_time=at + round(answered.started * 1e9),
            )
        if answered.status >= 500 or (answered.status == 200 and answered.code):
            span.set_status(Status(StatusCode.ERROR))
        below = set_span_in_context(span, Context())
        for stage, began, ended in answered.meter.stages if answered.meter else ():
            part = self._tracer.start_span(stage, context=below, start_time=at + round(began * 1e9))
            part.end(at + round(ended * 1e9))
        span.end(at + round(answered.ended * 1e9))

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def export_to(endpoint: str, *, stack: str) -> Tracer:
    """A tracer that sends its spans to a collector by OTLP over HTTP; `endpoint` is its base URL."""
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_SECONDS)
    return Tracer(BatchSpanProcessor(exporter), stack=stack)


def _context(remote: Remote | None) -> Context:
    """The caller's span as the parent; an empty context where there is none."""
    if remote is None or not remote.span_id:
        return Context()
    parent = SpanContext(remote.trace_id, remote.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _attributes(answered: Answered) -> dict[str, str | int]:
    """By the semantic conventions for HTTP and for generative AI (1.37) as far as they go."""
    attributes: dict[str, str | int] = {
        "http.request.method": answered.method,
        "http.route": answered.route,
        "http.response.status_code": answered.status,
        "modelkeep.request_id": answered.request_id,
    }
    if answered.code is not None:
        attributes["error.type"] = answered.code
    if answered.meter is not None:
        attributes |= {
            "gen_ai.provider.name": "modelkeep",
            "gen_ai.operation.name": _OPERATIONS.get(answered.meter.task, answered.meter.task),
            "gen_ai.request.model": answered.meter.model,
            "gen_ai.usage.input_tokens": answered.meter.prompt_tokens,
            "gen_ai.usage.output_tokens": answered.meter.generation_tokens,
            "modelkeep.task": answered.meter.task,
        }
    return attributes
