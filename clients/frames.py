"""Events cut into frames that one `events` message can hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from saccade.model.events.clock import unwrap_sorted
from saccade.model.events.encodings.packed import OFFSET_LIMIT_US, RECORD_BYTES, pack
from saccade.model.events.errors import UnsortedEvents
from saccade.model.events.types import Events

FRAMES_PER_WINDOW: Final = 4
"""Frames in a full window, at least: the server consumes some while others are sent."""
ENVELOPE_BYTES: Final = 128
"""More than an `events` message needs around its `data`."""
RAW_FRAME_BYTES: Final = 1 << 16
"""A raw word may unfold into many events; the protocol advises this bound."""


class Payload(NamedTuple):
    """The content of one `events` message, without its `seq`.

    `events` is 0 for raw words, which are not decoded here.
    """

    t_base_us: int
    data: bytes
    events: int


def largest_frame(window_events: int, window_bytes: int, max_frame_bytes: int) -> int:
    """Return how many events a frame may hold under the server's limits."""
    window = min(window_events, window_bytes // RECORD_BYTES)
    by_message = (max_frame_bytes - ENVELOPE_BYTES) // RECORD_BYTES
    return max(1, min(window // FRAMES_PER_WINDOW, by_message))


def split(events: Events, largest: int) -> Iterator[Events]:
    """Cut events into frames of at most `largest` that 32-bit offsets can span, µs."""
    start = 0
    while start < len(events):
        piece = events[start : start + largest]
        piece = piece[: _spanned(piece)]
        start += len(piece)
        yield piece


def _spanned(events: Events) -> int:
    t_us = events["t"]
    if int(t_us.max()) - int(t_us.min()) < OFFSET_LIMIT_US:
        return len(events)
    span = np.maximum.accumulate(t_us) - np.minimum.accumulate(t_us)
    return int(np.argmax(span >= OFFSET_LIMIT_US))


def split_raw(data: bytes) -> Iterator[Payload]:
    """Cut a camera's own words into payloads, between words of 2 or 4 bytes."""
    for start in range(0, len(data), RAW_FRAME_BYTES):
        yield Payload(t_base_us=0, data=data[start : start + RAW_FRAME_BYTES], events=0)


class Framer:
    """Cuts one session's events into payloads, timed as the caller's clock counts.

    The wire has no time before 0. Where a session's first event is earlier, times are
    sent from that event on, and `shift_us` is what its answers lack.
    """

    def __init__(self, largest: int, clock_bits: int | None = None) -> None:
        self._largest = largest
        self._clock_bits = clock_bits
        self._newest_us: int | None = None
        self.start_us: int | None = None

    @property
    def shift_us(self) -> int:
        """The caller's timestamp of the wire's 0, µs; 0 for a clock from 0 on."""
        return min(self.start_us or 0, 0)

    def frames(self, events: Events) -> Iterator[Payload]:
        """Yield events as payloads, in order.

        Raises UnsortedEvents for an event that the wire's clock cannot reach; other
        disorder is left to the server, which refuses single frames.
        """
        if not events.size:
            return
        if self._clock_bits is not None:
            events = self._counted_on(events, self._clock_bits)
        if self.start_us is None:
            self.start_us = int(events["t"].min())
        shift_us = self.shift_us
        _check_reachable(events, shift_us)
        for piece in split(events, self._largest):
            base_us = int(piece["t"].min())
            yield Payload(base_us - shift_us, pack(piece, base_us), len(piece))

    def _counted_on(self, events: Events, bits: int) -> Events:
        counted = events.copy()
        counted["t"] = unwrap_sorted(events["t"], bits, self._newest_us)
        self._newest_us = int(counted["t"][-1])
        return counted

    def restart(self) -> None:
        """Let the next event start the clock anew."""
        self.start_us = None
        self._newest_us = None


def _check_reachable(events: Events, shift_us: int) -> None:
    early = events["t"] < shift_us
    if early.any():
        index = int(np.argmax(early))
        raise UnsortedEvents(index, int(events["t"][index]), shift_us)
