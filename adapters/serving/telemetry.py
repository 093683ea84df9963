"""OpenTelemetry: a span for each request, exported to where OTEL_ variables of the environment point."""

from __future__ import annotations

from typing import Any

from ..errors import OptionError, install
from .http import Call


def provider() -> Any:
    """Return a tracer provider that exports over OTLP. Raises `OptionError` where OpenTelemetry isn't installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise OptionError(f"--otel needs the extra: {install('otel')} ({error})") from error
    provided = TracerProvider(resource=Resource({"service.name": "adapterkit"}).merge(Resource.create()))
    provided.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provided


def traced(asgi: Any, provided: Any) -> Any:
    """Return an application with a span for each request but those of probes; `traceparent` headers are followed."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    return OpenTelemetryMiddleware(
        asgi, tracer_provider=provided, excluded_urls="health,ready,metrics", exclude_spans=["send", "receive"]
    )


def describe(call: Call) -> None:
    """Set what a request's span has beside its route and status."""
    from opentelemetry import trace

    span = trace.get_current_span()
    span.set_attribute("adapterkit.request_id", call.id)
    span.set_attribute("adapterkit.adapters", list(call.versions)[:16])
    span.set_attribute("adapterkit.rows", call.rows)
    span.set_attribute("adapterkit.tokens", call.tokens)
