"""The metrics of one model and of its sessions, and how a metric is declared.

A metric is declared once, as an annotated attribute: its name is `saccade_` and the
attribute's, its kind is the type, and `About` has the rest. docs/operations.md lists
all. A model's metrics are bound to its label once: binding costs more than counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Final, NamedTuple, TypeAlias, get_type_hints

from prometheus_client import Counter, Gauge, Histogram

from saccade.server.transport.collectors import Observations, Tally

OCCUPANCY: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)

Metric: TypeAlias = Counter | Gauge | Histogram | Tally


class About(NamedTuple):
    """The declaration of a metric beside its name and kind.

    Attributes:
        text: What it counts.
        labels: Their names; each has a bounded set of values.
        buckets: The bounds of a histogram.
    """

    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class Declared(NamedTuple):
    """One metric as an attribute declares it."""

    name: str
    kind: type[Metric]
    about: About


def declared_by(owner: type) -> Iterator[Declared]:
    """Yield the metrics that a class declares as annotated attributes."""
    for name, hint in get_type_hints(owner, include_extras=True).items():
        for about in getattr(hint, "__metadata__", ()):
            yield Declared(name, hint.__origin__, about)


class ModelMetrics:
    """The metrics of one model, under its name; a model's versions share them.

    Args:
        bind: Returns a metric bound to the model.
        latency: See `Metrics.latency`.
        lag: See `Metrics.lag`.
    """

    events_received: Annotated[Tally, About("Events accepted")]
    events_dropped: Annotated[
        Tally, About("Events dropped to make room for newer ones")
    ]
    events_skipped: Annotated[
        Tally, About("Invalid events left out, where clients chose that")
    ]
    events_late: Annotated[
        Tally, About("Events scored later than their session's max_lag_ms")
    ]
    events_scored: Annotated[Counter, About("Events in whole ticks")]
    results_reported: Annotated[Tally, About("Results for clients")]
    results_superseded: Annotated[
        Tally, About("Results replaced by newer ones for a slow reader")
    ]
    credit_withheld_events: Annotated[
        Gauge, About("Credit that sessions lack to stay fresh")
    ]
    ticks: Annotated[Counter, About("Ticks scored")]
    batches: Annotated[Counter, About("Calls of the device")]
    bucket_occupancy: Annotated[
        Histogram, About("Real share of a batch's rows x ticks", buckets=OCCUPANCY)
    ]
    batch_seconds: Annotated[
        Histogram, About("From a batch's launch to its scores", buckets=SECONDS)
    ]
    compile_seconds: Annotated[Gauge, About("Time to compile and prove")]
    canary_failures: Annotated[
        Counter, About("Times that a model missed its canary's scores and was refused")
    ]
    engine_failures: Annotated[
        Counter, About("Times that a model's sessions were lost on the device")
    ]
    sessions: Annotated[Counter, About("Sessions begun")]
    sessions_open: Annotated[Gauge, About("Sessions open now")]
    sessions_limit: Annotated[Gauge, About("Sessions that may be open")]
    recordings: Annotated[Counter, About("Recordings classified")]
    slots: Annotated[Gauge, About("Slots on all devices")]
    slots_used: Annotated[Gauge, About("Slots lent")]
    queue_ticks: Annotated[Gauge, About("Whole ticks that wait for the device")]
    sessions_swapped_out: Annotated[
        Gauge, About("Sessions and recordings without a slot")
    ]
    sessions_ashore: Annotated[Gauge, About("Old name of saccade_sessions_swapped_out")]

    def __init__(
        self,
        bind: Callable[[Declared], Metric],
        latency: Observations,
        lag: Observations,
    ) -> None:
        for one in declared_by(type(self)):
            setattr(self, one.name, bind(one))
        self.latency = latency
        self.lag = lag


class SessionMetrics:
    """The observer of one session: counts for its model.

    Args:
        model: The model's metrics.

    Attributes:
        session: The session's name, once it has one; exemplars bear it.
    """

    def __init__(self, model: ModelMetrics) -> None:
        self.session = ""
        self._of = model

    def scored(self, latency_s: float, lag_s: float, late: int) -> None:
        """Count how long the events of the session's newest ticks took."""
        self._of.latency.observe(latency_s, self.session)
        self._of.lag.observe(lag_s, self.session)
        if late:
            self._of.events_late.inc(late)

    def reported(self, results: int) -> None:
        """Count results for the client."""
        if results:
            self._of.results_reported.inc(results)

    def dropped(self, events: int) -> None:
        """Count events that were dropped."""
        self._of.events_dropped.inc(events)

    def withheld(self, events: int) -> None:
        """Count a change of the credit that the session lacks."""
        self._of.credit_withheld_events.inc(events)


def value_of(metric: Counter | Gauge | Tally) -> float:
    """Return the value of a metric that is bound to its labels."""
    if isinstance(metric, Tally):
        return metric.value
    return float(next(iter(metric.collect())).samples[0].value)
