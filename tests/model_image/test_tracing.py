"""Spans: whose trace they belong to, what they say, and that no text is among it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from model_image.request_log import Answered
from model_image.tracing import Remote, Tracer, export_to, remote_of
from tests.model_image.in_process import BODY, MARKER, WHOLE, InProcess, run

# The example of AWS's X-Ray Developer Guide, and its id as the W3C and OpenTelemetry write it.
XRAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
TRACE, SPAN = 0x5759E988BD862E3FE1BE46A994272793, 0x53995C3F42CD8AD8
W3C = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (XRAY, Remote(TRACE, SPAN, sampled=True)),
        (XRAY.replace("Sampled=1", "Sampled=0"), Remote(TRACE, SPAN, sampled=False)),
        (XRAY.replace("Sampled=1", "Sampled=?"), Remote(TRACE, SPAN, sampled=True)),
        (XRAY.replace(";", "; ").upper().replace("ROOT", "root"), Remote(TRACE, SPAN, sampled=True)),
        # What a load balancer makes of a request without a trace, and of one with it.
        (XRAY.split(";", maxsplit=1)[0], Remote(TRACE, 0, sampled=True)),
        (f"Self=1-67891234-12456789abcdef012345678a;{XRAY};Lineage=1:a87bd80c:0", Remote(TRACE, SPAN, sampled=True)),
        ("Self=1-67891234-12456789abcdef012345678a", None),
        ("Root=1-00000000-000000000000000000000000", None),
        ("Root=2-5759e988-bd862e3fe1be46a994272793", None),
        ("Root=1-5759e988-bd862e3fe1be46a99427279", None),
        ("Root=1-5759e988-bd862e3fe1be46a994272793-more", None),
        ("nonsense", None),
    ],
)
def test_amazons_header_names_the_trace(header: str, expected: Remote | None) -> None:
    assert remote_of({"x-amzn-trace-id": header}) == expected


def test_the_w3cs_header_counts_where_amazons_does_not() -> None:
    remote = Remote(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, sampled=True)

    assert remote_of({"traceparent": W3C}) == remote
    assert remote_of({"traceparent": W3C[:-1] + "0"}) == Remote(remote.trace_id, remote.span_id, sampled=False)
    assert remote_of({"traceparent": W3C, "x-amzn-trace-id": "nonsense"}) == remote
    assert remote_of({"traceparent": W3C, "x-amzn-trace-id": XRAY}) == Remote(TRACE, SPAN, sampled=True)
    assert remote_of({"traceparent": "00-0-0-01"}) is None
    assert remote_of({}) is None


class Traced:
    """A server whose spans are kept in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.server = InProcess(WHOLE, tracer=Tracer(SimpleSpanProcessor(self._exporter), stack="test"))

    def post(self, body: dict[str, Any], headers: dict[str, str] | None = None) -> tuple[ReadableSpan, ...]:
        """The spans of one request."""

        async def talk(client: httpx.AsyncClient) -> None:
            await client.post("/v1/completions", json=body, headers=headers)

        self._exporter.clear()
        run(self.server, talk)
        return self._exporter.get_finished_spans()


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_a_span_with_its_stages_below(stream: bool) -> None:
    *stages, request = Traced().post(BODY | {"stream": stream}, {"x-amzn-trace-id": XRAY})

    assert (request.name, request.kind) == ("POST /v1/completions", SpanKind.SERVER)
    assert request.parent is not None
    assert (request.context.trace_id, request.parent.span_id) == (TRACE, SPAN)
    assert request.resource.attributes["service.name"] == "modelkeep"
    assert request.resource.attributes["deployment.environment.name"] == "test"
    attributes = dict(request.attributes or {})
    assert attributes.pop("modelkeep.request_id")
    assert attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/completions",
        "http.response.status_code": 200,
        "gen_ai.provider.name": "modelkeep",
        "gen_ai.operation.name": "text_completion",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.output_tokens": 2,
        "modelkeep.task": "completions",
    }
    assert [span.name for span in stages] == ["parse", "tokenise", "queue", "decode"]
    for span in stages:
        assert span.parent is not None
        assert (span.context.trace_id, span.parent.span_id) == (TRACE, request.context.span_id)
        assert span.start_time is not None
        assert span.end_time is not None
        assert request.start_time is not None
        assert request.end_time is not None
        assert request.start_time <= span.start_time <= span.end_time <= request.end_time


def test_a_trace_without_a_parent_keeps_its_id_and_others_get_their_own() -> None:
    traced = Traced()

    of_root = traced.post(BODY, {"x-amzn-trace-id": XRAY.split(";", maxsplit=1)[0]})
    first, second = traced.post(BODY), traced.post(BODY)

    assert {span.context.trace_id for span in of_root} == {TRACE}
    assert of_root[-1].parent is None
    assert len({span.context.trace_id for span in (*of_root, *first, *second)}) == 3


def test_what_the_gateway_does_not_sample_has_no_spans() -> None:
    assert Traced().post(BODY, {"x-amzn-trace-id": XRAY.replace("Sampled=1", "Sampled=0")}) == ()


def test_faults_of_the_server_are_marked_and_those_of_clients_are_not() -> None:
    traced = Traced()

    (refused,) = traced.post({"model": MARKER})
    *_, failed = traced.post(BODY | {"prompt": MARKER})

    assert (refused.status.status_code, dict(refused.attributes or {})["error.type"]) == (
        StatusCode.UNSET,
        "invalid_value",
    )
    assert (failed.status.status_code, dict(failed.attributes or {})["error.type"]) == (
        StatusCode.ERROR,
        "internal_error",
    )


def test_no_text_is_in_a_span() -> None:
    texts = {"prompt": f"a {MARKER}", "stop": MARKER, "user": MARKER, "echo": True}
    headers = {"traceparent": W3C, "tracestate": f"a={MARKER}", "baggage": f"a={MARKER}", "user-agent": MARKER}
    for body in (BODY | texts, BODY | texts | {"stream": True}, BODY | {"prompt": MARKER}, {"model": MARKER}):
        spans = Traced().post(body, headers)
        assert spans
        assert not any(MARKER in span.to_json() for span in spans)


@contextmanager
def collector() -> Iterator[tuple[str, list[Span]]]:
    """An OTLP collector on this machine: its base URL and the spans that it has been sent."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            message = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            spans.extend(
                span for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", spans
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("slash", ["", "/"])
def test_spans_go_to_the_collector_by_otlp_over_http(slash: str) -> None:
    with collector() as (url, received):
        tracer = export_to(url + slash, stack="test")
        tracer.record(
            Answered(
                request_id="r",
                method="POST",
                route="/v1/x",
                status=404,
                code="not_found",
                started=1.0,
                ended=2.5,
                meter=None,
            ),
            {"x-amzn-trace-id": XRAY},
        )
        tracer.close()

    (span,) = received
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (f"{TRACE:032x}", f"{SPAN:016x}")
    assert span.end_time_unix_nano - span.start_time_unix_nano == 1_500_000_000
