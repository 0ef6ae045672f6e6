"""The rates of one process over the last seconds, from samples of its counters."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from saccade.server.transport.collectors import LATENCIES_S
from saccade.server.transport.metrics import Metrics
from saccade.server.transport.model_metrics import ModelMetrics, value_of

SAMPLING: Final = "the sampling of rates"
SAMPLE_S: Final = 1.0
SAMPLES: Final = 6
"""Rates are those of so many samples, less one interval."""


class Counts(NamedTuple):
    """What a model's sessions have done since the process began."""

    events: float
    results: float
    dropped: float
    latencies: tuple[int, ...]

    @classmethod
    def of(cls, metrics: ModelMetrics) -> Counts:
        """Read a model's counters."""
        return cls(
            value_of(metrics.events_received),
            value_of(metrics.results_reported),
            value_of(metrics.events_dropped),
            metrics.latency.counts,
        )


class Sampler:
    """Samples the counters of one process, and tells their rates.

    Args:
        metrics: The counters.
        models: Returns the names of the models now.
        clock: Gives seconds.
    """

    def __init__(
        self,
        metrics: Metrics,
        models: Callable[[], Iterable[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._models = models
        self._clock = clock
        self._samples: deque[tuple[float, dict[str, Counts]]] = deque(maxlen=SAMPLES)
        self._sample()

    async def look(self) -> None:
        """Take a sample."""
        self._sample()

    def _sample(self) -> None:
        counts = {name: Counts.of(self._metrics.model(name)) for name in self._models()}
        self._samples.append((self._clock(), counts))

    def rates(self, model: str) -> dict[str, Any]:
        """Return what a model's sessions do, as `merged` adds it up."""
        metrics = self._metrics.model(model)
        rates: dict[str, Any] = {
            "sessions": value_of(metrics.sessions_open),
            "slots_used": value_of(metrics.slots_used),
            "queue_ticks": value_of(metrics.queue_ticks),
            "swapped_out": value_of(metrics.sessions_swapped_out),
        }
        known = [(at_s, each[model]) for at_s, each in self._samples if model in each]
        (began_s, first), (ended_s, last) = (
            (known[0], known[-1]) if known else 2 * [(0.0, Counts.of(metrics))]
        )
        lasted_s = max(ended_s - began_s, SAMPLE_S / 2)
        return rates | {
            "events_per_s": (last.events - first.events) / lasted_s,
            "results_per_s": (last.results - first.results) / lasted_s,
            "dropped_per_s": (last.dropped - first.dropped) / lasted_s,
            "latencies": [
                new - old
                for new, old in zip(last.latencies, first.latencies, strict=True)
            ],
        }


def merged(rates: Iterable[dict[str, Any] | None]) -> dict[str, Any]:
    """Add up rates of several processes, or models; None stands for none."""
    total: dict[str, Any] = {"latencies": [0] * (len(LATENCIES_S) + 1)}
    for each in rates:
        for name, number in (each or {}).items():
            if name == "latencies":
                pairs = zip(total[name], number, strict=True)
                total[name] = [one + other for one, other in pairs]
            else:
                total[name] = total.get(name, 0) + number
    return total


def percentile(counts: list[int], part: float) -> float | None:
    """Return about the latency that a part of all observations stays below, s.

    Args:
        counts: Observations up to each bound of `LATENCIES_S`, and those beyond.
        part: 0 to 1.
    """
    wanted, below, low = part * sum(counts), 0, LATENCIES_S[0] / 2
    for bound, count in zip(LATENCIES_S, counts, strict=False):
        if count and below + count >= wanted:
            return float(low * (bound / low) ** ((wanted - below) / count))
        below, low = below + count, bound
    return LATENCIES_S[-1] if sum(counts) else None
