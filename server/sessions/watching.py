"""Watching a session: its events, thinned, and its newest scores, for a view of it.

A watch costs the session one entry in a list for each frame, and of many small frames
for some of them only. All else is done when the watcher's connection collects what
there is, some 30 times a second, from what has come meanwhile; the watched session
never waits, and what a watcher is too slow for is dropped, the oldest first, and
counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.clock import unwrap_sorted
from saccade.model.events.encodings.packed import OFFSET_LIMIT_US, RECORD_DTYPE
from saccade.model.tokens import TimedTokens
from saccade.server.protocol.frames import Payload
from saccade.server.protocol.messages import Open
from saccade.server.protocol.reporting import Tick, scores
from saccade.server.protocol.watching import (
    Reason,
    WatchedEvents,
    WatchedReset,
    WatchedResult,
    WatchEnded,
    Watching,
    WatchMessage,
)
from saccade.server.sessions.session import Session

PERIOD_S: Final = 1 / 30
"""The least time between two collections."""
LONGEST_BURST_S: Final = 0.25
"""Time whose unused share of the rate may be used later."""
PENDING_EVENTS: Final = 1 << 20
"""Events that may wait to be thinned; a watcher that collects has far fewer."""
PENDING_FRAMES: Final = 1 << 14
LEAST_FRAMES: Final = 16
"""Frames of one collection that are kept at least, however few events are shown."""
LEAST_CHOICE: Final = 2
"""Events that are kept at least for each that may be shown."""

Int64s = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint32]


_Frame: TypeAlias = tuple[Payload, int, int]
"""A frame as it came: packed records or events, shape (n,); what is added to a record's
offset, µs; where the clock wraps, the first event's time without wraps, µs."""


class Watch:
    """What one watcher has not collected yet of a session.

    All calls are on the event loop of the session.

    Args:
        session: The session, begun.
        max_events_per_s: The most events that the watcher is to receive.
        now_s: The time by the clock of `collect`.
    """

    def __init__(self, session: Session, max_events_per_s: int, now_s: float) -> None:
        self._session = session
        self._opening: Open = session.opening
        self._sensor = session.opening.sensor or session.model.sensor
        self._rate = max_events_per_s
        self._wraps = session.opening.clock_bits is not None
        self._collected_s = now_s
        self._most = max(max_events_per_s * LONGEST_BURST_S, 1.0)
        self._budget = self._most
        self._frames: deque[_Frame] = deque()
        self._missed = 0
        self._every = 1
        self._until_kept = self._came = self._kept = 0
        self._shown: Tick | None = None
        self._first_us = 0
        self._waiting: list[WatchMessage] = [self._beginning()]
        self._ending: Reason | None = None
        self.ended = False

    def take(self, payload: Payload, t_base_us: int, chunk: TimedTokens) -> None:
        """Take a frame that the session has taken; see `Conversation.tap`."""
        events = len(payload)
        self._came += events
        self._until_kept -= 1
        if self._until_kept > 0:
            return
        self._until_kept = self._every
        self._kept += events
        if self._wraps and len(chunk.t_us):
            self._first_us = int(chunk.t_us[0])
        self._frames.append((payload, t_base_us, self._first_us))
        while self._kept > PENDING_EVENTS or len(self._frames) > PENDING_FRAMES:
            dropped = len(self._frames.popleft()[0])
            self._kept -= dropped
            self._came -= dropped
            self._missed += dropped

    def reset(self) -> None:
        """Note that the session begins anew: what came before is not shown any more."""
        self._clear()
        self._shown = None
        self._waiting = [m for m in self._waiting if isinstance(m, Watching)]
        self._waiting.append(WatchedReset())

    def end(self, reason: Reason) -> None:
        """Note that the session is closed, or has no client here any more."""
        self._ending = self._ending or reason

    def lose(self) -> None:
        """Drop what waits, and end: the session is another server's by now."""
        self._clear()
        self._shown = self._session.newest
        self.end("away")

    def collect(self, now_s: float) -> list[WatchMessage]:
        """Return what is new since the last call, the oldest first.

        After the end of the session they include the last one, and `ended` is true.

        Args:
            now_s: Seconds, never backwards.
        """
        messages, self._waiting = self._waiting, []
        burst_s = min(now_s - self._collected_s, LONGEST_BURST_S)
        self._collected_s = now_s
        earned = self._budget + self._rate * burst_s
        self._budget = min(earned, self._most)
        if self._kept and self._budget >= 1:
            messages += self._take_events(int(self._budget))
        newest = self._session.newest
        if newest is not None and newest is not self._shown:
            self._shown = newest
            messages.append(self._result(newest))
        if self._ending is not None and not self.ended:
            self.ended = True
            messages.append(WatchEnded(self._ending))
        return messages

    def _beginning(self) -> Watching:
        model, opening = self._session.model, self._opening
        return Watching(
            self._session.handle.session,
            model.name,
            model.content_hash,
            list(model.labels),
            self._sensor,
            model.sensor,
            opening.fit,
            model.tick_events,
            self._rate,
        )

    def _result(self, tick: Tick) -> WatchedResult:
        ticks, events, t_us, logits = tick
        found = scores(logits, self._session.model.labels)
        return WatchedResult(ticks, events, t_us, *found)

    def _take_events(self, most: int) -> list[WatchMessage]:
        frames, of = [*self._frames], self._came
        t_us, pixels = thinned(frames, most, self._opening.clock_bits)
        choice = self._kept / (LEAST_CHOICE * max(self._rate * PERIOD_S, 1))
        self._every = max(1, int(self._every * min(choice, len(frames) / LEAST_FRAMES)))
        self._clear()
        if self._opening.invalid == "skip":
            t_us, pixels = self._inside(t_us, pixels)
        if not len(t_us):
            return []
        self._budget -= len(t_us)
        base_us = int(t_us.min())
        kept = t_us - base_us < OFFSET_LIMIT_US  # a pause of an hour cuts the rest off
        records = np.empty(int(kept.sum()), RECORD_DTYPE)
        records["offset_us"], records["pixel"] = (t_us - base_us)[kept], pixels[kept]
        return [WatchedEvents(base_us, records.tobytes(), of, self._missed)]

    def _clear(self) -> None:
        """Forget the frames that wait."""
        self._frames.clear()
        self._until_kept = self._came = self._kept = 0

    def _inside(self, t_us: Int64s, pixels: Pixels) -> tuple[Int64s, Pixels]:
        """Leave out the events outside the sensor, which the session skips too."""
        sensor = self._sensor
        inside = (pixels & 0xFFFF) < sensor.width
        inside &= ((pixels >> 16) & 0x7FFF) < sensor.height
        inside &= (pixels >> 31) < sensor.polarities
        return t_us[inside], pixels[inside]


