"""Metrics that cost nothing or little until they are scraped."""

from __future__ import annotations

import math
import platform
import sys
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypeAlias

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import saccade
from saccade.server.engine.health import HasHealth
from saccade.server.engine.model_registry import Catalogue
from saccade.server.engine.outputs import DeviceUse

LATENCIES_S: Final = tuple(1e-4 * 2**n for n in range(18))
"""Bounds of latencies: 100 µs, doubled up to 13 s."""
COMPONENTS: Final = ("jax", "numpy", "fastapi")
"""Packages whose versions `saccade_build_info` has."""


EXEMPLAR_EVERY: Final = 16
"""Of so many observations in a bucket the first becomes its exemplar, and the first
after each scrape."""


class Tally:
    """A counter of the event loop's thread alone: an addition, without a lock.

    Attributes:
        value: The number so far.
    """

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int) -> None:
        """Add to the number."""
        self.value += amount


class TallyCollector(Collector):
    """Tallies of models under one name.

    Args:
        name: The metric's name.
        text: What it counts.
    """

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._of: dict[str, tuple[Tally, float]] = {}

    def labels(self, model: str) -> Tally:
        """Return a model's tally."""
        return self._of.setdefault(model, (Tally(), time.time()))[0]

    def collect(self) -> Iterator[Metric]:
        """Yield the metric, as Prometheus scrapes it."""
        family = CounterMetricFamily(self._name, self._text, labels=["model"])
        for model, (tally, created_s) in [*self._of.items()]:
            family.add_metric([model], float(tally.value), created_s)
        yield family


class Observations:
    """One histogram, to which one observation costs one addition.

    Args:
        bounds: The buckets' upper bounds, rising.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._next = [0] * len(self._counts)
        self._sum = 0.0
        self._newest: dict[int, tuple[str, float, float]] = {}

    def observe(self, value: float, session: str = "") -> None:
        """Count one observation.

        Args:
            value: In the metric's unit.
            session: The session that it is of, which may become an exemplar.
        """
        bucket = bisect_left(self._bounds, value)
        count = self._counts[bucket]
        self._counts[bucket] = count + 1
        self._sum += value
        if session and count >= self._next[bucket]:
            self._next[bucket] = count + EXEMPLAR_EVERY
            self._newest[bucket] = (session, value, time.time())

    @property
    def counts(self) -> tuple[int, ...]:
        """Observations up to each bound and above the one before; the last, beyond."""
        return tuple(self._counts)

    @property
    def sum(self) -> float:
        """The sum of all observations."""
        return self._sum

    def buckets(self) -> list[tuple[str, float, Exemplar | None]]:
        """Return each bound, the observations up to it, and the bucket's exemplar."""
        found, total = [], 0
        self._next = [*self._counts]
        bounds = [*self._bounds, math.inf]
        for n, (bound, count) in enumerate(zip(bounds, self._counts, strict=True)):
            total += count
            found.append((_written(bound), float(total), self._exemplar(n)))
        return found

    def _exemplar(self, bucket: int) -> Exemplar | None:
        newest = self._newest.get(bucket)
        if newest is None:
            return None
        session, value, at_s = newest
        return Exemplar({"session": session}, value, at_s)


def _written(bound: float) -> str:
    """Write a bound as a label, which always shows that it is a float."""
    return "+Inf" if bound == math.inf else repr(round(bound, 9))


