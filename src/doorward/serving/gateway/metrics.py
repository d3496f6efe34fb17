"""What Prometheus reads: totals for anybody, and what concerns single tenants for the operator.

    metrics = Metrics()
    metrics.requests.labels("200").inc()
    text = metrics.render(operator=False)

A tenant that could read its own stage would learn when it was found out, so nothing by tenant or by
stage is shown without the key of an operator.
"""

from __future__ import annotations

from doorward.errors import MissingDependency

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counters of one gateway.

    Raises:
        MissingDependency: prometheus_client is not installed.
    """

    def __init__(self) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ImportError as error:
            raise MissingDependency.of("prometheus_client", "serve", "count requests") from error
        self._open, self._closed = CollectorRegistry(), CollectorRegistry()
        name = "doorward_gateway"
        self.requests = Counter(
            f"{name}_requests", "Requests by HTTP status.", ["status"], registry=self._open
        )
        self.images = Counter(f"{name}_images", "Images answered.", registry=self._open)
        self.seconds = Histogram(
            f"{name}_request_seconds",
            "From the end of a request's body to its answer.",
            buckets=_SECONDS,
            registry=self._open,
        )
        self.batch_images = Histogram(
            f"{name}_batch_images", "Images per inference.", buckets=_SIZES, registry=self._open
        )
        self.batch_seconds = Histogram(
            f"{name}_batch_seconds",
            "From handing over a batch to its answers.",
            buckets=_SECONDS,
            registry=self._open,
        )
        self.commit_seconds = Histogram(
            f"{name}_commit_seconds", "Evidence commits.", buckets=_SECONDS, registry=self._open
        )
        self.waiting = Gauge(f"{name}_waiting_images", "Images that wait.", registry=self._open)
        self.reloads = Counter(
            f"{name}_reloads", "Reloads by outcome.", ["outcome"], registry=self._open
        )
        self.by_tenant = Counter(
            f"{name}_tenant_images", "Images answered.", ["tenant", "policy"], registry=self._closed
        )
        self.used = Gauge(
            f"{name}_account_used", "Images charged, ever.", ["account"], registry=self._closed
        )
        self.stage = Gauge(
            f"{name}_account_stage", "Stage on the ladder.", ["account"], registry=self._closed
        )
        self.reading = Gauge(
            f"{name}_reading",
            "Last statistic of a monitor.",
            ["account", "monitor"],
            registry=self._closed,
        )
        self.alarms = Counter(
            f"{name}_alarms", "Alarms.", ["account", "monitor"], registry=self._closed
        )

    def render(self, *, operator: bool) -> bytes:
        """The text format; with what concerns single tenants only for the operator."""
        from prometheus_client import generate_latest

        shown: bytes = generate_latest(self._open)
        return shown + (generate_latest(self._closed) if operator else b"")
