"""The metrics that Prometheus scrapes.

A model's metrics are bound to its label once: binding costs more than counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.exposition import generate_latest

from saccade.server.engine.client import EngineClient
from saccade.server.engine.model_registry import ServedModel
from saccade.server.engine.outputs import DeviceUse
from saccade.server.engine.scheduler import Batch
from saccade.server.transport.collectors import (
    DeviceCollector,
    DeviceMemoryCollector,
    LatencyCollector,
    ThreadCollector,
)

OCCUPANCY: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)

Metric = TypeVar("Metric", Counter, Gauge, Histogram)


class ModelMetrics:
    """The metrics of one model, under its name; a model's versions share them.

    The observer of the model's sessions.

    Args:
        metrics: The server's metrics, which bind each to the model.
        model: The model's name.
    """

    def __init__(self, metrics: Metrics, model: str) -> None:
        counter = partial(metrics.bound, model, Counter)
        gauge = partial(metrics.bound, model, Gauge)
        histogram = partial(metrics.bound, model, Histogram)
        self.events_received = counter("events_received", "Events accepted")
        self.events_dropped = counter(
            "events_dropped", "Events dropped to make room for newer ones"
        )
        self.events_skipped = counter(
            "events_skipped", "Invalid events left out, where clients chose that"
        )
        self.events_late = counter(
            "events_late", "Events scored later than their session's max_lag_ms"
        )
        self.events_scored = counter("events_scored", "Events in whole ticks")
        self.results_reported = counter("results_reported", "Results for clients")
        self.credit_withheld = gauge(
            "credit_withheld_events", "Credit that sessions lack to stay fresh"
        )
        self._latency = metrics.latency.of(model)
        self._lag = metrics.lag.of(model)
        self.ticks = counter("ticks", "Ticks scored")
        self.batches = counter("batches", "Calls of the device")
        self.occupancy = histogram(
            "bucket_occupancy",
            "Real share of a batch's rows x ticks",
            buckets=OCCUPANCY,
        )
        self.batch_seconds = histogram(
            "batch_seconds", "From a batch's launch to its scores", buckets=SECONDS
        )
        self.compile_seconds = gauge("compile_seconds", "Time to compile and prove")
        self.failures = counter(
            "engine_failures", "Times that a model's sessions were lost on the device"
        )
        self.sessions = counter("sessions", "Sessions begun")
        self.sessions_open = gauge("sessions_open", "Sessions open now")
        self.recordings = counter("recordings", "Recordings classified")
        self.results_superseded = counter(
            "results_superseded", "Results replaced by newer ones for a slow reader"
        )
        self.slots_used = gauge("slots_used", "Slots lent")
        self.queue_ticks = gauge("queue_ticks", "Whole ticks that wait for the device")
        self.sessions_swapped_out = gauge(
            "sessions_swapped_out", "Sessions and recordings without a slot"
        )
        self.sessions_ashore = gauge(
            "sessions_ashore", "Old name of saccade_sessions_swapped_out"
        )

    @property
    def latency_counts(self) -> tuple[int, ...]:
        """How many latencies fell below each bound and above the one before."""
        return self._latency.counts

    def scored(self, latency_s: float, lag_s: float, late: int) -> None:
        """Count how long the events of a session's newest ticks took."""
        self._latency.observe(latency_s)
        self._lag.observe(lag_s)
        if late:
            self.events_late.inc(late)

    def reported(self, results: int) -> None:
        """Count results for clients."""
        if results:
            self.results_reported.inc(results)

    def dropped(self, events: int) -> None:
        """Count events that were dropped."""
        self.events_dropped.inc(events)

    def withheld(self, events: int) -> None:
        """Count a change of the credit that sessions lack."""
        self.credit_withheld.inc(events)


def value_of(metric: Counter | Gauge) -> float:
    """Return the value of a metric that is bound to its labels."""
    return float(next(iter(metric.collect())).samples[0].value)


class EngineUse(Protocol):
    """An engine's gauges, as far as they are this process's to count."""

    def slots_used(self, model: str) -> int:
        """Return how many of a model's slots are leased."""

    def ticks_waiting(self, model: str) -> int:
        """Return how many whole ticks wait in a model's queue."""


