"""Every stream that the engine scores, and who hears its outcomes.

The engine's device thread knows leases; the event loop knows receivers. This is
where one becomes the other, on the event loop's side: once per batch, not once per
session. Outcomes of a lease that has ended find no receiver and are dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from model.tokens import TokenChunk
from server.engine.engine import Engine
from server.engine.errors import EngineError
from server.engine.leases import Lease
from server.engine.outcomes import Failed, Outcome
from server.engine.pool import Scored
from server.engine.rows import Exported, RowState


class Receiver(Protocol):
    """Who hears what becomes of a stream; called on the event loop."""

    def scored(self, scored: Scored) -> None:
        """Take the scores of some ticks."""

    def failed(self, error: EngineError) -> None:
        """Learn that the stream is lost."""


class Streams:
    """The open streams of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._receivers: dict[Lease, Receiver] = {}

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the engine; its outcomes are heard on this loop."""

        def deliver(outcomes: list[Outcome]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens
                loop.call_soon_threadsafe(self._hear, outcomes)

        self._engine.start(deliver)

    def open(
        self,
        model: str,
        half_life_ms: float,
        receiver: Receiver,
        row: RowState | None = None,
    ) -> Stream:
        """Begin a stream, or go on with one from its row.

        Raises:
            EngineError: Unknown model, not ready, failed, or no slot free.
        """
        if row is None:
            lease = self._engine.open(model, half_life_ms)
        else:
            lease = self._engine.restore(model, row)
        self._receivers[lease] = receiver
        return Stream(self, lease, half_life_ms)

    def export(self, lease: Lease, done: Callable[[RowState], None]) -> None:
        """Read a stream's row; `done` hears it right after the ticks that are in it.

        It never does where the stream ends or is reset before.
        """
        self._engine.export(lease, done)

    def submit(self, lease: Lease, chunk: TokenChunk) -> None:
        """Queue a stream's events."""
        self._engine.submit(lease, chunk)

    def renew(self, lease: Lease, half_life_ms: float) -> Lease:
        """Make a stream forget its events."""
        receiver = self._receivers.pop(lease)
        renewed = self._engine.reset(lease, half_life_ms)
        self._receivers[renewed] = receiver
        return renewed

    def release(self, lease: Lease) -> None:
        """End a stream."""
        del self._receivers[lease]
        self._engine.release(lease)

    def _hear(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            receiver = self._receivers.get(outcome.lease)
            if receiver is None:
                continue
            match outcome:
                case Failed():
                    receiver.failed(outcome.error)
                case Exported():
                    outcome.done(outcome.row)
                case _:
                    receiver.scored(outcome)


class Stream:
    """One session's hold on the engine."""

    def __init__(self, streams: Streams, lease: Lease, half_life_ms: float) -> None:
        self._streams = streams
        self._lease = lease
        self._half_life_ms = half_life_ms
        self._open = True

    def submit(self, chunk: TokenChunk) -> None:
        """Queue events; they are scored once they make whole ticks."""
        self._streams.submit(self._lease, chunk)

    def export(self, done: Callable[[RowState], None]) -> None:
        """Read the row; see `Streams.export`."""
        self._streams.export(self._lease, done)

    def reset(self) -> None:
        """Forget everything; scores still on their way are not delivered."""
        self._lease = self._streams.renew(self._lease, self._half_life_ms)

    def close(self) -> None:
        """Give the slot back; a second call does nothing."""
        if self._open:
            self._open = False
            self._streams.release(self._lease)
