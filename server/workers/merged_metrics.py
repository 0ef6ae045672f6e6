"""The metrics of several processes as those of one server: numbers are added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector


class Family(NamedTuple):
    """One metric of one process, as msgpack takes it.

    Attributes:
        name: The metric's name.
        text: Its documentation.
        kind: `counter`, `gauge`, `histogram` and so on.
        samples: For each number its name, its labels and its value.
    """

    name: str
    text: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


def families_of(registry: CollectorRegistry) -> list[Family]:
    """Return what a process has counted."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [(one.name, one.labels, one.value) for one in metric.samples],
        )
        for metric in registry.collect()
    ]


def merged_exposition(processes: Iterable[Iterable[Sequence[Any]]]) -> bytes:
    """Return the metrics of processes in Prometheus' text format.

    Args:
        processes: For each process its families, as lists.
    """
    registry = CollectorRegistry()
    registry.register(_Sum(processes))
    return generate_latest(registry)


class _Sum(Collector):
    def __init__(self, processes: Iterable[Iterable[Sequence[Any]]]) -> None:
        self._metrics: dict[str, Metric] = {}
        self._values: dict[str, dict[Any, float]] = {}
        for families in processes:
            for family in families:
                self._add(Family(*family))

    def collect(self) -> Iterator[Metric]:
        """Yield the sums."""
        for name, metric in self._metrics.items():
            metric.samples.clear()
            for (sample, labels), value in self._values[name].items():
                metric.add_sample(sample, dict(labels), value)
            yield metric

    def _add(self, family: Family) -> None:
        metric = Metric(family.name, family.text, family.kind)
        self._metrics.setdefault(family.name, metric)
        values = self._values.setdefault(family.name, {})
        for sample, labels, value in family.samples:
            place = (sample, tuple(sorted(labels.items())))
            if sample.endswith(("_created", "_start_time_seconds", "_up")):
                # when the first of them began; whether it is so for all
                values[place] = min(values.get(place, value), value)
            else:
                values[place] = values.get(place, 0.0) + value