class Metrics:
    """Every metric of one server, in a registry of its own.

    The observer of the engine, of the session registry and of hot reloading.

    Args:
        models: The models that are served first.
    """

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self.registry = CollectorRegistry()
        self.latency = LatencyCollector(
            "saccade_event_latency_seconds",
            "From the arrival of a batch's newest event to its score",
        )
        self.lag = LatencyCollector(
            "saccade_session_lag_seconds",
            "From the arrival of a session's oldest unscored event to its score",
        )
        for collector in (
            self.latency,
            self.lag,
            ThreadCollector(),
            DeviceMemoryCollector(),
        ):
            self.registry.register(collector)
        ProcessCollector(registry=self.registry)
        self._families: dict[str, Any] = {}
        self._models: dict[str, ModelMetrics] = {}
        self._versions: dict[str, ServedModel] = {}
        counter = partial(self._create, Counter)
        self.refused = counter("refused", "Errors sent to clients", "code")
        self._reloads = counter(
            "reloads",
            "New versions of a checkpoint, by what became of them",
            "model",
            "outcome",
        )
        self._background_failures = counter(
            "background_failures",
            "Failures of background work, which is tried again",
            "work",
        )
        self._snapshots = counter("snapshots", "Times a session was saved")
        self._store_failures = counter(
            "session_store_failures",
            "Times that the store of sessions failed",
        )
        self._store_up = self._create(
            Gauge, "session_store_up", "Whether the store of sessions works: 1 or 0"
        )
        self._store_up.set(1)
        self._resumed = counter("sessions_resumed", "Clients that came back")
        self.watchers = self._create(Gauge, "watchers", "Watchers of sessions now")
        self._rate_pauses = counter(
            "rate_pauses",
            "Times that a key's rate began to hold a connection's credit back",
        )
        for model in models:
            self.add(model)

    def add(self, model: ServedModel) -> None:
        """Add another version of a model, or another model."""
        self._versions[model.key] = model
        if model.name not in self._models:
            self._models[model.name] = ModelMetrics(self, model.name)

    def model(self, name: str) -> ModelMetrics:
        """Return one model's metrics."""
        return self._models[name]

    def bound(
        self, model: str, kind: type[Metric], name: str, text: str, **options: Any
    ) -> Metric:
        """Return a metric bound to a model; its first model creates the metric."""
        if name not in self._families:
            self._families[name] = self._create(kind, name, text, "model", **options)
        metric: Metric = self._families[name].labels(model)
        return metric

    def watch(self, engine: EngineUse) -> None:
        """Read the engine's gauges at each scrape."""
        for name, metrics in self._models.items():
            metrics.slots_used.set_function(self._total(engine.slots_used, name))
            metrics.queue_ticks.set_function(self._total(engine.ticks_waiting, name))

    def watch_devices(self, use: Callable[[], list[DeviceUse]]) -> None:
        """Read what each device of this process does at each scrape."""
        self.registry.register(DeviceCollector(use))

    def watch_streams(self, streams: EngineClient) -> None:
        """Read the number of streams without a slot at each scrape."""
        for name, metrics in self._models.items():
            swapped_out = self._total(streams.swapped_out, name)
            metrics.sessions_swapped_out.set_function(swapped_out)
            metrics.sessions_ashore.set_function(swapped_out)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def count_refusal(self, code: str) -> None:
        """Count an error that was sent to a client."""
        self.refused.labels(code).inc()

    def count_rate_pause(self) -> None:
        """Count a connection whose credit is held back for a while."""
        self._rate_pauses.inc()

    def count_background_failure(self, work: str) -> None:
        """Count a failure of background work."""
        self._background_failures.labels(work).inc()

    def kept(self) -> None:
        """Count a session that was saved."""
        self._snapshots.inc()

    def not_kept(self) -> None:
        """Count a failure of the store."""
        self._store_failures.inc()

    def store_works(self, *, works: bool) -> None:
        """Note that an outage of the store began, or is over."""
        self._store_up.set(works)

    def resumed(self) -> None:
        """Count a session that was resumed."""
        self._resumed.inc()

    def reloaded(self, model: str) -> None:
        """Count a new version that serves."""
        self._reloads.labels(model, "taken").inc()

    def not_reloaded(self, model: str) -> None:
        """Count a new version that was refused."""
        self._reloads.labels(model, "refused").inc()

    def compiled(self, model: str, seconds: float) -> None:
        """Set the time that a model took to be ready."""
        self._models[self._versions[model].name].compile_seconds.set(seconds)

    def failed(self, model: str) -> None:
        """Count a failure of a model's pool."""
        self._models[self._versions[model].name].failures.inc()

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """Count a batch."""
        version = self._versions[model]
        metrics = self._models[version.name]
        metrics.batches.inc()
        metrics.ticks.inc(batch.ticks)
        metrics.events_scored.inc(batch.ticks * version.tick_events)
        rows_ticks = batch.bucket.rows * batch.bucket.ticks
        metrics.occupancy.observe(batch.ticks / rows_ticks)
        metrics.batch_seconds.observe(seconds)

    def _total(self, read: Callable[[str], int], name: str) -> Callable[[], float]:
        """Return a function that adds up a reading of all versions of a model."""

        def total() -> float:
            versions = [*self._versions.values()]
            return float(sum(read(m.key) for m in versions if m.name == name))

        return total

    def _create(
        self, kind: type[Metric], name: str, text: str, *labels: str, **options: Any
    ) -> Metric:
        return kind(f"saccade_{name}", text, labels, registry=self.registry, **options)
