"""Prometheus figures of one application; each has a registry of its own."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from models.backends import EngineStats
from service.metrics.rollout import RolloutFigures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from feedback.retention import RecordHealth

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class EngineFigures(Collector):
    """What the engine counts itself; ``stats`` is to be set before the figures are read."""

    def __init__(self) -> None:
        self.stats = EngineStats(running=0, waiting=0, tokens_total=0, steps_total=0)

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        stats = self.stats
        yield GaugeMetricFamily("thumbloop_rows_running", "Replies being decoded.", stats.running)
        yield GaugeMetricFamily(
            "thumbloop_rows_waiting", "Replies that wait to be decoded.", stats.waiting
        )
        yield CounterMetricFamily(
            "thumbloop_decode_steps", "Forward passes of the engine.", stats.steps_total
        )
        yield CounterMetricFamily(
            "thumbloop_reused_tokens",
            "Prompt tokens that were reused instead of computed again.",
            stats.reused_tokens_total,
        )


class RecordFigures(Collector):
    """What the record says of itself; both attributes are to be set before the figures are read."""

    def __init__(self) -> None:
        self.health: RecordHealth | None = None
        self.now = 0.0

    def collect(self) -> Iterator[Metric]:
        """Yield the figures that are known."""
        health = self.health
        if health is None:
            return
        yield GaugeMetricFamily(
            "thumbloop_waiting_votes", "Votes that no update has claimed.", health.waiting_votes
        )
        yield GaugeMetricFamily(
            "thumbloop_log_events", "Events in the feedback log.", health.log_events
        )
        if health.last_look is not None:
            yield GaugeMetricFamily(
                "thumbloop_last_look_seconds",
                "Seconds since a worker last looked for work.",
                max(0.0, self.now - health.last_look),
            )
        if health.swept is not None:
            yield GaugeMetricFamily(
                "thumbloop_last_sweep_seconds",
                "Seconds since expired records were last swept out.",
                max(0.0, self.now - health.swept.at),
            )
            yield GaugeMetricFamily(
                "thumbloop_unexported_events",
                "Events that no finished export has; counted up to a bound.",
                health.swept.unexported_events,
            )


class Metrics:
    """What /metrics shows."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        requests = Counter(
            "thumbloop_requests",
            "HTTP requests answered.",
            ("method", "route", "status"),
            registry=registry,
        )
        latency = Histogram(
            "thumbloop_request_seconds",
            "Seconds from a request to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        # Finding a series by its labels takes longer than counting in it.
        self._count = cache(requests.labels)
        self._clock = cache(latency.labels)
        self.first_token = Histogram(
            "thumbloop_first_token_seconds",
            "Seconds from a chat request to its first token.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "thumbloop_tokens", "Tokens read and written.", ("kind",), registry=registry
        )
        self.replies = Counter(
            "thumbloop_replies", "Replies by policy version.", ("version",), registry=registry
        )
        self.malformed_calls = Counter(
            "thumbloop_malformed_tool_calls",
            "Calls of tools that no client got: they are not well-formed, or of no known tool.",
            ("version",),
            registry=registry,
        )
        self.unrecorded = Counter(
            "thumbloop_unrecorded", "Replies served without a record.", registry=registry
        )
        self.refused = Counter(
            "thumbloop_refused", "Requests refused because too many waited.", registry=registry
        )
        self.timeouts = Counter(
            "thumbloop_timeouts",
            "Requests given up: the first token (queue) or the last (request) came too late.",
            ("kind",),
            registry=registry,
        )
        for kind in ("queue", "request"):
            self.timeouts.labels(kind)
        self.votes = Counter("thumbloop_votes", "Votes accepted.", ("kind",), registry=registry)
        self.swaps = Counter(
            "thumbloop_swaps", "Changes of the version that this replica serves.", registry=registry
        )
        self.engine = EngineFigures()
        registry.register(self.engine)
        self.record = RecordFigures()
        registry.register(self.record)
        self.rollout = RolloutFigures()
        registry.register(self.rollout)
        self.store_up = Gauge("thumbloop_redis_up", "Whether Redis answers.", registry=registry)
        self.ready = Gauge("thumbloop_ready", "Whether the replica is ready.", registry=registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request, and the seconds to the end of its answer."""
        self._count(method, route, str(status)).inc()
        self._clock(route).observe(seconds)
