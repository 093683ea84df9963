"""Prometheus metrics of a server, in a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SHARES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counts and times of requests, rows and batches."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "adapterkit_requests_total", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "adapterkit_request_seconds", "Seconds by route.", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self.rows = Counter(
            "adapterkit_rows_total", "Rows by adapter and result.", ["adapter", "result"], registry=self.registry
        )
        self.tokens = Counter("adapterkit_tokens_total", "Input tokens.", registry=self.registry)
        self.batch_rows = Histogram("adapterkit_batch_rows", "Rows of a batch.", buckets=_ROWS, registry=self.registry)
        self.batch_seconds = Histogram(
            "adapterkit_batch_seconds", "Seconds of a batch.", buckets=_SECONDS, registry=self.registry
        )
        self.waiting = Gauge("adapterkit_queue_tokens", "Tokens that wait, by lane.", ["lane"], registry=self.registry)
        self.loaded = Gauge("adapterkit_adapters_loaded", "Adapters in memory.", registry=self.registry)
        self.loaded_bytes = Gauge("adapterkit_adapters_bytes", "Their bytes.", registry=self.registry)

        self.feedback = Counter(
            "adapterkit_feedback_total", "Labels by adapter and answer.", ["adapter", "answer"], registry=self.registry
        )
        self.canary_rows = Counter(
            "adapterkit_canary_rows_total",
            "Rows that a candidate read too, by whether it agreed.",
            ["adapter", "result"],
            registry=self.registry,
        )
        self.canary_drift = Histogram(
            "adapterkit_canary_drift",
            "Total variation distance between the scores of current version and candidate.",
            ["adapter"],
            buckets=_SHARES,
            registry=self.registry,
        )
        self.canary_correct = Counter(
            "adapterkit_canary_labelled_total",
            "Labelled rows by which version was right.",
            ["adapter", "right"],
            registry=self.registry,
        )
        self.canary_p = Gauge(
            "adapterkit_canary_p_value",
            "McNemar's exact test of the labelled rows.",
            ["adapter"],
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Return the metrics in Prometheus' format."""
        return generate_latest(self.registry)
