"""A session's events on their way into the engine, and how far they have come.

    frame → line (bounded, where the client chose so) → tokenizer → engine

Two policies, one path. Under `block` the engine takes everything at once, and the
client is held back. Under `drop-oldest` the engine is given a few ticks ahead of its
scores; what comes faster waits in line, and when the line is full its oldest whole
ticks are dropped. What waits behind a full engine begins with a new tick, so that no
tick has a gap inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.server.engine.models import ServedModel
from saccade.server.engine.rows import RowState
from saccade.server.protocol.conversation import Limits
from saccade.server.protocol.messages import WhenFull
from saccade.server.sessions.gaps import Gap, Gaps
from saccade.server.sessions.line import UNBOUNDED, Line, Room
from saccade.server.sessions.stream import Stream

LEAD_TICKS: Final = 64
"""More than two batches of the longest bucket, so that the device is never idle."""

ROOMS: Final[dict[WhenFull, Callable[[Limits], Room]]] = {
    "block": lambda limits: Room(),
    "drop-oldest": lambda limits: Room(
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


class Intake:
    """What one session has given the engine, and what waits for that.

    Args:
        model: The model that scores it.
        room: How much may wait.
    """

    def __init__(self, model: ServedModel, room: Room) -> None:
        self._tick_events = model.tick_events
        self._tokenizer = model.new_tokenizer()
        self._lead = room.ticks
        self._line = Line(room)
        self._gaps = Gaps()
        self._stream: Stream | None = None
        self.submitted = 0
        self.ticks = 0

    @property
    def stream(self) -> Stream:
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

    def attach(self, stream: Stream) -> None:
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
        self._gaps = Gaps(memory.behind, memory.ahead)
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
        self._gaps = Gaps()
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
