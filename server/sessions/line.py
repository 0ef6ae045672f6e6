"""The events of one session that the engine was not given yet.

They wait before they become tokens. So when the oldest are dropped to make room, the
next event's timestep spans the gap, and the scores are those of a stream in which the
dropped events never happened.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Final, NamedTuple

import numpy as np

from saccade.model.events.types import EVENT_DTYPE, Events

UNBOUNDED: Final = sys.maxsize


class Room(NamedTuple):
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


class Line:
    """A first-in-first-out queue of events with a bound in events and in bytes."""

    def __init__(self, room: Room) -> None:
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
