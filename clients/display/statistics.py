"""Statistics of one stream for a view: a snapshot, a history and a summary."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from saccade.clients.session import StreamStats
from saccade.clients.sources import Timeline
from saccade.server.protocol.messages import Closed, Opened, Result

HISTORY_COLUMNS: Final = 64
FIRST_COLUMN_US: Final = 5_000
WIDEST_COLUMN_US: Final = 320_000
"""64 of these show the last 20 s."""
RATE_WINDOW_S: Final = 2.0
RECENT_LATENCIES: Final = 256


class Moment(NamedTuple):
    """One column of the history: the last result in a span of stream time."""

    column: int
    label: str
    confidence: float
    truth: str | None


class History:
    """The results of a whole stream, thinned to a bounded number of columns.

    Columns begin narrow, so that a short recording fills the strip. When there are
    too many, pairs are joined, up to `WIDEST_COLUMN_US`; then the oldest are removed.
    """

    def __init__(self, columns: int = HISTORY_COLUMNS) -> None:
        self._most = columns
        self._column_us = FIRST_COLUMN_US
        self.moments: list[Moment] = []

    def append(
        self, t_us: int, label: str, confidence: float, truth: str | None
    ) -> None:
        """Add a result; it replaces an earlier one of the same column."""
        moment = Moment(t_us // self._column_us, label, confidence, truth)
        if self.moments and self.moments[-1].column >= moment.column:
            # Time runs backwards only after a reset, which begins another stream.
            del self.moments[self._place(moment.column) :]
        self.moments.append(moment)
        while self._span() > self._most and self._column_us < WIDEST_COLUMN_US:
            self._join()
        while self._span() > self._most:
            del self.moments[0]

    def _place(self, column: int) -> int:
        earlier = (i for i, moment in enumerate(self.moments) if moment.column < column)
        return max(earlier, default=-1) + 1

    def _span(self) -> int:
        return self.moments[-1].column - self.moments[0].column + 1

    def _join(self) -> None:
        self._column_us *= 2
        halves = (moment._replace(column=moment.column // 2) for moment in self.moments)
        self.moments = list({moment.column: moment for moment in halves}.values())


class Latency(NamedTuple):
    """Percentiles of the results' latencies, in ms."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Snapshot:
    """The state of a stream at one moment, for a view to show."""

    source: str
    model: str
    labels: list[str]
    scores: list[float] | None
    label: str | None
    confidence: float
    truth: str | None
    stream_s: float
    wall_s: float
    events: int
    events_per_s: float
    latency: Latency | None
    waiting: int
    refused_events: int
    dropped_events: int
    skipped_results: int
    history: list[Moment]


@dataclass(frozen=True)
class Summary:
    """The outcome of a stream that has ended."""

    source: str
    model: str
    events_sent: int
    events_scored: int
    events_pending: int
    events_refused: int
    events_dropped: int
    frames_refused: int
    label: str | None
    confidence: float | None
    stream_s: float
    wall_s: float
    events_per_s: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    results: int
    results_skipped: int
    agreement: float | None
    """The part of the results whose label was the true one then; None if unknown."""
    interrupted: bool
    first_refusal: str | None = None
    """The server's sentence about the first frame that it refused."""
    events_skipped: int = 0
    """Invalid events that were left out, where that was chosen."""


class Tally:
    """Running statistics of one stream, from its results and its own counts `stats`."""

    def __init__(
        self,
        source: str,
        opened: Opened,
        stats: StreamStats,
        truth: Timeline,
        now_s: float,
    ) -> None:
        self._source = source
        self._opened = opened
        self._stats = stats
        self._truth = truth
        self._began_s = now_s
        self._history = History()
        self._latest: Result | None = None
        self._consumed: deque[tuple[float, int]] = deque([(now_s, 0)])
        self._with_truth = 0
        self._correct = 0

    def add(self, result: Result) -> None:
        """Count a result."""
        self._latest = result
        truth = self._truth.at(result.t_us)
        played_us = self._played_us(result.t_us)
        self._history.append(played_us, result.label, result.confidence, truth)
        if truth is not None:
            self._with_truth += 1
            self._correct += result.label == truth

    def snapshot(self, now_s: float) -> Snapshot:
        """Return the state at `now_s`."""
        result, stats = self._latest, self._stats
        return Snapshot(
            source=self._source,
            model=self._opened.model,
            labels=self._opened.labels,
            scores=None if result is None else softmax(result.logits),
            label=None if result is None else result.label,
            confidence=0.0 if result is None else result.confidence,
            truth=None if result is None else self._truth.at(result.t_us),
            stream_s=0.0 if result is None else self._played_us(result.t_us) * 1e-6,
            wall_s=now_s - self._began_s,
            events=stats.events or stats.acked_events,
            events_per_s=self._rate(now_s),
            latency=_latency(list(stats.latencies_ms)[-RECENT_LATENCIES:]),
            waiting=stats.events - stats.dropped_locally - stats.acked_events,
            refused_events=stats.refused_events,
            dropped_events=stats.dropped_events,
            skipped_results=stats.skipped_results,
            history=list(self._history.moments),
        )

    def summary(
        self, closed: Closed, now_s: float, *, interrupted: bool = False
    ) -> Summary:
        """Return the outcome, from the final scores."""
        stats = self._stats
        latency = _latency(list(stats.latencies_ms))
        wall_s = now_s - self._began_s
        # Of forwarded words only the server counts the events.
        sent = stats.events or closed.events + closed.pending
        return Summary(
            source=self._source,
            model=self._opened.model,
            events_sent=sent,
            events_scored=closed.events,
            events_pending=closed.pending,
            events_refused=stats.refused_events,
            events_dropped=stats.dropped_events,
            frames_refused=stats.refused_frames,
            first_refusal=stats.first_refusal,
            events_skipped=stats.skipped_events,
            label=closed.label,
            confidence=closed.confidence,
            stream_s=self._played_us(closed.t_us) * 1e-6,
            wall_s=wall_s,
            events_per_s=sent / wall_s if wall_s > 0 else 0.0,
            latency_p50_ms=None if latency is None else latency.p50_ms,
            latency_p99_ms=None if latency is None else latency.p99_ms,
            results=stats.results,
            results_skipped=stats.skipped_results
            + stats.superseded_results
            + stats.lost_results,
            agreement=self._correct / self._with_truth if self._with_truth else None,
            interrupted=interrupted,
        )

    def _played_us(self, t_us: int | None) -> int:
        """Return the time from the first event to a timestamp of the source, µs."""
        return 0 if t_us is None else t_us - (self._stats.start_us or 0)

    def _rate(self, now_s: float) -> float:
        consumed = self._stats.acked_events
        self._consumed.append((now_s, consumed))
        while len(self._consumed) > 2 and self._consumed[1][0] <= now_s - RATE_WINDOW_S:
            self._consumed.popleft()
        began_s, before = self._consumed[0]
        elapsed_s = now_s - began_s
        return (consumed - before) / elapsed_s if elapsed_s > 0 else 0.0


def softmax(logits: list[float]) -> list[float]:
    """Return scores as probabilities, one a class."""
    powers = np.exp(np.asarray(logits) - max(logits))
    shares: list[float] = (powers / powers.sum()).tolist()
    return shares


def _latency(latencies_ms: list[float]) -> Latency | None:
    if not latencies_ms:
        return None
    p50_ms, p99_ms = np.percentile(latencies_ms, [50, 99])
    return Latency(float(p50_ms), float(p99_ms))
