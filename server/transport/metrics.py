"""The metrics that Prometheus scrapes, of one process.

They are declared as attributes, as `model_metrics.py` says; docs/operations.md lists
all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Protocol, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from saccade.server.engine.client import EngineClient
from saccade.server.engine.health import HasHealth
from saccade.server.engine.model_registry import Catalogue, ServedModel
from saccade.server.engine.outputs import DeviceUse
from saccade.server.engine.scheduler import Batch
from saccade.server.transport.certificates import expiry_s
from saccade.server.transport.collectors import (
    LATENCIES_S,
    CertificateCollector,
    DeviceCollector,
    HistogramCollector,
    ModelCollector,
    Tally,
    TallyCollector,
    register_process,
)
from saccade.server.transport.model_metrics import (
    SECONDS,
    About,
    Declared,
    Metric,
    ModelMetrics,
    declared_by,
)

SIZES: Final = tuple(1 << n for n in range(10, 26, 3))
"""Bounds of a snapshot's size: 1 KiB, times 8 up to 32 MiB."""
REQUESTS_S: Final = tuple(0.005 * 4**n for n in range(8))
"""Bounds of a request's time: 5 ms, times 4 up to 82 s."""


Family: TypeAlias = Counter | Gauge | Histogram | TallyCollector
"""A metric that is bound to no labels yet."""


class EngineUse(Protocol):
    """An engine's gauges, as far as they are this process's to count."""

    def slots_used(self, model: str) -> int:
        """Return how many of a model's slots are leased."""

    def ticks_waiting(self, model: str) -> int:
        """Return how many whole ticks wait in a model's queue."""


