"""Metrics of a server for Prometheus."""

from __future__ import annotations

from typing import Any

import prometheus_client


class ServerMetrics:
    """Counters and histograms in a registry of this server's own."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = prometheus_client.Counter(
            "tfic_requests_total", "Requests by their status.", ["status"], **own
        )
        self.seconds = prometheus_client.Histogram(
            "tfic_request_seconds", "Time from a request's headers to its answer.", **own
        )
        self.images = prometheus_client.Counter("tfic_images_total", "Images answered.", **own)
        self.batches = prometheus_client.Histogram(
            "tfic_batch_size", "Images in a call.", buckets=(1, 2, 4, 8, 16, 32, 64), **own
        )
        self.waiting = prometheus_client.Gauge(
            "tfic_waiting_images", "Images accepted and not yet answered.", **own
        )

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return prometheus_client.generate_latest(self.registry)
