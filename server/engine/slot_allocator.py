"""Which streams of a model have a slot, which wait for one, which give theirs up."""

from __future__ import annotations

from typing import Final, Generic, Protocol, TypeVar

QUANTUM_TICKS: Final = 256
"""Ticks that a busy stream may score before it is swapped out for one that waits."""


class SlotUser(Protocol):
    """A stream, as far as it matters for its slot."""

    ticks_resident: int
    """Ticks scored since the stream was swapped in."""

    @property
    def idle(self) -> bool:
        """Whether the stream has no whole tick to score."""

    @property
    def swapping_out(self) -> bool:
        """Whether the stream's row is on its way to the host."""


Stream = TypeVar("Stream", bound=SlotUser)


class SlotAllocator(Generic[Stream]):
    """One model's streams: which have a slot, which wait for one, which give theirs up.

    Plain values in, plain values out: nothing here moves a row.
    """

    def __init__(self) -> None:
        self._resident: dict[Stream, None] = {}  # the longest silent first
        self._waiting: dict[Stream, None] = {}  # the first to come first

    @property
    def waiting(self) -> int:
        """How many streams wait for a slot."""
        return len(self._waiting)

    def assign(self, stream: Stream) -> None:
        """Enter a stream that has a slot now."""
        self._waiting.pop(stream, None)
        self._resident[stream] = None

    def touch(self, stream: Stream) -> None:
        """Make a resident stream that has moved the last to be swapped out."""
        if stream in self._resident:
            del self._resident[stream]
            self._resident[stream] = None

    def remove(self, stream: Stream) -> None:
        """Remove a stream that has no slot any more, and needs none."""
        self._resident.pop(stream, None)
        self._waiting.pop(stream, None)

    def enqueue(self, stream: Stream) -> None:
        """Let a stream wait for a slot; one that waits already keeps its place."""
        self._waiting.setdefault(stream, None)

    def next(self) -> Stream | None:
        """Return the stream that gets the next free slot."""
        return next(iter(self._waiting), None)

    def victims(self) -> list[Stream]:
        """Return the streams to swap out for those that wait.

        Idle streams, the longest silent first; then busy ones that had their turn.
        """
        staying = [stream for stream in self._resident if not stream.swapping_out]
        idle = [stream for stream in staying if stream.idle]
        served = [
            stream
            for stream in staying
            if not stream.idle and stream.ticks_resident >= QUANTUM_TICKS
        ]
        wanted = len(self._waiting) - (len(self._resident) - len(staying))
        return (idle + served)[: max(wanted, 0)]