def thinned(
    frames: list[_Frame], most: int, clock_bits: int | None
) -> tuple[Int64s, Pixels]:
    """Return at most so many events of some frames, evenly spaced among all.

    Args:
        frames: At least one; all records, or all events.
        most: At least 1.
        clock_bits: The clock of the events wraps after 2^clock_bits µs.

    Returns:
        Timestamps in µs, and pixels as packed records hold them, each (n,).
    """
    payloads, bases_us, firsts_us = zip(*frames, strict=True)
    ends = np.cumsum([len(payload) for payload in payloads])
    of = int(ends[-1])
    picked = np.arange(min(most, of)) * of // max(min(most, of), 1)
    t_us, pixels = _columns(_joined(payloads)[picked])
    frame_of = np.searchsorted(ends, picked, side="right")
    t_us += np.array(bases_us, np.int64)[frame_of]
    if clock_bits is not None:
        for index in np.unique(frame_of):
            of_one = frame_of == index
            t_us[of_one] = unwrap_sorted(t_us[of_one], clock_bits, firsts_us[index])
    return t_us, pixels


def _joined(payloads: Sequence[Payload]) -> Payload:
    """Return the frames' events in one array.

    To join bytes takes a tenth of the time that NumPy takes to concatenate records.
    """
    dtype = payloads[0].dtype
    if dtype == RECORD_DTYPE:
        return np.frombuffer(b"".join(each.data for each in payloads), dtype)
    return np.concatenate(payloads)


def _columns(payload: Payload) -> tuple[Int64s, Pixels]:
    """Return times, from each frame's base, and pixels as packed records hold them."""
    if payload.dtype == RECORD_DTYPE:
        return payload["offset_us"].astype(np.int64), payload["pixel"].astype(np.uint32)
    x, y, p = (payload[name].astype(np.uint32) for name in ("x", "y", "p"))
    pixels: Pixels = p << np.uint32(31) | (y & np.uint32(0x7FFF)) << np.uint32(16) | x
    return payload["t"].astype(np.int64), pixels


class Watches:
    """The watchers of one session, as its connection serves them.

    Args:
        session: The session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._all: list[Watch] = []

    def __len__(self) -> int:
        return len(self._all)

    def add(self, watch: Watch) -> None:
        """Have a watch receive the session's frames from now on."""
        self._all.append(watch)
        self._tap()

    def remove(self, watch: Watch) -> None:
        """End a watch whose watcher is gone."""
        if watch in self._all:
            self._all.remove(watch)
            self._tap()

    def reset(self) -> None:
        """Note that the session was reset."""
        for watch in self._all:
            watch.reset()

    def end(self, reason: Reason) -> None:
        """Note that the session is closed, or has no client here any more."""
        for watch in self._all:
            watch.end(reason)
        self._all.clear()
        self._tap()

    def _tap(self) -> None:
        one = self._all[0].take if len(self._all) == 1 else self._take
        self._session.conversation.tap = one if self._all else None

    def _take(self, payload: Payload, t_base_us: int, chunk: TimedTokens) -> None:
        for watch in self._all:
            watch.take(payload, t_base_us, chunk)
