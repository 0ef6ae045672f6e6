"""Metrics that cost nothing or little until they are scraped."""

from __future__ import annotations

import sys
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from saccade.server.engine.outputs import DeviceUse

LATENCIES_S: Final = tuple(1e-4 * 2**n for n in range(18))
"""Bounds of latencies: 100 µs, doubled up to 13 s."""


class Latencies:
    """A histogram to which one observation costs one addition."""

    def __init__(self) -> None:
        self._counts = [0] * (len(LATENCIES_S) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(LATENCIES_S, seconds)] += 1
        self._sum_s += seconds

    @property
    def counts(self) -> tuple[int, ...]:
        """Observations up to each bound and above the one before; the last, beyond."""
        return tuple(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return each bound with the number of observations up to it."""
        found, total = [], 0
        for bound, count in zip([*LATENCIES_S, None], self._counts, strict=True):
            total += count
            found.append(("+Inf" if bound is None else f"{bound:g}", float(total)))
        return found

    @property
    def sum_s(self) -> float:
        """The sum of all observations, s."""
        return self._sum_s


class LatencyCollector(Collector):
    """The histograms of all models under one name.

    Args:
        name: The metric's name, without the unit.
        text: What it measures.
    """

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._of: dict[str, Latencies] = {}

    def of(self, model: str) -> Latencies:
        """Return a model's histogram."""
        return self._of.setdefault(model, Latencies())

    def collect(self) -> Iterator[Metric]:
        """Yield the metric, as Prometheus scrapes it."""
        family = HistogramMetricFamily(self._name, self._text, labels=["model"])
        for model, latencies in self._of.items():
            family.add_metric([model], latencies.buckets(), latencies.sum_s)
        yield family


class ThreadCollector(Collector):
    """CPU time of the event loop's thread, of the devices', and of all others."""

    THREADS: Final = {"MainThread": "event_loop", "device": "device"}

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
        others_s = time.process_time() - sum(known_s.values())
        family.add_metric(["other"], max(0.0, others_s))
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
