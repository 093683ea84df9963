"""Spans of requests, where OpenTelemetry is installed; an error that names the extra where it isn't."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from adapterkit import Registry
from adapterkit.errors import OptionError
from adapterkit.serving import telemetry
from tests.helpers.server import ROWS, Running

INSTALLED = importlib.util.find_spec("opentelemetry") is not None


@pytest.mark.skipif(INSTALLED, reason="OpenTelemetry is installed")
def test_without_opentelemetry_the_extra_is_named() -> None:
    with pytest.raises(OptionError, match=r"adapterkit\[otel\]"):
        telemetry.provider()


@pytest.mark.skipif(not INSTALLED, reason="OpenTelemetry isn't installed: pip install 'adapterkit[otel]'")
def test_a_request_has_a_span_in_its_clients_trace(stocked: Registry) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with Running(stocked, prepared=lambda app: _trace(app, provider)) as server:
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        header = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "x-request-id": "mine"}
        assert server.send("/models/mood", {"inputs": ROWS["mood"]}, header)[0] == 200
        assert server.send("/models/nobody", {"inputs": ROWS["mood"]})[0] == 404
        server.send("/health")
        reference = server.models.resolve("mood").reference
    first, second = exporter.get_finished_spans()
    assert format(first.context.trace_id, "032x") == trace
    assert first.attributes["adapterkit.adapters"] == (reference,)
    assert (first.attributes["adapterkit.rows"], first.attributes["adapterkit.request_id"]) == (1, "mine")
    assert 404 in second.attributes.values()


def _trace(app: Any, provider: Any) -> None:
    app.asgi, app.describe = telemetry.traced(app.asgi, provider), telemetry.describe