class HistogramCollector(Collector):
    """Histograms under one name, told apart by labels.

    Args:
        name: The metric's name.
        text: What it measures.
        labels: The names of the labels.
        bounds: The buckets' upper bounds, rising.
    """

    def __init__(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        self._name, self._text = name, text
        self._labels, self._bounds = labels, bounds
        self._of: dict[tuple[str, ...], Observations] = {}

    def of(self, *values: str) -> Observations:
        """Return the histogram of some values of the labels."""
        if values not in self._of:
            self._of[values] = Observations(self._bounds)
        return self._of[values]

    def collect(self) -> Iterator[Metric]:
        """Yield the metric, as Prometheus scrapes it."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, one in [*self._of.items()]:
            buckets: Any = one.buckets()
            family.add_metric(values, buckets, one.sum)
        yield family


class ThreadCollector(Collector):
    """CPU time of the event loop's thread, of the devices', and of all others."""

    THREADS: Final = {"MainThread": "event_loop", "device": "device"}

    def __init__(self) -> None:
        self._others_s = 0.0

    def collect(self) -> Iterator[Metric]:
        """Yield the metric, as Prometheus scrapes it."""
        family = CounterMetricFamily(
            "saccade_thread_cpu_seconds", "CPU time by thread", labels=["thread"]
        )
        known_s: defaultdict[str, float] = defaultdict(float)
        for thread in threading.enumerate():
            name = self.THREADS.get(thread.name)
            if name is not None and thread.ident is not None:
                spent_s = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
                known_s[name] += spent_s
        for name, spent_s in known_s.items():
            family.add_metric([name], spent_s)
        # The clocks are read one after another: where the others rest, the difference
        # wavers by microseconds, and a counter that falls counts for a restart.
        others_s = time.process_time() - sum(known_s.values())
        self._others_s = max(self._others_s, others_s)
        family.add_metric(["other"], self._others_s)
        yield family


DeviceMetric: TypeAlias = tuple[Any, str, str, Callable[[DeviceUse], float]]
"""A metric's kind, its name, its text and its number."""


class DeviceCollector(Collector):
    """What each device of an engine does.

    Args:
        use: Returns it.
    """

    def __init__(self, use: Callable[[], list[DeviceUse]]) -> None:
        self._use = use

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as Prometheus scrapes them."""
        uses = self._use()
        for kind, name, text, read in DEVICE_METRICS:
            family = kind(f"saccade_device_{name}", text, labels=["device"])
            for use in uses:
                family.add_metric([use.name], read(use))
            yield family


DEVICE_METRICS: Final[tuple[DeviceMetric, ...]] = (
    (CounterMetricFamily, "batches", "Calls of one device", lambda use: use.batches),
    (CounterMetricFamily, "events_scored", "Events in whole ticks that one device "
     "scored", lambda use: use.events),
    (CounterMetricFamily, "batch_seconds", "From each batch's launch to its scores, on "
     "one device, added up", lambda use: use.batch_s),
    (CounterMetricFamily, "busy_seconds", "Time that one device's thread had work, "
     "added up", lambda use: use.busy_s),
    (CounterMetricFamily, "recompiles", "Programs compiled on one device after its "
     "models were ready: must stay 0", lambda use: use.recompiles),
    (CounterMetricFamily, "failures", "Times that a model's sessions were lost on one "
     "device", lambda use: use.failures),
    (GaugeMetricFamily, "slots_used", "Slots lent on one device, of all models",
     lambda use: use.slots_used),
    (GaugeMetricFamily, "queue_ticks", "Whole ticks that wait for one device",
     lambda use: use.ticks_waiting),
)  # fmt: skip


class DeviceMemoryCollector(Collector):
    """Memory of the accelerators; empty where there is none, or no JAX here."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metric, as Prometheus scrapes it."""
        family = GaugeMetricFamily(
            "saccade_device_memory_bytes",
            "Memory of the device",
            labels=["device", "state"],
        )
        jax = sys.modules.get("jax")
        for device in jax.local_devices() if jax else ():
            stats = device.memory_stats() or {}
            for state in ("bytes_in_use", "bytes_limit"):
                if state in stats:
                    name = f"{device.platform}:{device.id}"
                    family.add_metric(
                        [name, state.removeprefix("bytes_")], stats[state]
                    )
        yield family


class ModelCollector(Collector):
    """Which models are served, and how they are.

    Args:
        catalogue: The served versions.
        engine: Knows how each is.
    """

    def __init__(self, catalogue: Catalogue, engine: HasHealth) -> None:
        self._catalogue, self._engine = catalogue, engine

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as Prometheus scrapes them."""
        facts = ["model", "hash", "precision", "execution"]
        info = InfoMetricFamily(
            "saccade_model", "The versions of the models that are served", labels=facts
        )
        ready, error = (
            GaugeMetricFamily(f"saccade_model_{name}", text, labels=["model"])
            for name, text in MODEL_GAUGES.items()
        )
        models = self._engine.health.models
        for model in [*self._catalogue.current.values(), *self._catalogue.older]:
            health = models.get(model.key)
            if health is None:  # it is being removed
                continue
            canary = health.canary
            precision = "" if canary is None else canary.matmul_precision
            known = [model.name, model.content_hash, precision, model.execution]
            info.add_metric(known, {})
            if model is self._catalogue.current.get(model.name):
                ready.add_metric([model.name], float(health.state == "ready"))
                if canary is not None:
                    error.add_metric([model.name], canary.error)
        yield from (info, ready, error)


MODEL_GAUGES: Final = {
    "ready": "Whether a model takes sessions: 1 or 0",
    "canary_error_ratio": "Largest error of the canary's scores, relative to the "
    "largest score",
}


class CertificateCollector(Collector):
    """When the certificate for https expires.

    Args:
        expiry_s: In s since 1970.
    """

    def __init__(self, expiry_s: float) -> None:
        self._expiry_s = expiry_s

    def collect(self) -> Iterator[Metric]:
        """Yield the metric, as Prometheus scrapes it."""
        name = "saccade_tls_certificate_expiry_timestamp_seconds"
        text = "When the first certificate of the chain that is served expires"
        yield GaugeMetricFamily(name, text, value=self._expiry_s)


def register_process(registry: CollectorRegistry) -> None:
    """Register what any process exposes: memory, CPU, Python, versions, devices."""
    build = Info("saccade_build", "Versions of what runs", registry=registry)
    build.info({"version": saccade.__version__, **_versions()})
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(ThreadCollector())
    registry.register(DeviceMemoryCollector())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in COMPONENTS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found
