"""One session's hold on the engine, whether it has a slot or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from saccade.model.tokens import TokenChunk
from saccade.server.engine.errors import EngineError
from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import (
    EngineOutput,
    ExportedState,
    RowState,
    StreamFailed,
    TickScores,
)
from saccade.server.engine.swapped_state import Done, SwappedState

if TYPE_CHECKING:
    from saccade.server.engine.client import EngineClient


class OutputHandler(Protocol):
    """Who hears what becomes of a stream; called on the event loop."""

    def scored(self, scored: TickScores) -> None:
        """Take the scores of some ticks."""

    def failed(self, error: EngineError) -> None:
        """Learn that the stream is lost."""


class EngineStream:
    """One session's hold on the engine.

    Args:
        streams: Who knows about the others.
        model: The model that scores it.
        half_life_ms: How fast its readout forgets.
        receiver: Who hears of it.
        row: Where it goes on from; None at its beginning.
    """

    def __init__(
        self,
        streams: EngineClient,
        model: str,
        half_life_ms: float,
        receiver: OutputHandler,
        row: RowState | None,
    ) -> None:
        self.model = model
        self.receiver = receiver
        self.lease: Lease | None = None
        self.served = 0
        self._streams = streams
        self._engine = streams.engine
        self._half_life_ms = half_life_ms
        self._luggage = SwappedState(row)
        self._under_way = self._luggage.events
        self._leave: object | None = None
        self._open = True

    @property
    def aboard(self) -> bool:
        """Whether it has a slot."""
        return self.lease is not None

    @property
    def idle(self) -> bool:
        """Whether it has no whole tick to score."""
        return self._under_way < self._engine.tick_events(self.model)

    @property
    def leaving(self) -> bool:
        """Whether its row is on its way to the host."""
        return self._leave is not None

    def submit(self, chunk: TokenChunk) -> None:
        """Queue events; they are scored once they make whole ticks."""
        self._under_way += len(chunk.tokens)
        if self.lease is not None and not self.leaving:
            self._engine.submit(self.lease, chunk)
            self._streams.stir(self)
            return
        self._luggage.add(chunk)
        self._want_slot_if_needed()

    def export(self, done: Done) -> None:
        """Read the row; `done` hears it right after the ticks that are in it.

        It never does where the stream ends or is reset before.
        """
        if self.lease is not None and not self.leaving:
            self._engine.export(self.lease, done)
        elif self.leaving:
            self._luggage.add(done)
        else:
            self._luggage.show(done)
            self._want_slot_if_needed()

    def reset(self) -> None:
        """Forget everything; scores still on their way are not delivered."""
        self._leave = None
        self._under_way = self.served = 0
        self._luggage = SwappedState()
        if self.lease is not None:
            old, self.lease = self.lease, None
            self.lease = self._engine.reset(old, self._half_life_ms)
            self._streams.hand_over(old, self.lease)

    def close(self) -> None:
        """Give the slot back; a second call does nothing."""
        if self._open:
            self._open = False
            self._streams.close(self)

    def board(self) -> None:
        """Take a slot and everything that waited ashore into it.

        Raises:
            EngineError: There is none, or no engine.
        """
        row = self._luggage.row
        if row is None:
            self.lease = self._engine.open(self.model, self._half_life_ms)
        else:
            self.lease = self._engine.restore(self.model, row)
        for item in self._luggage.items:
            if isinstance(item, TokenChunk):
                self._engine.submit(self.lease, item)
            else:
                self._engine.export(self.lease, item)
        self._luggage = SwappedState()
        self.served = 0

    def go_ashore(self) -> None:
        """Begin to leave the slot; what comes from now on waits beside the row."""
        assert self.lease is not None
        self._leave = leave = object()

        def leave_with(row: RowState) -> None:
            if self._leave is leave:
                self._leave = None
                self._streams.disembark(self)
                self._luggage.pack(row)
                self._want_slot_if_needed()

        self._engine.export(self.lease, leave_with)

    def _want_slot_if_needed(self) -> None:
        if self.lease is None and (not self.idle or self._luggage.questions):
            self._streams.want(self)

    def hear(self, outcome: EngineOutput) -> None:
        """Take what became of it."""
        match outcome:
            case StreamFailed():
                self.receiver.failed(outcome.error)
            case ExportedState():
                outcome.done(outcome.row)
            case _:
                ticks = len(outcome.logits)
                self.served += ticks
                self._under_way -= ticks * self._engine.tick_events(self.model)
                self.receiver.scored(outcome)
