"""What a client has to say, kept until the server cannot lose it any more."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from saccade.server.protocol.messages import (
    ClientMessage,
    Close,
    EventsFrame,
    Flush,
    Reset,
)


class Entry(NamedTuple):
    """One message, and the newest frame when it was said: itself, if it is one.

    `events` and `bytes` are running totals, `own` the events of the frame.
    """

    message: ClientMessage
    seq: int
    events: int
    bytes: int
    own: int = 0

    @property
    def size(self) -> int:
        """Bytes of events in it."""
        frame = self.message
        return len(frame.data) if isinstance(frame, EventsFrame) else 0

    @property
    def hollow(self) -> bool:
        """Whether it is a frame that had events once."""
        return self.own > 0 and not self.size


class SendLog:
    """The messages of one session, in order: some sent, some not yet.

    A message is kept after it was sent where the session can be resumed: until a
    frame after it is durable, or a flush is answered. A live source may let go of the
    oldest events; their frames are said nevertheless, empty, so that none is missing.

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
        self.dropped_events = 0
        """Events let go of that were never sent, or that the server has lost."""

    def say(self, message: ClientMessage, events: int = 0) -> None:
        """Add a message.

        Args:
            message: What to say.
            events: How many events a frame holds, as far as the client knows.
        """
        size = len(message.data) if isinstance(message, EventsFrame) else 0
        _, seq, all_events, all_bytes, _ = self._newest
        entry = Entry(
            message,
            seq + isinstance(message, EventsFrame),
            all_events + events,
            all_bytes + size,
            events,
        )
        self._newest = entry
        self._unsent.append(entry)
        self.kept_bytes += size

    @property
    def waits(self) -> bool:
        """Whether something is to be sent, or the last word was said."""
        return bool(self._unsent) or isinstance(self._newest.message, Close)

    def next(self) -> ClientMessage | None:
        """Take the next message to send; None where all are sent."""
        if not self._unsent:
            return None
        entry = self._unsent.popleft()
        if self._keeps:
            self._sent.append(entry)
        else:
            self.kept_bytes -= entry.size
        return entry.message

    def durable(self, seq: int) -> None:
        """Forget what the server cannot lose any more.

        A reset or a flush that came right after frame `seq` may not be part of what
        is durable; it stays until the next frame is.
        """
        while self._sent and _is_past(self._sent[0], seq):
            self._forgotten = self._sent.popleft()
            self.kept_bytes -= self._forgotten.size

    def answered(self, flush: int) -> None:
        """Forget a flush that was answered."""
        for entry in self._sent:
            if entry.message == Flush(flush):
                self._sent.remove(entry)
                return

    def hollow(self, most_bytes: int) -> list[int]:
        """Let go of the oldest events until no more than so many bytes are kept.

        First those that were sent: they are lost only if the server is, too.

        Returns:
            The frames whose events will never be sent.
        """
        never: list[int] = []
        for entries in (self._sent, self._unsent):
            for place, entry in enumerate(entries):
                if self.kept_bytes <= most_bytes:
                    return never
                if entry.size:
                    self.kept_bytes -= entry.size
                    entries[place] = entry._replace(message=_emptied(entry.message))
                    if entries is self._unsent:
                        self.dropped_events += entry.own
                        never.append(entry.seq)
        return never

    def rewind(self, seq: int) -> tuple[int, int]:
        """Say again all that came after a frame; return events and bytes up to it."""
        self.durable(seq)
        self.dropped_events += sum(entry.own for entry in self._sent if entry.hollow)
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        return self._forgotten.events, self._forgotten.bytes

    def resets(self) -> set[int]:
        """Return the ids of the resets that are to be said."""
        messages = (entry.message for entry in self._unsent)
        return {m.id for m in messages if isinstance(m, Reset)}


def _emptied(message: ClientMessage) -> EventsFrame:
    assert isinstance(message, EventsFrame)
    return EventsFrame(message.seq, b"")


def _is_past(entry: Entry, seq: int) -> bool:
    if isinstance(entry.message, EventsFrame):
        return entry.seq <= seq
    return entry.seq < seq
