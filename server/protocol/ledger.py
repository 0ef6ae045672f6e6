"""Accounts of one session's frames: how much was sent, and how much is consumed.

The invariant, field by field: acked + pending == sent. Events that were dropped to
make room are acknowledged in their turn, like those that were scored.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from saccade.server.protocol.messages import Ack


class Counts(NamedTuple):
    """Frames, events and bytes of `data`, as their sender counts them."""

    seq: int = 0
    events: int = 0
    bytes: int = 0


class Ledger:
    """Counts one session's frames, from their arrival until they are consumed.

    An event is consumed when it is scored or in the open tick, or was dropped and no
    event before it waits. A frame is acknowledged when all its events are consumed,
    and so is every frame before it. What a frame does not give the engine (events that
    a crop leaves out, a refused frame) is consumed with what came before.

    Memory is bounded by the events that wait: frames that add none share an entry with
    the frame before.

    Attributes:
        sent: All frames.
        acked: The frames that are acknowledged.
        durable_seq: The newest frame that survives the server's end.
        kept: How many of the frames' events were for the engine.
        dropped: How many of those were dropped, acknowledged yet or not; None where
            the client's policy drops none.
        skipped: How many events were invalid and left out, acknowledged yet or not;
            None where the client did not choose that.
        token: The token of a session that was opened without one, once it has one.
    """

    def __init__(self) -> None:
        self.sent = Counts()
        self.acked = Counts()
        self.durable_seq = 0
        self.dropped: int | None = None
        self.skipped: int | None = None
        self.token: str | None = None
        self._reported: tuple[object, ...] = (self.acked, 0, (None, None, None))
        self.kept = 0
        self._waiting: deque[tuple[int, Counts]] = deque()

    @classmethod
    def resume(cls, sent: Counts, acked: Counts, kept: int) -> Ledger:
        """Go on from another ledger, whose frames under way now count as one."""
        ledger = cls()
        ledger.sent, ledger.acked, ledger.kept = sent, acked, kept
        ledger.durable_seq = sent.seq
        if acked != sent:
            ledger._waiting.append((kept, sent))
        return ledger

    @property
    def pending(self) -> Counts:
        """What is sent and not acknowledged; here `seq` is a number of frames."""
        seq, events, size = self.sent
        acked_seq, acked_events, acked_size = self.acked
        return Counts(seq - acked_seq, events - acked_events, size - acked_size)

    def add(self, *, events: int, size: int, kept: int) -> None:
        """Count the next frame.

        Args:
            events: How many events it holds, as the sender counts.
            size: How many bytes of `data`.
            kept: How many of its events are for the engine.
        """
        seq, sent_events, sent_bytes = self.sent
        self.sent = Counts(seq + 1, sent_events + events, sent_bytes + size)
        self.kept += kept
        if self._waiting and self._waiting[-1][0] == self.kept:
            self._waiting.pop()
        self._waiting.append((self.kept, self.sent))

    def drop(self, events: int) -> None:
        """Count events that were dropped to make room for newer ones."""
        assert self.dropped is not None, "the client did not choose this"
        self.dropped += events

    def skip(self, events: int) -> None:
        """Count invalid events that were left out."""
        assert self.skipped is not None, "the client did not choose this"
        self.skipped += events

    def settles(self, waiting: int) -> bool:
        """Return whether `settle` would acknowledge another frame."""
        return bool(self._waiting) and self._waiting[0][0] <= self.kept - waiting

    @property
    def next_waiting(self) -> int | None:
        """The most events that may wait for another frame to be acknowledged.

        None where no frame is unacknowledged.
        """
        return self.kept - self._waiting[0][0] if self._waiting else None

    def settle(self, waiting: int) -> Ack | None:
        """Acknowledge what is consumed.

        Args:
            waiting: How many of the events that the engine was given are not
                consumed; always the newest.

        Returns:
            The message to send, or None where it would repeat the last one.
        """
        assert 0 <= waiting <= self.kept
        consumed = self.kept - waiting
        while self._waiting and self._waiting[0][0] <= consumed:
            self.acked = self._waiting.popleft()[1]
        others = self.dropped, self.skipped, self.token
        reported = (self.acked, self.durable_seq, others)
        if reported == self._reported:
            return None
        self._reported = reported
        return self.ack()

    def ack(self) -> Ack:
        """Return the acknowledgement of the present counts, sent before or not."""
        counts = (*self.acked, self.durable_seq, self.dropped)
        return Ack(*counts, None, None, self.skipped, self.token)
