"""The metrics of several processes as those of one server: numbers are added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import Exemplar, Metric
from prometheus_client.registry import Collector

LEAST: Final = (
    "_created",
    "_info",
    "_ready",
    "_start_time_seconds",
    "_timestamp_seconds",
    "_up",
)
"""Ends of the names whose smallest number counts: when the first process began; whether
it is so in all; a fact, which is 1 in each."""
GREATEST: Final = ("_in_a_row", "_ratio", "saccade_draining")
"""Ends of the names whose largest number counts: the worst of all."""

LASTING: Final = frozenset({"counter", "histogram"})
"""Kinds whose numbers only grow: they count for the server after their process too."""

Sample: TypeAlias = tuple[str, dict[str, str], float, "PlainExemplar | None"]
PlainExemplar: TypeAlias = tuple[dict[str, str], float, float | None]
"""Labels, value, and when it was, in s since 1970."""
_Place: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]


class Family(NamedTuple):
    """One metric of one process, as msgpack takes it.

    Attributes:
        name: The metric's name.
        text: Its documentation.
        kind: `counter`, `gauge`, `histogram` and so on.
        samples: For each number its name, its labels, its value and its exemplar.
    """

    name: str
    text: str
    kind: str
    samples: list[Sample]


Families: TypeAlias = Sequence[Sequence[Any]]
"""A process's families, as they are or as lists."""


def families_of(registry: CollectorRegistry) -> list[Family]:
    """Return what a process has counted."""
    return [*_families(registry)]


def _families(metrics: Collector) -> Iterator[Family]:
    for metric in metrics.collect():
        samples: list[Sample] = [
            (one.name, one.labels, one.value, _plain(one.exemplar))
            for one in metric.samples
        ]
        yield Family(metric.name, metric.documentation, metric.type, samples)


def merged(processes: Iterable[Families]) -> Collector:
    """Return the metrics of all processes.

    Args:
        processes: For each process its families, as lists.
    """
    return _Sum(processes)


class Counts:
    """What each process of a server has counted, and what those that ended had.

    So no sum falls where a process ends: what it told last is kept.
    """

    def __init__(self) -> None:
        self._told: dict[int, Families] = {}
        self._ended: Families = []

    def hear(self, process: int, families: Families) -> None:
        """Take what a process has counted so far."""
        self._told[process] = families

    def end(self, process: int) -> None:
        """Keep what a process had told that has ended; its place is another's now."""
        lasting = [
            [name, text, kind, [(*sample[:3], None) for sample in samples]]
            for name, text, kind, samples in self._told.pop(process, [])
            if kind in LASTING
        ]
        self._ended = [*_families(merged([self._ended, lasting]))]

    def all(self) -> list[Families]:
        """Return what all have counted, as `merged` takes it."""
        return [self._ended, *self._told.values()]


def _plain(exemplar: Exemplar | None) -> PlainExemplar | None:
    if exemplar is None:
        return None
    at_s = exemplar.timestamp
    return exemplar.labels, exemplar.value, None if at_s is None else float(at_s)


class _Sum(Collector):
    def __init__(self, processes: Iterable[Families]) -> None:
        self._metrics: dict[str, Metric] = {}
        self._values: dict[str, dict[_Place, float]] = {}
        self._exemplars: dict[_Place, PlainExemplar] = {}
        for families in processes:
            for family in families:
                self._add(Family(*family))

    def collect(self) -> Iterator[Metric]:
        """Yield the sums."""
        for name, metric in self._metrics.items():
            metric.samples.clear()
            for place, value in self._values[name].items():
                sample, labels = place
                newest = self._exemplars.get(place)
                exemplar = None if newest is None else Exemplar(*newest)
                metric.add_sample(sample, dict(labels), value, exemplar=exemplar)
            yield metric

    def _add(self, family: Family) -> None:
        metric = Metric(family.name, family.text, family.kind)
        self._metrics.setdefault(family.name, metric)
        values = self._values.setdefault(family.name, {})
        for sample, labels, value, exemplar in family.samples:
            place = (sample, tuple(sorted(labels.items())))
            values[place] = _joined(sample, values.get(place), value)
            if exemplar is not None:
                self._keep_newest(place, exemplar)

    def _keep_newest(self, place: _Place, exemplar: PlainExemplar) -> None:
        known = self._exemplars.get(place)
        if known is None or (known[2] or 0.0) <= (exemplar[2] or 0.0):
            self._exemplars[place] = exemplar


def _joined(sample: str, known: float | None, value: float) -> float:
    """Return the server's number from those of the processes so far and of one more."""
    if known is None:
        return value
    if sample.endswith(LEAST):
        return min(known, value)
    if sample.endswith(GREATEST):
        return max(known, value)
    return known + value
