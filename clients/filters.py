"""Filters of a sensor's noise: background activity, and hot pixels.

Both decide event by event, in order of arrival, so that a stream may be cut anywhere.
Events outside the sensor pass: the server refuses and counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from saccade.model.events.clock import NEVER_US
from saccade.model.events.reading import Findings
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

SUPPORT_US: Final = 10_000
"""How recent a neighbour's event must be; drivers' filters have 2 to 30 ms."""
LEARN_US: Final = 1_000_000
HOT_HZ: Final = 50
HOT_RATIO: Final = 5.0
NEIGHBOURS: Final = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
THIRD_BUSIEST: Final = -3
PIECE: Final = 1 << 14
"""Events looked at together: the arrays stay in the cache."""

Mask = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]


class Filter(Protocol):
    """Decides which events of a stream pass."""

    def passing(self, events: Events) -> Mask:
        """Return which of the stream's next events pass, shape (n,)."""
        ...


class BackgroundActivity:
    """Passes events with an event at one of the 8 neighbours shortly before.

    A moving edge passes many neighbouring pixels; noise is at one pixel alone.

    Args:
        sensor: The geometry.
        support_us: The neighbour's event is younger than this, µs.

    Source:
        Delbruck 2008, "Frame-free dynamic digital vision".
    """

    def __init__(self, sensor: Sensor, support_us: int = SUPPORT_US) -> None:
        self._sensor = sensor
        self._support_us = support_us
        # A border of pixels that are always silent surrounds the sensor.
        self._row = sensor.width + 2
        pixels = (sensor.height + 2) * self._row
        self._newest_us = np.full(pixels, NEVER_US // 2, np.int64)

    def passing(self, events: Events) -> Mask:
        """Return which of the next events pass; see Filter."""
        passes = np.ones(len(events), np.bool_)
        places = np.flatnonzero(_inside(events, self._sensor))
        for begin in range(0, places.size, PIECE):
            piece = places[begin : begin + PIECE]
            passes[piece] = self._supported(events[piece])
        return passes

    def _supported(self, events: Events) -> Mask:
        t_us = events["t"].astype(np.int64)
        pixels = (events["y"].astype(np.int64) + 1) * self._row + events["x"] + 1
        since_us = t_us - self._support_us
        supported = np.zeros(t_us.size, np.bool_)
        for dy, dx in NEIGHBOURS:
            supported |= self._newest_us[pixels + dy * self._row + dx] > since_us
        alone = np.flatnonzero(~supported)
        supported[alone] = self._within(pixels, t_us, since_us, alone)
        # Of several events of a pixel the last is assigned last.
        self._newest_us[pixels] = t_us
        return supported

    def _within(
        self,
        pixels: Int64s,
        t_us: Int64s,
        since_us: Int64s,
        asked: npt.NDArray[np.intp],
    ) -> Mask:
        """Return which of the asked events have support among the events before."""
        count = t_us.size
        ranked = np.sort(pixels * count + np.arange(count))
        supported = np.zeros(asked.size, np.bool_)
        for dy, dx in NEIGHBOURS:
            neighbour = pixels[asked] + dy * self._row + dx
            before = np.searchsorted(ranked, neighbour * count + asked) - 1
            found = ranked[before]
            same = (before >= 0) & (found // count == neighbour)
            supported |= same & (t_us[found % count] > since_us[asked])
        return supported


class HotPixels:
    """Drops the events of pixels that fire steadily, whatever moves before them.

    After each second of the sensor's time, those pixels are hot until the next second
    is over that had at least 50 events in it, and 5 times as many as the third busiest
    of their 8 neighbours (so two hot neighbours hide nothing). The first second
    passes whole.
    """

    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor
        pixels = sensor.width * sensor.height
        self._counts = np.zeros(pixels, np.int64)
        self._hot = np.zeros(pixels, np.bool_)
        self._begin_us: int | None = None

    def passing(self, events: Events) -> Mask:
        """Return which of the next events pass; see Filter."""
        passes = np.ones(len(events), np.bool_)
        places = np.flatnonzero(_inside(events, self._sensor))
        if not places.size:
            return passes
        t_us = np.maximum.accumulate(events["t"][places])
        y = events["y"][places].astype(np.int64)
        pixels = y * self._sensor.width + events["x"][places]
        if self._begin_us is None:
            self._begin_us = int(t_us[0])
        begin = 0
        while begin < places.size:
            end = int(np.searchsorted(t_us, self._begin_us + LEARN_US))
            passes[places[begin:end]] = ~self._hot[pixels[begin:end]]
            self._counts += np.bincount(pixels[begin:end], minlength=self._counts.size)
            if end < places.size:
                self._learn(int(t_us[end]))
            begin = end
        return passes

    def _learn(self, now_us: int) -> None:
        """Find the hot pixels of the second that is over, and begin another."""
        shape = (self._sensor.height, self._sensor.width)
        around = np.pad(self._counts.reshape(shape), 1)
        rows, columns = shape
        neighbours = np.stack(
            [
                around[1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + columns]
                for dy, dx in NEIGHBOURS
            ]
        )
        third = np.partition(neighbours, THIRD_BUSIEST, axis=0)[THIRD_BUSIEST]
        steady = self._counts >= HOT_HZ * LEARN_US // 1_000_000
        self._hot = steady & (self._counts >= HOT_RATIO * third.ravel())
        self._counts[:] = 0
        self._begin_us = now_us


FILTERS: Final[Mapping[str, Callable[[Sensor], Filter]]] = {
    "noise": BackgroundActivity,
    "hotpixel": HotPixels,
}
"""The filter of each name."""


def filtered(
    chunks: Iterator[Events], name: str, sensor: Sensor, findings: Findings
) -> Iterator[Events]:
    """Pass a stream through the named filter; what it drops is counted."""
    chosen = FILTERS[name](sensor)
    for events in chunks:
        passes = chosen.passing(events)
        kept = events[passes]
        if kept.size < events.size:
            findings.skipped[f"events ({name})"] += events.size - kept.size
        yield kept


def _inside(events: Events, sensor: Sensor) -> Mask:
    inside: Mask = (events["x"] < sensor.width) & (events["y"] < sensor.height)
    return inside
