"""Where events were dropped out of a session's stream, and how many."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import numpy as np

from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.server.engine.model_registry import ServedModel
from saccade.server.engine.outputs import RowState
from saccade.server.engine.stream import EngineStream
from saccade.server.protocol.conversation import Limits
from saccade.server.protocol.messages import WhenFull


class Gap(NamedTuple):
    """So many events were dropped after so many ticks had gone on to the engine."""

    ticks: int
    events: int


class DropLog:
    """The gaps of one stream since it was opened or reset, in order.

    Only those ahead of the scores are kept one by one. All lie between two ticks.
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
        """The gaps that no scored event lies behind."""
        return tuple(self._ahead)

    def add(self, ticks: int, events: int) -> None:
        """Note that events were dropped after so many ticks."""
        if self._ahead and self._ahead[-1].ticks == ticks:
            events += self._ahead.pop().events
        self._ahead.append(Gap(ticks, events))

    def advance(self, ticks: int) -> None:
        """Note that so many ticks are scored."""
        while self._ahead and self._ahead[0].ticks < ticks:
            self.behind += self._ahead.popleft().events

    def waiting(self, ticks: int) -> int:
        """Return how many events lie in gaps behind ticks that are not scored yet."""
        return sum(gap.events for gap in self._ahead if gap.ticks > ticks)


# >>> merged from server.sessions.line
# >>> """The events of one session that the engine was not given yet.
# >>>
# >>> They wait before they become tokens. So when the oldest are dropped to make room, the
# >>> next event's timestep spans the gap, and the scores are those of a stream in which the
# >>> dropped events never happened.
# >>> """

UNBOUNDED: Final = sys.maxsize


class QueueLimits(NamedTuple):
    """How much of one session may wait, and where.

    Attributes:
        ticks: Whole ticks that the engine may be given ahead of its scores.
        events: Events that may wait behind those; the oldest give way to newer ones.
        bytes: And bytes of `data` that they came in.
    """

    ticks: int = UNBOUNDED
    events: int = UNBOUNDED
    bytes: int = UNBOUNDED


class _Frame(NamedTuple):
    """What is left of a frame, and its share of the frame's bytes."""

    events: Events
    size: int


