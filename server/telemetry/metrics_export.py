"""The metrics that Prometheus scrapes, sent over OTLP/HTTP as well."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

from saccade import __version__

EXPORTING: Final = "the export of metrics"
INTERVAL: Final = "OTEL_METRIC_EXPORT_INTERVAL"
INTERVAL_MS: Final = 60_000

Labels: TypeAlias = tuple[tuple[str, str], ...]
Points: TypeAlias = Callable[[Family, tuple[int, int]], Sum | Gauge | Histogram]


class NotExported(Exception):
    """The collector did not take the metrics; the log of `opentelemetry` says why."""

    def __str__(self) -> str:
        return "the collector did not take the metrics"


def period_s() -> float:
    """Return the time between two exports, s.

    Raises:
        ValueError: The variable is no positive number.
    """
    text = os.environ.get(INTERVAL, "") or str(INTERVAL_MS)
    try:
        period_ms = float(text)
    except ValueError:
        period_ms = 0.0
    if not 0 < period_ms < math.inf:
        raise ValueError(f"{INTERVAL} is {text!r}; it must be milliseconds, above 0")
    return period_ms / 1000


class MetricsExport:
    """Sends what registries hold to a collector.

    Args:
        resource: Describes the process.
        every_s: Time between two exports, s.

    Attributes:
        registries: What is sent.
    """

    def __init__(self, resource: Resource, every_s: float = INTERVAL_MS / 1000) -> None:
        self._resource = resource
        self.every_s = every_s
        self._exporter = OTLPMetricExporter()
        self._began_ns = time.time_ns()
        self.registries: list[CollectorRegistry] = []

    async def look(self) -> None:
        """Send all metrics once.

        Raises:
            NotExported: The collector did not take them.
        """
        data = self.collected()  # on the event loop, whose values they are
        if await asyncio.to_thread(self._exporter.export, data) != SUCCESS:
            raise NotExported

    def close(self) -> None:
        """Send all metrics for the last time."""
        self._exporter.export(self.collected())
        self._exporter.shutdown()

    def collected(self) -> MetricsData:
        """Return all metrics as they are now."""
        span = self._began_ns, time.time_ns()
        metrics = [
            converted(family, span)
            for registry in self.registries
            for family in registry.collect()
            if family.type in _POINTS
        ]
        scope = ScopeMetrics(InstrumentationScope("saccade", __version__), metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])


SUCCESS: Final = MetricExportResult.SUCCESS


def converted(family: Family, span: tuple[int, int]) -> Metric:
    """Return a family of Prometheus as OpenTelemetry's metric of the same name.

    Args:
        family: A counter, a gauge or a histogram.
        span: When the process began and now, ns since 1970.
    """
    data = _POINTS[family.type](family, span)
    return Metric(family.name, family.documentation, family.unit, data)


def _sum(family: Family, span: tuple[int, int]) -> Sum:
    points = [*_numbers(family, f"{family.name}_total", span)]
    return Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)


def _gauge(family: Family, span: tuple[int, int]) -> Gauge:
    return Gauge([*_numbers(family, family.name, span)])


def _numbers(
    family: Family, name: str, span: tuple[int, int]
) -> Iterator[NumberDataPoint]:
    for sample in family.samples:
        if sample.name == name:
            yield NumberDataPoint(dict(sample.labels), *span, sample.value)


def _histogram(family: Family, span: tuple[int, int]) -> Histogram:
    series: defaultdict[Labels, list[Sample]] = defaultdict(list)
    for sample in family.samples:
        labels = {name: v for name, v in sample.labels.items() if name != "le"}
        series[tuple(labels.items())].append(sample)
    points = [
        _histogram_point(family.name, labels, samples, span)
        for labels, samples in series.items()
    ]
    return Histogram(points, AggregationTemporality.CUMULATIVE)


def _histogram_point(
    name: str, labels: Labels, samples: list[Sample], span: tuple[int, int]
) -> HistogramDataPoint:
    """Return one series; Prometheus' buckets hold all below, OpenTelemetry's do not."""
    below = [one for one in samples if one.name == f"{name}_bucket"]
    totals = [int(one.value) for one in below]
    (sum_of_all,) = [one.value for one in samples if one.name == f"{name}_sum"]
    return HistogramDataPoint(
        dict(labels),
        *span,
        count=totals[-1],
        sum=sum_of_all,
        bucket_counts=[b - a for a, b in zip([0, *totals], totals, strict=False)],
        explicit_bounds=[float(one.labels["le"]) for one in below[:-1]],
        min=None,  # type: ignore[arg-type]  # Prometheus keeps none, and OTLP needs none
        max=None,  # type: ignore[arg-type]
    )


_POINTS: Final[dict[str, Points]] = {
    "counter": _sum,
    "gauge": _gauge,
    "histogram": _histogram,
}
"""How the points of each kind of family are written."""
