"""What a client has to say, kept until the server cannot lose it any more."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from server.protocol.messages import ClientMessage, EventsFrame, Flush, Reset


class Entry(NamedTuple):
    """One message, and the newest frame when it was said: itself, if it is one."""

    message: ClientMessage
    seq: int
    events: int
    bytes: int


class Outgoing:
    """The messages of one session, in order: some sent, some not yet.

    A message is kept after it was sent where the session can be resumed: until a
    frame after it is durable, or a flush is answered.

    Args:
        keeps: Whether the session can be resumed.
    """

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self._sent: deque[Entry] = deque()
        self._unsent: deque[Entry] = deque()
        self._newest = Entry(Reset(0), 0, 0, 0)
        self._forgotten = self._newest
        self.kept_bytes = 0

    def say(self, message: ClientMessage, events: int = 0) -> None:
        """Add a message.

        Args:
            message: What to say.
            events: How many events a frame holds, as far as the client knows.
        """
        size = len(message.data) if isinstance(message, EventsFrame) else 0
        _, seq, all_events, all_bytes = self._newest
        entry = Entry(
            message,
            seq + isinstance(message, EventsFrame),
            all_events + events,
            all_bytes + size,
        )
        self._newest = entry
        self._unsent.append(entry)
        if self._keeps:
            self.kept_bytes += size

    def next(self) -> ClientMessage | None:
        """Take the next message to send; None where all are sent."""
        if not self._unsent:
            return None
        entry = self._unsent.popleft()
        if self._keeps:
            self._sent.append(entry)
        return entry.message

    def durable(self, seq: int) -> None:
        """Forget what the server cannot lose any more.

        A reset or a flush that came right after frame `seq` may not be part of what
        is durable; it stays until the next frame is.
        """
        while self._sent and _is_past(self._sent[0], seq):
            self._forgotten = self._sent.popleft()
            if isinstance(self._forgotten.message, EventsFrame):
                self.kept_bytes -= len(self._forgotten.message.data)

    def answered(self, flush: int) -> None:
        """Forget a flush that was answered."""
        for entry in self._sent:
            if entry.message == Flush(flush):
                self._sent.remove(entry)
                return

    def rewind(self, seq: int) -> tuple[int, int]:
        """Say again all that came after a frame; return events and bytes up to it."""
        self.durable(seq)
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        return self._forgotten.events, self._forgotten.bytes

    def resets(self) -> set[int]:
        """Return the ids of the resets that are to be said."""
        messages = (entry.message for entry in self._unsent)
        return {m.id for m in messages if isinstance(m, Reset)}


def _is_past(entry: Entry, seq: int) -> bool:
    if isinstance(entry.message, EventsFrame):
        return entry.seq <= seq
    return entry.seq < seq