class EventQueue:
    """A first-in-first-out queue of events with a bound in events and in bytes."""

    def __init__(self, room: QueueLimits) -> None:
        self._room = room
        self._frames: deque[_Frame] = deque()
        self._events = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._events

    @property
    def bytes(self) -> int:
        """Bytes of the frames that wait."""
        return self._bytes

    def append(self, events: Events, size: int) -> None:
        """Add a frame's events, which came in `size` bytes, at the end."""
        if len(events):
            self._frames.append(_Frame(events, size))
            self._events += len(events)
            self._bytes += size

    def take(self, most: int) -> Events:
        """Remove the oldest events, at most so many, and return them."""
        parts: list[Events] = []
        left = min(most, self._events)
        while left:
            events, size = self._frames.popleft()
            part, rest = events[:left], events[left:]
            if len(rest):
                share = -(-size * len(rest) // len(events))
                self._frames.appendleft(_Frame(rest, share))
                size -= share
            self._bytes -= size
            self._events -= len(part)
            left -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else _joined(parts)

    def shrink(self, multiple: int) -> int:
        """Drop the oldest events until both bounds hold; return how many.

        Args:
            multiple: They are dropped so many at a time.
        """
        excess = max(self._events - self._room.events, self._excess_by_bytes())
        if excess <= 0:
            return 0
        return len(self.take(-(-excess // multiple) * multiple))

    def copy(self) -> Events:
        """Return all that waits, the oldest first."""
        return _joined([frame.events for frame in self._frames])

    def clear(self) -> None:
        """Forget all that waits."""
        self.take(self._events)

    def _excess_by_bytes(self) -> int:
        """Return how many of the oldest events make up the bytes that are too many."""
        excess, events = self._bytes - self._room.bytes, 0
        for frame in self._frames:
            if excess <= 0:
                break
            if excess < frame.size:
                return events - (-excess * len(frame.events) // frame.size)
            excess -= frame.size
            events += len(frame.events)
        return events


def _joined(parts: list[Events]) -> Events:
    return np.concatenate(parts) if parts else np.empty(0, EVENT_DTYPE)


# >>> merged from server.sessions.intake
# >>> """A session's events on their way into the engine, and how far they have come.
# >>>
# >>>     frame → line (bounded, where the client chose so) → tokenizer → engine
# >>>
# >>> Two policies, one path. Under `block` the engine takes everything at once, and the
# >>> client is held back. Under `drop-oldest` the engine is given a few ticks ahead of its
# >>> scores; what comes faster waits in line, and when the line is full its oldest whole
# >>> ticks are dropped. What waits behind a full engine begins with a new tick, so that no
# >>> tick has a gap inside.
# >>> """

LEAD_TICKS: Final = 64
"""More than two batches of the longest bucket, so that the device is never idle."""

ROOMS: Final[dict[WhenFull, Callable[[Limits], QueueLimits]]] = {
    "block": lambda limits: QueueLimits(),
    "drop-oldest": lambda limits: QueueLimits(
        LEAD_TICKS, limits.window_events, limits.window_bytes
    ),
}


class IntakeMemory(NamedTuple):
    """All that another intake needs to go on from here, but for the engine's row.

    Attributes:
        newest: What the tokenizer remembers.
        submitted: Events given to the engine since open or reset.
        line: Events that were not.
        line_bytes: Bytes of the frames that those came in.
        behind: Dropped events before the newest scored one.
        ahead: The gaps after it.
    """

    newest: Events = np.empty(0, EVENT_DTYPE)
    submitted: int = 0
    line: Events = np.empty(0, EVENT_DTYPE)
    line_bytes: int = 0
    behind: int = 0
    ahead: tuple[Gap, ...] = ()


class SessionInput:
    """What one session has given the engine, and what waits for that.

    Args:
        model: The model that scores it.
        room: How much may wait.
    """

    def __init__(self, model: ServedModel, room: QueueLimits) -> None:
        self._tick_events = model.tick_events
        self._tokenizer = model.new_tokenizer()
        self._lead = room.ticks
        self._line = EventQueue(room)
        self._gaps = DropLog()
        self._stream: EngineStream | None = None
        self.submitted = 0
        self.ticks = 0

    @property
    def stream(self) -> EngineStream:
        """The session's hold on the engine."""
        assert self._stream is not None
        return self._stream

    @property
    def drained(self) -> bool:
        """Whether every whole tick is scored."""
        return not len(self._line) and self.ticks == self.whole_ticks

    @property
    def whole_ticks(self) -> int:
        """Ticks that the engine was given, all their events."""
        return self.submitted // self._tick_events

    @property
    def pending(self) -> int:
        """Events in the open tick, with one that the tokenizer holds back."""
        return self.submitted % self._tick_events + self._tokenizer.held_back

    @property
    def under_way(self) -> int:
        """Events that the engine was given and has not scored."""
        return self.submitted - self.ticks * self._tick_events

    @property
    def waiting(self) -> int:
        """Events that came and are not consumed; always the newest."""
        if self.drained:
            return 0
        held = self._tokenizer.held_back
        dropped = self._gaps.waiting(self.ticks)
        return self.under_way + held + dropped + len(self._line)

    @property
    def dropped(self) -> int:
        """Events that were dropped since open or reset."""
        return self._gaps.events

    @property
    def dropped_behind(self) -> int:
        """Those of them that lie before the newest scored event."""
        return self._gaps.behind

    def attach(self, stream: EngineStream) -> None:
        """Begin to give events to the engine."""
        self._stream = stream

    def feed(self, events: Events, size: int) -> int:
        """Take a frame's events; return how many waiting ones were dropped for them."""
        self._line.append(events, size)
        self.pump()
        dropped = self._line.shrink(self._tick_events)
        if dropped:
            self._gaps.add(self.whole_ticks, dropped)
        return dropped

    def pump(self) -> None:
        """Give the engine what it has room for, and the rest of a begun tick."""
        self._submit_up_to(self.ticks + self._lead)

    def commit(self) -> None:
        """Give the engine all that waits: none of it will be dropped."""
        self._submit_up_to(UNBOUNDED)

    def scored(self) -> None:
        """Note one more scored tick."""
        self.ticks += 1
        self._gaps.advance(self.ticks)

    def memory(self) -> IntakeMemory:
        """Return what another intake needs to go on from here."""
        return IntakeMemory(
            newest=self._tokenizer.newest.copy(),
            submitted=self.submitted,
            line=self._line.copy(),
            line_bytes=self._line.bytes,
            behind=self._gaps.behind,
            ahead=self._gaps.ahead,
        )

    def recall(self, memory: IntakeMemory, ticks: int) -> None:
        """Go on where another intake was when so many ticks were scored."""
        self._tokenizer.resume(memory.newest)
        self.submitted, self.ticks = memory.submitted, ticks
        self._line.append(memory.line, memory.line_bytes)
        self._gaps = DropLog(memory.behind, memory.ahead)
        self._gaps.advance(ticks)

    def ticks_in(self, row: RowState | None, submitted: int) -> int:
        """Return how many ticks are in a row that was read after so many events."""
        waiting = 0 if row is None else len(row.waiting.tokens)
        return (submitted - waiting) // self._tick_events

    def reset(self) -> None:
        """Forget everything; scores still on their way are not delivered."""
        self.stream.reset()
        self._tokenizer.reset()
        self._line.clear()
        self._gaps = DropLog()
        self.submitted = self.ticks = 0

    def close(self) -> None:
        """Give the slot back, if there is one; a second call does nothing."""
        if self._stream is not None:
            self._stream.close()

    def _submit_up_to(self, ticks: int) -> None:
        begun = -(-self.submitted // self._tick_events)
        target = max(ticks, begun) * self._tick_events
        # Twice where the tokenizer holds back the first event that it ever sees.
        while len(self._line) and self.submitted < target:
            chunk = self._tokenizer.feed(self._line.take(target - self.submitted))
            if len(chunk.tokens):
                self.submitted += len(chunk.tokens)
                self.stream.submit(chunk)
