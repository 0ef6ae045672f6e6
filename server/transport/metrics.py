"""What Prometheus sees. Labels are bound once: that costs more than counting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from saccade.server.engine.client import EngineClient
from saccade.server.engine.engine import Engine
from saccade.server.engine.model_registry import ServedModel
from saccade.server.engine.scheduler import Batch

OCCUPANCY: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)


class ModelMetrics:
    """One model's bound counters."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self.events_received = metrics.events_received.labels(model)
        self.events_dropped = metrics.events_dropped.labels(model)
        self.events_scored = metrics.events_scored.labels(model)
        self.ticks = metrics.ticks.labels(model)
        self.batches = metrics.batches.labels(model)
        self.occupancy = metrics.occupancy.labels(model)
        self.batch_seconds = metrics.batch_seconds.labels(model)
        self.compile_seconds = metrics.compile_seconds.labels(model)
        self.sessions_open = metrics.sessions_open.labels(model)
        self.sessions = metrics.sessions.labels(model)
        self.recordings = metrics.recordings.labels(model)
        self.results_superseded = metrics.results_superseded.labels(model)


class Metrics:
    """Every metric of one server, in a registry of its own; the engine's `Observer`.

    A model's versions are counted together, under its name.
    """

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self.registry = CollectorRegistry()
        self.events_received = self._counter("events_received", "Events accepted")
        self.events_dropped = self._counter(
            "events_dropped", "Events dropped to make room for newer ones"
        )
        self.events_scored = self._counter("events_scored", "Events in whole ticks")
        self.ticks = self._counter("ticks", "Ticks scored")
        self.batches = self._counter("batches", "Calls of the device")
        self.sessions = self._counter("sessions", "Sessions begun")
        self.recordings = self._counter("recordings", "Recordings classified")
        self.results_superseded = self._counter(
            "results_superseded", "Results replaced by newer ones for a slow reader"
        )
        self.refused = Counter(
            "saccade_refused",
            "Errors told to clients",
            ["code"],
            registry=self.registry,
        )
        self._snapshots = self._plain("snapshots", "Times a session was saved")
        self._store_failures = self._plain(
            "session_store_failures", "Times that the store of sessions failed"
        )
        self._resumed = self._plain("sessions_resumed", "Clients that came back")
        self._rate_pauses = self._plain(
            "rate_pauses", "Times that a key's rate kept a connection from being read"
        )
        self.occupancy = self._histogram(
            "bucket_occupancy", "Real share of a batch's rows x ticks", OCCUPANCY
        )
        self.batch_seconds = self._histogram(
            "batch_seconds", "From a batch's launch to its scores", SECONDS
        )
        self.compile_seconds = self._gauge(
            "compile_seconds", "Time to compile and prove"
        )
        self.sessions_open = self._gauge("sessions_open", "Sessions open now")
        self._slots_used = self._gauge("slots_used", "Slots lent")
        self._swapped_out = [
            self._gauge(name, "Sessions and recordings without a slot")
            for name in ("sessions_swapped_out", "sessions_ashore")  # the old name
        ]
        self._failures = self._counter(
            "engine_failures", "Times that a model's sessions were lost on the device"
        )
        self._queue = self._gauge("queue_ticks", "Whole ticks that wait for the device")
        self._reloads = Counter(
            "saccade_reloads",
            "New versions of a checkpoint, by what became of them",
            ["model", "outcome"],
            registry=self.registry,
        )
        self._models: dict[str, ModelMetrics] = {}
        self._versions: dict[str, ServedModel] = {}
        for model in models:
            self.add(model)

    def add(self, model: ServedModel) -> None:
        """Count another version of a model, or another model."""
        self._versions[model.key] = model
        if model.name not in self._models:
            self._models[model.name] = ModelMetrics(self, model.name)

    def model(self, name: str) -> ModelMetrics:
        """Return one model's counters."""
        return self._models[name]

    def count_refusal(self, code: str) -> None:
        """Count an error that a client was told."""
        self.refused.labels(code).inc()

    def kept(self) -> None:
        """Count a session that was saved."""
        self._snapshots.inc()

    def not_kept(self) -> None:
        """Count a failure of the store."""
        self._store_failures.inc()

    def resumed(self) -> None:
        """Count a client that came back."""
        self._resumed.inc()

    def reloaded(self, model: str) -> None:
        """Count a new version that was taken."""
        self._reloads.labels(model, "taken").inc()

    def not_reloaded(self, model: str) -> None:
        """Count a new version that was refused."""
        self._reloads.labels(model, "refused").inc()

    def paused(self) -> None:
        """Count a connection that is not read for a while."""
        self._rate_pauses.inc()

    def watch(self, engine: Engine) -> None:
        """Read the engine's gauges whenever Prometheus asks."""
        for name in self._models:
            used, waiting = engine.slots_used, engine.ticks_waiting
            self._slots_used.labels(name).set_function(self._reading(used, name))
            self._queue.labels(name).set_function(self._reading(waiting, name))

    def _reading(self, read: Callable[[str], int], name: str) -> Callable[[], float]:
        def total() -> float:
            versions = [*self._versions.values()]
            return float(sum(read(m.key) for m in versions if m.name == name))

        return total

    def watch_streams(self, streams: EngineClient) -> None:
        """Read how many streams have no slot whenever Prometheus asks."""
        for name in self._models:
            swapped_out = self._reading(streams.swapped_out, name)
            for gauge in self._swapped_out:
                gauge.labels(name).set_function(swapped_out)

    def compiled(self, model: str, seconds: float) -> None:
        """Note how long a model took to be ready."""
        self._models[self._versions[model].name].compile_seconds.set(seconds)

    def failed(self, model: str) -> None:
        """Count a failure of a model's pool."""
        self._failures.labels(self._versions[model].name).inc()

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """Count a batch."""
        version = self._versions[model]
        bound = self._models[version.name]
        bound.batches.inc()
        bound.ticks.inc(batch.ticks)
        bound.events_scored.inc(batch.ticks * version.tick_events)
        bound.occupancy.observe(batch.ticks / (batch.bucket.rows * batch.bucket.ticks))
        bound.batch_seconds.observe(seconds)

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"saccade_{name}", text, ["model"], registry=self.registry)

    def _plain(self, name: str, text: str) -> Counter:
        return Counter(f"saccade_{name}", text, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"saccade_{name}", text, ["model"], registry=self.registry)

    def _histogram(self, name: str, text: str, bounds: Iterable[float]) -> Histogram:
        return Histogram(
            f"saccade_{name}",
            text,
            ["model"],
            buckets=tuple(bounds),
            registry=self.registry,
        )
