"""A session's events on their way into the engine, and how far they have come.

    tokens → queue (bounded, where the client chose so) → gaps → engine

Two policies share one path. Under `block` the engine receives everything at once, and
the client is held back. Under `drop-oldest` the engine is given a few ticks ahead of
its scores; later events wait in the queue, and when the queue is full its oldest whole
ticks are dropped. What waits in the queue begins with a new tick, so that no tick has a
gap inside.

Events wait before their gaps are counted. So when the oldest are dropped, the next
event's timestep spans the gap, and the scores are those of a stream in which the
dropped events never happened.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, get_args

import numpy as np

from saccade.model.events.types import Events
from saccade.model.tokens import NO_TOKENS, GapCounter, TimedTokens
from saccade.server.engine.client import EngineStream
from saccade.server.engine.model_registry import ServedModel
from saccade.server.engine.outputs import RowState
from saccade.server.protocol.conversation import Limits
from saccade.server.protocol.messages import WhenFull
from saccade.server.sessions.lead import MOST_TICKS

UNBOUNDED: Final = sys.maxsize


class QueueLimits(NamedTuple):
    """Bounds on what one session may have waiting.

    Attributes:
        ticks: Whole ticks that the engine may be given ahead of its scores.
        events: Events that may wait in the queue; newer ones displace the oldest.
        bytes: Bytes of `data` that those events may have come in.
    """

    ticks: int = UNBOUNDED
    events: int = UNBOUNDED
    bytes: int = UNBOUNDED


QUEUE_LIMITS: Final[dict[WhenFull, Callable[[Limits], QueueLimits]]] = {
    "block": lambda limits: QueueLimits(),
    "drop-oldest": lambda limits: QueueLimits(
        MOST_TICKS, limits.window_events, limits.window_bytes
    ),
}
assert set(QUEUE_LIMITS) == {*get_args(WhenFull)}


class _Frame(NamedTuple):
    """The events left of a frame, and their share of the frame's bytes."""

    chunk: TimedTokens
    size: int


