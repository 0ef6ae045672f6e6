"""Which device a session gets a slot on: the one with the fewest, unless it lags.

Plain values in, plain values out. A device's lag is predicted from the events that
this front end has under way there and the rate at which they have come back. Sessions
that share a device and are not alike would otherwise all wait for the busiest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

LAG_STEP_S: Final = 0.05
"""Devices whose predicted lags are this close count as alike."""

FORGETTING: Final = 0.9
"""The weight of what a rate was, at each return of events."""


class _Load:
    """What one front end has on one device."""

    def __init__(self) -> None:
        self.used = 0
        self.events = 0
        self._scored = 0.0
        self._took_s = 0.0
        self._since_s = 0.0

    def sent(self, events: int, now_s: float) -> None:
        if not self.events:
            self._since_s = now_s
        self.events += events

    def back(self, events: int, now_s: float) -> None:
        self._scored = FORGETTING * self._scored + events
        self._took_s = FORGETTING * self._took_s + now_s - self._since_s
        self._since_s = now_s
        self.events = max(0, self.events - events)

    @property
    def lag_s(self) -> float:
        return self.events * self._took_s / self._scored if self._scored else 0.0


class DevicePlacement:
    """Spreads the sessions of one front end over devices.

    Args:
        slots: The slots of each device, which no two devices share.
        first: The device to begin with where all are alike; front ends that begin at
            different ones do not all fill the same device.
        clock: Gives seconds.
    """

    def __init__(
        self,
        slots: Sequence[range],
        first: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first = first
        self._clock = clock
        self._loads = [_Load() for _ in slots]
        self._several = len(slots) > 1  # one device needs no prediction of its lag
        self._owners = np.zeros(max(each.stop for each in slots), np.intp)
        for device, each in enumerate(slots):
            self._owners[each.start : each.stop] = device

    def owner(self, slot: int) -> int:
        """Return the device that a slot is on."""
        return int(self._owners[slot])

    def order(self) -> list[int]:
        """Return the devices, the one that is to get the next session first."""
        return sorted(range(len(self._loads)), key=self._rank)

    def leased(self, slot: int) -> None:
        """Count a slot that a session has got."""
        self._loads[self.owner(slot)].used += 1

    def released(self, slot: int) -> None:
        """Count a slot that is free again."""
        self._loads[self.owner(slot)].used -= 1

    def sent(self, slot: int, events: int) -> None:
        """Count events of a session that are to be scored."""
        if self._several:
            self._loads[self.owner(slot)].sent(events, self._clock())

    def back(self, slots: npt.NDArray[np.int32], events: npt.NDArray[np.int32]) -> None:
        """Count events that are scored, or dropped.

        Args:
            slots: The sessions' slots, (n,).
            events: How many of each, (n,).
        """
        if not self._several:
            return
        now_s = self._clock()
        sums = np.bincount(self._owners[slots], events, len(self._loads))
        for load, count in zip(self._loads, sums.tolist(), strict=True):
            if count:
                load.back(int(count), now_s)

    def forget(self) -> None:
        """Forget what is under way: the engine has lost it."""
        for load in self._loads:
            load.events = 0

    def _rank(self, device: int) -> tuple[int, int, int, int]:
        load = self._loads[device]
        turn = (device - self._first) % len(self._loads)
        return int(load.lag_s / LAG_STEP_S), load.used, load.events, turn
