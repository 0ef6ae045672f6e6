"""What a client has sent, and how much of it is consumed.

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
    """The frames of one session, from their arrival until they are consumed.

    An event is consumed when it is scored, in the open tick, or dropped and next in
    line. A frame is acknowledged when all its events are, and so is every frame before
    it. What a frame never gives the engine (events that a crop leaves out, a refused
    frame) is consumed with what came before.

    Its memory is bounded by the events that wait: frames that add none share an
    entry with the one before.

    `dropped` counts events that were dropped, whether they are acknowledged yet or
    not; None where the client's policy drops none.
    """

    def __init__(self) -> None:
        self.sent = Counts()
        self.acked = Counts()
        self.durable_seq = 0
        self.dropped: int | None = None
        self._told = Ack(0, 0, 0)
        self._kept = 0
        self._waiting: deque[tuple[int, Counts]] = deque()

    @classmethod
    def resume(cls, sent: Counts, acked: Counts, kept: int) -> Ledger:
        """Go on as another ledger, whose frames under way are now settled at once."""
        ledger = cls()
        ledger.sent, ledger.acked, ledger._kept = sent, acked, kept
        ledger.durable_seq = sent.seq
        if acked != sent:
            ledger._waiting.append((kept, sent))
        return ledger

    @property
    def kept(self) -> int:
        """How many events were taken in since the session began."""
        return self._kept

    @property
    def pending(self) -> Counts:
        """What is sent and not acknowledged; its `seq` is a number of frames."""
        return Counts(*(s - a for s, a in zip(self.sent, self.acked, strict=True)))

    def add(self, *, events: int, size: int, kept: int) -> None:
        """Enter the next frame.

        Args:
            events: How many events it holds, as the sender counts.
            size: How many bytes of `data`.
            kept: How many of its events are for the engine.
        """
        seq, sent_events, sent_bytes = self.sent
        self.sent = Counts(seq + 1, sent_events + events, sent_bytes + size)
        self._kept += kept
        if self._waiting and self._waiting[-1][0] == self._kept:
            self._waiting.pop()
        self._waiting.append((self._kept, self.sent))

    def drop(self, events: int) -> None:
        """Note that events were dropped to make room for newer ones."""
        assert self.dropped is not None, "the client did not choose this"
        self.dropped += events

    def settle(self, waiting: int) -> Ack | None:
        """Acknowledge what is consumed.

        Args:
            waiting: How many of the events that were taken in are
                not consumed; always the newest.

        Returns:
            The message to send, or None where there is nothing new to say.
        """
        assert 0 <= waiting <= self._kept
        consumed = self._kept - waiting
        while self._waiting and self._waiting[0][0] <= consumed:
            self.acked = self._waiting.popleft()[1]
        if self.ack() == self._told:
            return None
        self._told = self.ack()
        return self._told

    def ack(self) -> Ack:
        """Return how things stand, said before or not."""
        return Ack(*self.acked, self.durable_seq, self.dropped)