class EventQueue:
    """A first-in-first-out queue of events with a bound in events and in bytes."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._frames: deque[_Frame] = deque()
        self.events = 0
        """Events that wait."""
        self.bytes = 0
        """Bytes of the frames that wait."""

    def __len__(self) -> int:
        return self.events

    def append(self, chunk: TimedTokens, size: int) -> None:
        """Add a frame's events, which came in `size` bytes, at the end."""
        if len(chunk.tokens):
            self._frames.append(_Frame(chunk, size))
            self.events += len(chunk.tokens)
            self.bytes += size

    def take(self, most: int) -> TimedTokens:
        """Remove the oldest events, at most so many, and return them."""
        parts = [*self._parts(most)]
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _parts(self, most: int) -> Iterator[TimedTokens]:
        """Remove the oldest events, and yield them as they came."""
        left = min(most, self.events)
        while left:
            chunk, size = self._frames.popleft()
            part = TimedTokens(chunk.tokens[:left], chunk.t_us[:left])
            rest = TimedTokens(chunk.tokens[left:], chunk.t_us[left:])
            if len(rest.tokens):
                share = -(-size * len(rest.tokens) // len(chunk.tokens))
                self._frames.appendleft(_Frame(rest, share))
                size -= share
            self.bytes -= size
            self.events -= len(part.tokens)
            left -= len(part.tokens)
            yield part

    def drop(self, most: int) -> int:
        """Remove the oldest events, at most so many; return how many."""
        return sum(len(part.tokens) for part in self._parts(most))

    @property
    def excess(self) -> int:
        """How many of the oldest events are over one of the bounds."""
        return max(self.events - self._limits.events, self._excess_by_bytes(), 0)

    def copy(self) -> TimedTokens:
        """Return all that waits, the oldest first."""
        return _joined([frame.chunk for frame in self._frames])

    def clear(self) -> None:
        """Remove all events."""
        self.drop(self.events)

    def _excess_by_bytes(self) -> int:
        """Return how many of the oldest events make up the bytes over the bound."""
        excess, events = self.bytes - self._limits.bytes, 0
        for frame in self._frames:
            if excess <= 0:
                break
            if excess < frame.size:
                return events - (-excess * len(frame.chunk.tokens) // frame.size)
            excess -= frame.size
            events += len(frame.chunk.tokens)
        return events


def _joined(parts: list[TimedTokens]) -> TimedTokens:
    if not parts:
        return NO_TOKENS
    return TimedTokens(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class Gap(NamedTuple):
    """So many events were dropped after so many ticks were given to the engine."""

    ticks: int
    events: int


class DropLog:
    """The gaps of one stream since it was opened or reset, in order.

    A gap lies between two ticks. Only those ahead of the scores are kept one by one.
    """

    def __init__(self, behind: int = 0, ahead: Iterable[Gap] = ()) -> None:
        self.behind = behind
        """Dropped events before the newest scored one."""
        self._ahead = deque(ahead)

    @property
    def events(self) -> int:
        """All dropped events."""
        return self.behind + sum(gap.events for gap in self._ahead)

    @property
    def ahead(self) -> tuple[Gap, ...]:
        """The gaps after the newest scored event."""
        return tuple(self._ahead)

    @property
    def next_ticks(self) -> int | None:
        """How many ticks lie before the first gap ahead; None where there is no gap."""
        return self._ahead[0].ticks if self._ahead else None

    def add(self, ticks: int, events: int) -> None:
        """Record that events were dropped after so many ticks."""
        if self._ahead and self._ahead[-1].ticks == ticks:
            events += self._ahead.pop().events
        self._ahead.append(Gap(ticks, events))

    def advance(self, ticks: int) -> None:
        """Record that so many ticks are scored."""
        while self._ahead and self._ahead[0].ticks < ticks:
            self.behind += self._ahead.popleft().events

    def waiting(self, ticks: int) -> int:
        """Return how many events lie in gaps behind ticks that are not scored yet."""
        if not self._ahead:
            return 0
        return sum(gap.events for gap in self._ahead if gap.ticks > ticks)


class InputState(NamedTuple):
    """All that another `SessionInput` needs to continue, but for the engine's row.

    Events without tokens come from a snapshot of an earlier version.

    Attributes:
        newest: The gap counter's state.
        submitted: Events given to the engine since open or reset.
        queued: Events that wait in the queue.
        queued_bytes: Bytes of the frames that those came in.
        behind: Dropped events before the newest scored one.
        ahead: The gaps after it.
    """

    newest: TimedTokens | Events = NO_TOKENS
    submitted: int = 0
    queued: TimedTokens | Events = NO_TOKENS
    queued_bytes: int = 0
    behind: int = 0
    ahead: tuple[Gap, ...] = ()


class SessionInput:
    """The events that one session has given the engine, and those that wait.

    Args:
        model: The model that scores the session.
        limits: How much may wait.
    """

    def __init__(self, model: ServedModel, limits: QueueLimits) -> None:
        self._tick_events = model.tick_events
        self._tokenization = model.tokenization
        self._gaps = GapCounter(model.timestep)
        self._drops_oldest = limits.ticks != UNBOUNDED
        self._lead_ticks = limits.ticks
        self._limits = limits
        self._queue = EventQueue(limits)
        self._drops = DropLog()
        self._stream: EngineStream | None = None
        self.submitted = 0
        self.ticks = 0

    @property
    def stream(self) -> EngineStream:
        """The session's stream through the engine."""
        assert self._stream is not None
        return self._stream

    @property
    def drained(self) -> bool:
        """Whether every whole tick is scored."""
        return self.ticks == self.whole_ticks and not self._queue.events

    @property
    def whole_ticks(self) -> int:
        """Ticks whose events were all given to the engine."""
        return self.submitted // self._tick_events

    @property
    def pending(self) -> int:
        """Events in the open tick, with one that waits for its gap."""
        return self.submitted % self._tick_events + self._gaps.held_back

    @property
    def unscored(self) -> int:
        """Events that the engine was given and has not scored."""
        return self.submitted - self.ticks * self._tick_events

    @property
    def ahead(self) -> int:
        """Events that came and are not scored, before those in the queue."""
        return self.unscored + self._gaps.held_back

    @property
    def droppable(self) -> int:
        """Events in the queue that make whole ticks."""
        return self._queue.events // self._tick_events * self._tick_events

    @property
    def excess(self) -> int:
        """Events of the queue, whole ticks, to drop before a flush keeps the others."""
        window = self._limits.events + self._limits.ticks * self._tick_events
        ticks = -(-max(self.ahead + self.droppable - window, 0) // self._tick_events)
        return min(ticks * self._tick_events, self.droppable)

    @property
    def waiting(self) -> int:
        """Events that came and are not consumed; always the newest."""
        return 0 if self.drained else self._still_waiting

    @property
    def _still_waiting(self) -> int:
        """The same where a whole tick is not scored."""
        dropped = self._drops.waiting(self.ticks)
        return self.ahead + dropped + self._queue.events

    def first_tick_with(self, waiting: int | None) -> float:
        """Return the next tick after whose score at most so many events may wait.

        No earlier tick needs to be looked at; infinity where none will do. A tick that
        has a gap behind it is one to look at, and so is the one after the gap.
        """
        next_tick, first = self.ticks + 1, math.inf
        if waiting is not None:
            left = self.ticks * self._tick_events + self._still_waiting - waiting
            first = max(-(-left // self._tick_events), next_tick)
            if not self._queue.events:
                first = min(first, self.whole_ticks)
        gap = self._drops.next_ticks
        return first if gap is None else max(min(first, gap), next_tick)

    @property
    def dropped(self) -> int:
        """Events that were dropped since open or reset."""
        return self._drops.events

    @property
    def dropped_behind(self) -> int:
        """Events that were dropped before the newest scored one."""
        return self._drops.behind

    def attach(self, stream: EngineStream) -> None:
        """Begin to give events to the engine."""
        self._stream = stream

    def take(self, chunk: TimedTokens, size: int) -> int:
        """Take a frame's events; return how many waiting ones were dropped for them.

        Those that may be dropped wait for `submit_ready`.
        """
        if not (self._drops_oldest or self._queue.events):
            self._submit(chunk)
            return 0
        self._queue.append(chunk, size)
        if not self._queue.excess:
            return 0
        self.submit_ready()
        ticks = -(-self._queue.excess // self._tick_events)
        return self.drop(ticks * self._tick_events)

    def hold_back(self, chunk: TimedTokens, size: int) -> None:
        """Take a frame's events, and give the engine the rest of a begun tick only."""
        self._queue.append(chunk, size)
        self._submit_up_to(0)

    def drop(self, events: int) -> int:
        """Drop the oldest events of the queue, whole ticks; return how many."""
        dropped = self._queue.drop(events)
        if dropped:
            self._drops.add(self.whole_ticks, dropped)
        return dropped

    def limit_lead(self, ticks: int) -> None:
        """Give the engine at most so many ticks ahead, where the oldest are dropped."""
        if self._drops_oldest:
            self._lead_ticks = ticks

    def submit_ready(self) -> None:
        """Give the engine what it has room for, and the rest of a begun tick."""
        self._submit_up_to(self.ticks + self._lead_ticks)

    def submit_all(self) -> None:
        """Give the engine all that waits: none of it will be dropped."""
        self._submit_up_to(UNBOUNDED)

    def scored(self, ticks: int) -> None:
        """Count so many more scored ticks."""
        self.ticks += ticks
        if self._drops_oldest:
            self._drops.advance(self.ticks)

    def export_state(self) -> InputState:
        """Return what another input needs to continue from here."""
        return InputState(
            newest=self._gaps.newest,
            submitted=self.submitted,
            queued=self._queue.copy(),
            queued_bytes=self._queue.bytes,
            behind=self._drops.behind,
            ahead=self._drops.ahead,
        )

    def import_state(self, state: InputState, ticks: int) -> None:
        """Continue where another input was when so many ticks were scored."""
        self._gaps.resume(self._timed(state.newest))
        self.submitted, self.ticks = state.submitted, ticks
        self._queue.append(self._timed(state.queued), state.queued_bytes)
        self._drops = DropLog(state.behind, state.ahead)
        self._drops.advance(ticks)

    def _timed(self, events: TimedTokens | Events) -> TimedTokens:
        if isinstance(events, TimedTokens):
            return events
        return self._tokenization.timed(events)

    @property
    def queued(self) -> int:
        """Events that wait in the queue."""
        return self._queue.events

    def ticks_in(self, row: RowState | None, submitted: int) -> int:
        """Return how many ticks are in a row that was exported after so many events."""
        waiting = 0 if row is None else len(row.waiting.tokens)
        return (submitted - waiting) // self._tick_events

    def reset(self) -> None:
        """Forget everything; scores still on their way are not delivered."""
        self.stream.reset()
        self._gaps.reset()
        self._queue.clear()
        self._drops = DropLog()
        self.submitted = self.ticks = 0

    def close(self) -> None:
        """Free the slot, if there is one; a second call does nothing."""
        if self._stream is not None:
            self._stream.close()

    def _submit_up_to(self, ticks: int) -> None:
        if not self._queue.events:
            return
        begun = -(-self.submitted // self._tick_events)
        target = max(ticks, begun) * self._tick_events
        # Twice where the gap counter holds back the first event that it ever sees.
        while self._queue.events and self.submitted < target:
            self._submit(self._queue.take(target - self.submitted))

    def _submit(self, chunk: TimedTokens) -> None:
        taken = self._gaps.take(chunk)
        events = len(taken.tokens)
        if events:
            self.submitted += events
            self.stream.submit(taken)
