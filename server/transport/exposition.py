"""The answer to a scrape, in the format that is asked for.

OpenMetrics names the session of a bucket's newest observation, as an exemplar. The
names of others' sessions are an operator's to see, so others get no exemplars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Collected(Protocol):
    """What is encoded: a registry, or the sum of several."""

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""


class Format(NamedTuple):
    """How the answer to a scrape is written.

    Attributes:
        encode: Writes the metrics.
        media_type: Of what it writes.
        exemplars: Whether sessions may be named.
    """

    encode: Callable[[Any], bytes]
    media_type: str
    exemplars: bool

    def written(self, found: Collected) -> bytes:
        """Return metrics as they are answered."""
        return self.encode(found if self.exemplars else _Nameless(found))


def chosen(accept: str, *, operator: bool) -> Format:
    """Return the format for a request's `Accept` header.

    Args:
        accept: OpenMetrics where it names that, else Prometheus' text format.
        operator: Whether the request may see all sessions.
    """
    encode, media_type = choose_encoder(accept)
    return Format(encode, media_type, operator)


class _Nameless(Collector):
    """Metrics without exemplars."""

    def __init__(self, found: Collected) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        for metric in self._found.collect():
            metric.samples = [one._replace(exemplar=None) for one in metric.samples]
            yield metric
