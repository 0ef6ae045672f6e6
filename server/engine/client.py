"""The event loop's side of the engine: open streams, and the outputs of each.

The device thread works with leases, the event loop with streams; `EngineClient` maps
one to the other on the event loop, with one wake-up a batch. An output of a lease that
has ended has no stream and is dropped.

Streams may outnumber slots. A stream is resident, with a slot, or swapped out: its row
and the events that came since wait in the host's memory. A stream that has nothing to
score is swapped out as soon as another needs its slot. Where all are busy they take
turns. Scores are the same either way.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Final, Protocol

from saccade.model.tokens import TakenChunk, TokenChunk
from saccade.server.engine.errors import EngineError, SlotsExhausted
from saccade.server.engine.frontend import Frontend
from saccade.server.engine.leases import Lease
from saccade.server.engine.output_turns import ALONE_TICKS, OutputTurns
from saccade.server.engine.outputs import (
    DeviceOutput,
    EngineOutput,
    ExportedState,
    RowState,
    StreamFailed,
    TickScores,
)
from saccade.server.engine.slot_allocator import SlotAllocator
from saccade.server.engine.swapped_state import OnRow, SwappedState
from saccade.server.engine.tick_shares import RecentTicks, TickShares
from saccade.server.engine.time_share import TimeShare

TURN_S: Final = 0.0005
"""How long outputs are handled in one turn of the event loop, and one lease's further:
meanwhile no frame is read, and no message is sent."""

HURRY_S: Final = 0.0005
"""Time between two sends of commands before the end of the event loop's turn, s."""


AT_ONCE_SHARE: Final = 0.2
"""The part of the event loop's time that may go to scoring on its own thread."""

AT_ONCE_S: Final = 0.001
"""How much of that time may be saved up, s."""


class OutputHandler(Protocol):
    """Receives the outputs of one stream, on the event loop."""

    def scored(self, scores: TickScores) -> None:
        """Receive the scores of some ticks."""

    def failed(self, error: EngineError) -> None:
        """Receive the error that ends the stream."""


class EngineStream:
    """One session's stream of events through the engine; `EngineClient.open` makes it.

    Args:
        client: The client that opens the stream.
        model: The model that scores it.
        half_life_ms: How fast its readout forgets.
        handler: Receives its outputs.
        row: The state to continue from; None at a stream's beginning.

    Raises:
        UnknownServable: No model has that name.
    """

    def __init__(
        self,
        client: EngineClient,
        model: str,
        half_life_ms: float,
        handler: OutputHandler,
        row: RowState | None,
    ) -> None:
        self.model = model
        self.handler = handler
        self.lease: Lease | None = None
        self.ticks_resident = 0
        """Ticks scored since the stream was swapped in."""
        self._client = client
        self._frontend = client.frontend
        self._tick_events = client.frontend.tick_events(model)
        self._half_life_ms = half_life_ms
        self._swapped = SwappedState(row)
        self._unscored = self._swapped.events
        self._swap_out: object | None = None
        self._exports = 0
        self._at_once: list[TickScores] = []
        self._recent = RecentTicks()
        self._open = True

    @property
    def resident(self) -> bool:
        """Whether the stream has a slot."""
        return self.lease is not None

    @property
    def idle(self) -> bool:
        """Whether the stream has no whole tick to score."""
        return self._unscored < self._tick_events

    @property
    def swapping_out(self) -> bool:
        """Whether the stream's row is on its way to the host."""
        return self._swap_out is not None

    @property
    def needs_slot(self) -> bool:
        """Whether the stream has no slot, and work that takes one."""
        return self.lease is None and (not self.idle or self._swapped.pending_exports)

    def submit(self, chunk: TakenChunk) -> None:
        """Queue events; they are scored once they make whole ticks."""
        was_idle = self.idle
        self._unscored += len(chunk.tokens)
        if self.lease is not None and self._swap_out is None:
            quiet = was_idle and not (self._exports or self._at_once)
            at_once = self._recent if quiet else None
            scores = self._client.submit(self.lease, chunk, at_once)
            self._client.touch(self)
            if scores is not None:
                self._at_once.append(scores)
            elif was_idle and not self.idle:
                self._client.hurry()
        else:
            if not isinstance(chunk, TokenChunk):
                chunk = chunk.with_gaps()
            self._swapped.add(chunk)
            self._client.request_slot(self)

    def export(self, done: OnRow) -> None:
        """Read the row; `done` receives it right after the scores that are in it.

        `done` is never called where the stream ends or is reset before.
        """
        if self.lease is not None and not self.swapping_out:
            self._export(self.lease, done)
        elif self.swapping_out:
            self._swapped.add(done)
        else:
            self._swapped.export(done)
            self._client.request_slot(self)

    def deliver(self) -> None:
        """Have the scores handled that were not waited for, if there are any.

        It happens soon by itself, but for a caller that can do it now that is sooner.
        """
        while self._at_once:
            scores, self._at_once = self._at_once, []
            self._client.handle([*scores])

    def reset(self) -> None:
        """Forget everything; scores still on their way are not delivered."""
        self._swap_out = None
        self._exports = 0
        self._at_once.clear()
        self._unscored = self.ticks_resident = 0
        self._swapped = SwappedState()
        if self.lease is not None:
            old, self.lease = self.lease, None
            self.lease = self._frontend.reset(old, self._half_life_ms)
            self._client.replace_lease(self, old)

    def close(self) -> None:
        """End the stream and free its slot; a second call does nothing."""
        if self._open:
            self._open = False
            self._client.close(self)

    # From here on, called by the client.

    def swap_in(self) -> Lease:
        """Take a slot, with everything that waits on the host.

        Raises:
            EngineError: There is no slot, or no engine.
        """
        row = self._swapped.row
        if row is None:
            lease = self._frontend.open(self.model, self._half_life_ms)
        else:
            lease = self._frontend.restore(self.model, row)
        for item in self._swapped.items:
            if isinstance(item, TokenChunk):
                self._frontend.submit(lease, item)
            else:
                self._export(lease, item)
        self._swapped = SwappedState()
        self.ticks_resident = 0
        self.lease = lease
        return lease

    def begin_swap_out(self) -> None:
        """Export the row; what is submitted from now on waits beside it."""
        assert self.lease is not None
        self._swap_out = this = object()

        def finish(row: RowState) -> None:
            if self._swap_out is this:  # no reset came between
                self._swap_out = None
                self._client.free_slot(self)
                self._swapped.complete(row)
                self._client.request_slot(self)

        self._export(self.lease, finish)

    def _export(self, lease: Lease, done: Callable[[RowState], None]) -> None:
        self._exports += 1
        self._frontend.export(lease, done)

    def handle(self, output: EngineOutput) -> None:
        """Pass one output on, and count the ticks in it."""
        self.deliver()  # what was scored here came before
        match output:
            case TickScores():
                ticks = len(output.logits)
                self._client.shares.count(self._recent, ticks, time.monotonic())
                self.ticks_resident += ticks
                self._unscored -= ticks * self._tick_events
                self.handler.scored(output)
            case StreamFailed():
                self.handler.failed(output.error)
            case ExportedState():
                self._exports -= 1
                output.done(output.row)


