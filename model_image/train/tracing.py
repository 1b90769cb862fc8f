"""
OpenTelemetry spans of a training, where a collector is named: one for all of it, and one below for each phase.

They hold names, counts and measures, and never a row or an error's text. The library is imported only where spans are
wanted.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from model_image.errors import ConfigError
from model_image.manifest import Manifest
from model_image.train_recipe import TrainRecipe

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer

VARIABLE = "MODELKEEP_OTLP_ENDPOINT"
_EXPORT_SECONDS = 5


class Trace:
    """The spans of one training; without a tracer there are none."""

    def __init__(self, tracer: "Tracer | None" = None) -> None:
        self._tracer = tracer

    def phase(self, name: str) -> AbstractContextManager[None]:
        """A span for what is done inside."""
        return nullcontext() if self._tracer is None else _span(self._tracer, name, {})

    def made(self, manifest: Manifest) -> None:
        """Notes what came of it on the span around."""
        if self._tracer is not None:
            from opentelemetry.trace import get_current_span  # noqa: PLC0415

            get_current_span().set_attributes({f"modelkeep.{key}": value for key, value in manifest.metrics.items()})


@contextmanager
def traced(environment: Mapping[str, str], recipe: TrainRecipe, *, parent: str | None) -> Iterator[Trace]:
    """
    The training's own span, sent to the collector whose base URL the environment's MODELKEEP_OTLP_ENDPOINT is.

    Without one there are no spans. Raises ConfigError for what is no URL.
    """
    endpoint = environment.get(VARIABLE, "")
    if not endpoint:
        yield Trace()
        return
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"{VARIABLE} is {endpoint!r}, which is no URL; name a collector, as http://127.0.0.1:4318")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_SECONDS)
    with spans(BatchSpanProcessor(exporter), recipe, parent=parent) as trace:
        yield trace


@contextmanager
def spans(processor: "SpanProcessor", recipe: TrainRecipe, *, parent: str | None) -> Iterator[Trace]:
    """As `traced`, to a processor, which is shut down at the end."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    provider = TracerProvider(resource=Resource.create({"service.name": "modelkeep-training"}), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("model_image.train")
    attributes = {"modelkeep.model": recipe.name, "modelkeep.version": recipe.version, "modelkeep.task": recipe.task}
    try:
        with _span(tracer, "train", attributes if parent is None else {**attributes, "modelkeep.parent": parent}):
            yield Trace(tracer)
    finally:
        provider.shutdown()


@contextmanager
def _span(tracer: "Tracer", name: str, attributes: Mapping[str, str]) -> Iterator[None]:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

    # An exception's own words may quote a row: its kind is all that is told.
    with tracer.start_as_current_span(
        name, attributes=dict(attributes), record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise
