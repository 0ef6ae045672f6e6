"""Every stream that the engine scores, and who hears its outcomes.

The engine's device thread knows leases; the event loop knows receivers. This is
where one becomes the other, on the event loop's side: once per batch, not once per
session. Outcomes of a lease that has ended find no receiver and are dropped.

A stream is aboard, with a slot, or ashore, with its row in the host's memory and the
events that have come since beside it. It notices nothing of that, but for the time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import suppress

from saccade.server.engine.engine import Engine
from saccade.server.engine.errors import EngineError, SlotsExhausted
from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import EngineOutput, RowState
from saccade.server.engine.slot_allocator import SlotAllocator
from saccade.server.engine.stream import EngineStream, OutputHandler


class EngineClient:
    """The open streams of one engine.

    Args:
        engine: Scores them.
        places: How many may be open at one time, for each model.
    """

    def __init__(self, engine: Engine, places: int) -> None:
        self._engine = engine
        self._places = places
        self._open: Counter[str] = Counter()
        self._aboard: dict[Lease, EngineStream] = {}
        self._berths: defaultdict[str, SlotAllocator[EngineStream]] = defaultdict(
            SlotAllocator
        )

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the engine; its outcomes are heard on this loop."""

        def deliver(outcomes: list[EngineOutput]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens
                loop.call_soon_threadsafe(self.hear, outcomes)

        self._engine.start(deliver)

    def open_on(self, model: str) -> int:
        """Return how many streams of a model are open."""
        return self._open[model]

    def ashore(self, model: str) -> int:
        """Return how many streams of a model have no slot."""
        return self._open[model] - self._engine.slots_used(model)

    def open(
        self,
        model: str,
        half_life_ms: float,
        receiver: OutputHandler,
        row: RowState | None = None,
    ) -> EngineStream:
        """Begin a stream, or go on with one from its row.

        Raises:
            EngineError: Unknown model, not ready, failed, or no place free.
        """
        stream = EngineStream(self, model, half_life_ms, receiver, row)
        if self._open[model] >= self._places:
            raise SlotsExhausted(model, self._places)
        with suppress(SlotsExhausted):
            self._board(stream)
        self._open[model] += 1
        if not stream.aboard and not stream.idle:
            self.want(stream)
        return stream

    def want(self, stream: EngineStream) -> None:
        """Let a stream have a slot as soon as one can be had."""
        self._berths[stream.model].wait(stream)
        self._settle(stream.model)

    def stir(self, stream: EngineStream) -> None:
        """Note that events of a stream that is aboard have come."""
        self._berths[stream.model].stir(stream)

    def hand_over(self, old: Lease, new: Lease) -> None:
        """Note that a stream holds its slot under another lease."""
        self._aboard[new] = self._aboard.pop(old)

    def disembark(self, stream: EngineStream) -> None:
        """Take a stream's slot from it."""
        lease = stream.lease
        self._berths[stream.model].leave(stream)
        if lease is not None:
            del self._aboard[lease]
            stream.lease = None
            self._engine.release(lease)

    def close(self, stream: EngineStream) -> None:
        """End a stream."""
        self.disembark(stream)
        self._settle(stream.model)
        self._open[stream.model] -= 1
        if not self._open[stream.model]:  # it may be a version's last
            del self._open[stream.model]
            self._berths.pop(stream.model, None)

    def hear(self, outcomes: list[EngineOutput]) -> None:
        """Take what the device thread delivers."""
        for outcome in outcomes:
            stream = self._aboard.get(outcome.lease)
            if stream is not None:
                stream.hear(outcome)
        for model in {outcome.lease.model for outcome in outcomes}:
            self._settle(model)

    @property
    def engine(self) -> Engine:
        """What scores the streams."""
        return self._engine

    def _settle(self, model: str) -> None:
        """Give free slots to those that wait, and make others give way."""
        berths = self._berths.get(model)
        if berths is None or not berths.waiting:
            return
        with suppress(SlotsExhausted):
            while (stream := berths.next()) is not None:
                self._board_or_fail(stream)
        for stream in berths.giving_way():
            stream.go_ashore()

    def _board_or_fail(self, stream: EngineStream) -> None:
        try:
            self._board(stream)
        except SlotsExhausted:
            raise
        except EngineError as error:
            self._berths[stream.model].leave(stream)
            stream.receiver.failed(error)

    def _board(self, stream: EngineStream) -> None:
        stream.board()
        assert stream.lease is not None
        self._aboard[stream.lease] = stream
        self._berths[stream.model].take(stream)