class EngineClient:
    """The open streams of one front end.

    Args:
        frontend: Leases slots to them.
        capacity: How many may be open at one time, for each model.
    """

    def __init__(self, frontend: Frontend, capacity: int) -> None:
        self.frontend = frontend
        self._capacity = capacity
        self._open: Counter[str] = Counter()
        self._resident: dict[Lease, EngineStream] = {}
        self._lock = Lock()
        self._delivered: list[DeviceOutput] = []
        self._woken = False
        self._turns = OutputTurns()
        self._hurried_s = -math.inf
        self.shares = TickShares()
        self._own_time = TimeShare(AT_ONCE_SHARE, AT_ONCE_S)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._allocators: defaultdict[str, SlotAllocator[EngineStream]]
        self._allocators = defaultdict(SlotAllocator)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the engine; its outputs are handled on this loop."""

        def deliver(outputs: list[DeviceOutput]) -> None:
            with self._lock:
                self._delivered += outputs
                wake, self._woken = not self._woken, True
            if wake:
                with suppress(RuntimeError):  # the loop is closed: the server stops
                    loop.call_soon_threadsafe(receive)

        def receive() -> None:
            try:
                self.receive(self._take_delivered())
            finally:
                if self._must_go_on():
                    loop.call_soon(receive)

        def wake() -> None:
            loop.call_soon(self.frontend.flush)

        self._loop = loop
        self.frontend.wake = wake
        self.frontend.link.start(deliver)

    @property
    def capacity(self) -> int:
        """How many streams of a model may be open at one time."""
        return self._capacity

    def open_streams(self, model: str) -> int:
        """Return how many streams of a model are open."""
        return self._open[model]

    def swapped_out(self, model: str) -> int:
        """Return how many streams of a model have no slot."""
        return self._open[model] - self.frontend.slots_used(model)

    def open(
        self,
        model: str,
        half_life_ms: float,
        handler: OutputHandler,
        row: RowState | None = None,
    ) -> EngineStream:
        """Begin a stream, or continue one from its row.

        Raises:
            EngineError: Unknown model, not ready, failed, or too many streams.
        """
        stream = EngineStream(self, model, half_life_ms, handler, row)
        if self._open[model] >= self._capacity:
            raise SlotsExhausted(model, self._capacity)
        with suppress(SlotsExhausted):
            self._swap_in(stream)
        self._open[model] += 1
        self.request_slot(stream)
        return stream

    def handler_of(self, lease: Lease) -> OutputHandler | None:
        """Return what receives the outputs of a lease, if it is a stream's here."""
        stream = self._resident.get(lease)
        return None if stream is None else stream.handler

    def _take_delivered(self) -> list[DeviceOutput]:
        """Take what the device thread has delivered."""
        with self._lock:
            outputs, self._delivered = self._delivered, []
            return outputs

    def _must_go_on(self) -> bool:
        """Return whether outputs wait; otherwise the next ones wake the event loop."""
        with self._lock:
            self._woken = bool(self._turns or self._delivered)
            return self._woken

    def lose_engine(self, error: EngineError) -> None:
        """Fail every stream that has a slot, since the engine has lost its rows."""
        while self._turns:
            self.handle(self._turns.take())
        self.handle(self.frontend.restart(error))

    def receive(self, outputs: list[DeviceOutput]) -> None:
        """Take the device thread's outputs, and handle as many as a turn allows."""
        turns = self._turns
        turns.add(self.frontend.receive(outputs))
        until_s, most = time.monotonic() + TURN_S, turns.taken + ALONE_TICKS
        while turns and turns.taken < most and time.monotonic() < until_s:
            self.handle(turns.take())

    def handle(self, outputs: list[EngineOutput]) -> None:
        """Pass outputs on to their streams."""
        for output in outputs:
            stream = self._resident.get(output.lease)
            if stream is None:
                self._turns.forget(output.lease)  # it has ended before
            else:
                stream.handle(output)
        for model in [*self._allocators]:
            self._assign_slots(model)

    # From here on, called by the streams.

    def request_slot(self, stream: EngineStream) -> None:
        """Give a stream a slot as soon as there is one, if the stream needs it."""
        if stream.needs_slot:
            self._allocators[stream.model].enqueue(stream)
            self._assign_slots(stream.model)

    def submit(
        self, lease: Lease, chunk: TakenChunk, quiet: RecentTicks | None
    ) -> TickScores | None:
        """Give the engine a stream's events, or have a few ticks scored here at once.

        Streams that have much keep the device thread busy; so a part of this thread's
        time goes to those that have little, and would wait behind them.

        Args:
            lease: The stream's.
            chunk: The events.
            quiet: What the stream had, if nothing of it is under way.

        Returns:
            The scores of the chunk's ticks, where they were scored here.
        """
        at_once, began_s = False, 0.0
        if quiet is not None and self._loop is not None:
            began_s = time.monotonic()
            at_once = self._may_score(quiet, began_s)
        scores = self.frontend.submit(lease, chunk, at_once=at_once)
        if scores is not None and self._loop is not None:
            ended_s = time.monotonic()
            self._own_time.took(ended_s - began_s, ended_s)
            self._turns.count(lease, len(scores.t_us))
            self._loop.call_soon(self._resident[lease].deliver)
        return scores

    def _may_score(self, quiet: RecentTicks, now_s: float) -> bool:
        """Return whether this thread may score ticks of a stream itself."""
        return self._own_time.allows(now_s) and self.shares.has_little(quiet, now_s)

    def hurry(self) -> None:
        """Send what waits before the event loop's turn ends, if not just done.

        Called for a stream that had nothing to score: one that asks for little must
        not wait for what others have in this turn.
        """
        now_s = time.monotonic()
        if now_s - self._hurried_s > HURRY_S:
            self._hurried_s = now_s
            self.frontend.flush()

    def touch(self, stream: EngineStream) -> None:
        """Record that events of a resident stream have come."""
        self._allocators[stream.model].touch(stream)

    def replace_lease(self, stream: EngineStream, old: Lease) -> None:
        """Enter a resident stream under its new lease."""
        assert stream.lease is not None
        del self._resident[old]
        self._turns.forget(old)
        self._resident[stream.lease] = stream

    def free_slot(self, stream: EngineStream) -> None:
        """Free a stream's slot, if it has one."""
        lease = stream.lease
        self._allocators[stream.model].remove(stream)
        if lease is not None:
            del self._resident[lease]
            self._turns.forget(lease)
            stream.lease = None
            self.frontend.release(lease)

    def close(self, stream: EngineStream) -> None:
        """Remove a stream."""
        self.free_slot(stream)
        self._assign_slots(stream.model)
        self._open[stream.model] -= 1
        if not self._open[stream.model]:  # perhaps the last of an old version
            del self._open[stream.model]
            self._allocators.pop(stream.model, None)

    def _assign_slots(self, model: str) -> None:
        """Give free slots to streams that wait, and begin to swap others out."""
        allocator = self._allocators.get(model)
        if allocator is None or not allocator.waiting:
            return
        with suppress(SlotsExhausted):
            while (stream := allocator.next()) is not None:
                self._swap_in_or_fail(stream)
        for stream in allocator.victims():
            stream.begin_swap_out()

    def _swap_in_or_fail(self, stream: EngineStream) -> None:
        try:
            self._swap_in(stream)
        except SlotsExhausted:
            raise
        except EngineError as error:
            self._allocators[stream.model].remove(stream)
            stream.handler.failed(error)

    def _swap_in(self, stream: EngineStream) -> None:
        self._resident[stream.swap_in()] = stream
        self._allocators[stream.model].assign(stream)