class Metrics:
    """Every metric of one process, in a registry of its own.

    The observer of the engine, of the session registry and of hot reloading.

    Args:
        models: The models that are served first.

    Attributes:
        registry: What is scraped.
        latency: By model: from the arrival of a session's newest event to its score.
        lag: By model: the same of its oldest unscored event.
        requests: By method, route and status: how long requests take.
    """

    refused: Annotated[Counter, About("Errors sent to clients", ("code",))]
    reloads: Annotated[
        Counter,
        About(
            "New versions of a checkpoint, by what became of them",
            ("model", "outcome"),
        ),
    ]
    background_failures: Annotated[
        Counter,
        About("Failures of background work, which is tried again", ("work",)),
    ]
    background_failures_in_a_row: Annotated[
        Gauge, About("Failures of background work since it last succeeded", ("work",))
    ]
    snapshots: Annotated[Counter, About("Times a session was saved")]
    snapshot_seconds: Annotated[
        Histogram, About("From a snapshot's begin to its record", buckets=SECONDS)
    ]
    snapshot_bytes: Annotated[
        Histogram, About("Size of a snapshot's record", buckets=SIZES)
    ]
    session_store_failures: Annotated[
        Counter, About("Times that the store of sessions failed")
    ]
    session_store_up: Annotated[
        Gauge, About("Whether the store of sessions works: 1 or 0")
    ]
    sessions_resumed: Annotated[Counter, About("Clients that came back")]
    watchers: Annotated[Gauge, About("Watchers of sessions now")]
    rate_pauses: Annotated[
        Counter,
        About("Times that a key's rate began to hold a connection's credit back"),
    ]
    draining: Annotated[Gauge, About("Whether the process is about to stop: 1 or 0")]
    processes: Annotated[Gauge, About("Processes of the server")]
    process_restarts: Annotated[
        Counter, About("Processes of the server that were started again", ("process",))
    ]

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self.registry = CollectorRegistry()
        self._families: dict[str, Family] = {}
        self._models: dict[str, ModelMetrics] = {}
        self._versions: dict[str, ServedModel] = {}
        self._create_histograms()
        for one in declared_by(type(self)):
            setattr(self, one.name, self._create(one, one.about.labels))
        self.session_store_up.set(1)
        self.processes.set(1)
        register_process(self.registry)
        for model in models:
            self.add(model)

    def _create_histograms(self) -> None:
        """Create the histograms that are observed most often."""
        self.latency = HistogramCollector(
            "saccade_event_latency_seconds",
            "From the arrival of a batch's newest event to its score",
            ("model",),
            LATENCIES_S,
        )
        self.lag = HistogramCollector(
            "saccade_session_lag_seconds",
            "From the arrival of a session's oldest unscored event to its score",
            ("model",),
            LATENCIES_S,
        )
        self.requests = HistogramCollector(
            "saccade_http_request_duration_seconds",
            "From a request to the end of its answer",
            ("method", "route", "status"),
            REQUESTS_S,
        )
        for collector in (self.latency, self.lag, self.requests):
            self.registry.register(collector)

    def add(self, model: ServedModel) -> None:
        """Add another version of a model, or another model."""
        self._versions[model.key] = model
        if model.name not in self._models:
            bind = partial(self._bound, model.name)
            latency, lag = self.latency.of(model.name), self.lag.of(model.name)
            self._models[model.name] = ModelMetrics(bind, latency, lag)
            for outcome in ("taken", "refused"):
                self.reloads.labels(model.name, outcome)  # 0 until there is one

    def model(self, name: str) -> ModelMetrics:
        """Return one model's metrics."""
        return self._models[name]

    def _bound(self, model: str, one: Declared) -> Metric:
        """Return a metric bound to a model; its first model creates the metric."""
        if one.name not in self._families:
            self._families[one.name] = self._create(one, ("model",))
        return self._families[one.name].labels(model)

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

    def watch_models(self, catalogue: Catalogue, engine: HasHealth) -> None:
        """Read which models are served, and how they are, at each scrape."""
        self.registry.register(ModelCollector(catalogue, engine))

    def watch_certificate(self, path: Path) -> None:
        """Expose when the certificate expires that the process has loaded."""
        self.registry.register(CertificateCollector(expiry_s(path.read_bytes())))

    def set_limits(self, *, sessions: int, slots: int) -> None:
        """Set the most that this process takes of each model.

        Args:
            sessions: At one time.
            slots: On all devices.
        """
        for metrics in self._models.values():
            metrics.sessions_limit.set(sessions)
            metrics.slots.set(slots)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def count_refusal(self, code: str) -> None:
        """Count an error that was sent to a client."""
        self.refused.labels(code).inc()

    def count_rate_pause(self) -> None:
        """Count a connection whose credit is held back for a while."""
        self.rate_pauses.inc()

    def note_background(self, work: str, failures: int) -> None:
        """Count a failure of background work, or note that the work succeeds.

        Args:
            work: Its name.
            failures: How often it has failed since it last succeeded.
        """
        counter = self.background_failures.labels(work)
        if failures:
            counter.inc()
        self.background_failures_in_a_row.labels(work).set(failures)

    def kept(self) -> None:
        """Count a session that was saved."""
        self.snapshots.inc()

    def saved(self, seconds: float, size: int) -> None:
        """Count how long a snapshot took, and its bytes."""
        self.snapshot_seconds.observe(seconds)
        self.snapshot_bytes.observe(size)

    def not_kept(self) -> None:
        """Count a failure of the store."""
        self.session_store_failures.inc()

    def store_works(self, *, works: bool) -> None:
        """Note that an outage of the store began, or is over."""
        self.session_store_up.set(works)

    def resumed(self) -> None:
        """Count a session that was resumed."""
        self.sessions_resumed.inc()

    def reloaded(self, model: str) -> None:
        """Count a new version that serves."""
        self.reloads.labels(model, "taken").inc()

    def not_reloaded(self, model: str) -> None:
        """Count a new version that was refused."""
        self.reloads.labels(model, "refused").inc()

    def compiled(self, model: str, seconds: float) -> None:
        """Set the time that a model took to be ready."""
        self._of(model).compile_seconds.set(seconds)

    def canary_missed(self, model: str) -> None:
        """Count a model that was refused for its canary's scores."""
        self._of(model).canary_failures.inc()

    def failed(self, model: str) -> None:
        """Count a failure of a model's pool."""
        self._of(model).engine_failures.inc()

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """Count a batch."""
        metrics = self._of(model)
        metrics.batches.inc()
        metrics.ticks.inc(batch.ticks)
        metrics.events_scored.inc(batch.ticks * self._versions[model].tick_events)
        rows_ticks = batch.bucket.rows * batch.bucket.ticks
        metrics.bucket_occupancy.observe(batch.ticks / rows_ticks)
        metrics.batch_seconds.observe(seconds)

    def _of(self, key: str) -> ModelMetrics:
        """Return the metrics of the model that a version is of."""
        return self._models[self._versions[key].name]

    def _total(self, read: Callable[[str], int], name: str) -> Callable[[], float]:
        """Return a function that adds up a reading of all versions of a model."""

        def total() -> float:
            versions = [*self._versions.values()]
            return float(sum(read(m.key) for m in versions if m.name == name))

        return total

    def _create(self, one: Declared, labels: tuple[str, ...]) -> Family:
        name, text = f"saccade_{one.name}", one.about.text
        if issubclass(one.kind, Tally):
            tallies = TallyCollector(name, text)
            self.registry.register(tallies)
            return tallies
        if issubclass(one.kind, Histogram):
            bounds = one.about.buckets
            return one.kind(name, text, labels, registry=self.registry, buckets=bounds)
        return one.kind(name, text, labels, registry=self.registry)
