"""The log of a session's outgoing messages, kept until the server cannot lose them."""

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
    """One message of the log, with the number and the totals of the frames up to it."""

    message: ClientMessage
    seq: int
    total_events: int
    total_bytes: int
    events: int = 0

    @property
    def size(self) -> int:
        """Bytes of events in the message."""
        frame = self.message
        return len(frame.data) if isinstance(frame, EventsFrame) else 0

    @property
    def emptied(self) -> bool:
        """Whether the message is a frame whose events were dropped."""
        return self.events > 0 and not self.size


class SendLog:
    """The outgoing messages of one session, in order: sent ones, then unsent ones.

    Where the session can be resumed, a message stays after it was sent: until a later
    frame is durable, or a flush is answered. A live source may drop the oldest events;
    their frames are sent nevertheless, empty, so that `seq` has no gaps.

    A session may become one that can be resumed; the frames that were sent before are
    not kept, and must be durable first.
    """

    def __init__(self, *, resumable: bool, seq: int = 0) -> None:
        self._resumable = resumable
        self._sent: deque[Entry] = deque()
        self._unsent: deque[Entry] = deque()
        self._newest = Entry(Reset(0), seq, 0, 0)
        self._discarded = self._newest
        self._unkept_seq = 0
        self.kept_bytes = 0
        self.dropped_events = 0
        """Dropped events that were never sent, or that the server has lost."""

    def append(self, message: ClientMessage, events: int = 0) -> None:
        """Add a message; `events` counts those of a frame, as far as is known."""
        size = len(message.data) if isinstance(message, EventsFrame) else 0
        before = self._newest
        self._newest = Entry(
            message,
            before.seq + isinstance(message, EventsFrame),
            before.total_events + events,
            before.total_bytes + size,
            events,
        )
        self._unsent.append(self._newest)
        self.kept_bytes += size

    @property
    def totals(self) -> tuple[int, int]:
        """Events and bytes of all frames so far, as the server counts them."""
        return self._newest.total_events, self._newest.total_bytes

    def count_from(self, events: int, size: int) -> None:
        """Begin with the totals of an earlier client's frames; before any message."""
        begun = self._newest._replace(total_events=events, total_bytes=size)
        self._newest = self._discarded = begun

    @property
    def needs_connection(self) -> bool:
        """Whether a message is unsent, or the session is to be closed."""
        return bool(self._unsent) or isinstance(self._newest.message, Close)

    def take_next(self) -> ClientMessage | None:
        """Return the next message to send, and count it as sent; None: no message."""
        if not self._unsent:
            return None
        entry = self._unsent.popleft()
        if self._resumable or not isinstance(entry.message, EventsFrame):
            self._sent.append(entry)
        else:
            self._sent.clear()
            self._discarded, self._unkept_seq = entry, entry.seq
            self.kept_bytes -= entry.size
        return entry.message

    def keep(self) -> None:
        """Keep what is sent from now on: the session can be resumed later."""
        self._resumable = True

    @property
    def complete(self) -> bool:
        """Whether the log has all that the server may lose."""
        return self._resumable and not self._unkept_seq

    def discard_durable(self, seq: int) -> None:
        """Remove what is durable once frame `seq` is.

        A reset or a flush that came right after frame `seq` may not be part of what
        is durable; it stays until the next frame is.
        """
        if seq >= self._unkept_seq:
            self._unkept_seq = 0
        while self._sent and _is_past(self._sent[0], seq):
            self._discarded = self._sent.popleft()
            self.kept_bytes -= self._discarded.size

    def discard_flush(self, request: int) -> None:
        """Remove a flush that was answered."""
        for entry in self._sent:
            if entry.message == Flush(request):
                self._sent.remove(entry)
                return

    def drop_payloads(self, most_bytes: int) -> list[int]:
        """Drop the oldest events until at most `most_bytes` are kept.

        Sent events go first: they are lost only if the server loses them, too.
        Returns the frames whose events will never be sent.
        """
        never: list[int] = []
        for entries in (self._sent, self._unsent):
            for place, entry in enumerate(entries):
                if self.kept_bytes <= most_bytes:
                    return never
                if entry.size:
                    self.kept_bytes -= entry.size
                    emptied = entry._replace(message=EventsFrame(entry.seq, b""))
                    if entries is self._unsent:
                        emptied = self._counted(emptied)
                        never.append(entry.seq)
                    entries[place] = emptied
        return never

    def rewind(self, seq: int) -> tuple[int, int]:
        """Make everything after frame `seq` unsent again.

        Returns the events and the bytes of all frames up to `seq`.
        """
        self.discard_durable(seq)
        again = [self._counted(e) if e.emptied else e for e in self._sent]
        self._unsent.extendleft(reversed(again))
        self._sent.clear()
        return self._discarded.total_events, self._discarded.total_bytes

    def _counted(self, entry: Entry) -> Entry:
        """Count the events of an emptied frame as dropped, once."""
        self.dropped_events += entry.events
        return entry._replace(events=0)

    def unsent_resets(self) -> set[int]:
        """Return the ids of the resets that are to be sent."""
        messages = (entry.message for entry in self._unsent)
        return {m.id for m in messages if isinstance(m, Reset)}


def _is_past(entry: Entry, seq: int) -> bool:
    if isinstance(entry.message, EventsFrame):
        return entry.seq <= seq
    return entry.seq < seq
