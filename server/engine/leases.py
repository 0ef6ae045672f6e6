"""Who holds which slot of one model's pool.

A slot is lent again and again; a generation tells its tenants apart. Whatever the
device thread hands back names both, so that a new tenant never sees the old one's
scores.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from saccade.server.engine.errors import SlotsExhausted, StaleLease


class Lease(NamedTuple):
    """The right to one slot of one model's pool, until released or renewed."""

    model: str
    slot: int
    generation: int


class Leases:
    """The ledger of one pool; any thread may ask."""

    def __init__(self, model: str, slots: int) -> None:
        self._model = model
        self._slots = slots
        self._free = list(range(slots - 1, -1, -1))
        self._generations = [0] * slots
        self._held: set[int] = set()
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Slots that are lent."""
        return len(self._held)

    def lend(self) -> Lease:
        """Lend a free slot.

        Raises:
            SlotsExhausted: None is free.
        """
        with self._lock:
            if not self._free:
                raise SlotsExhausted(self._model, self._slots)
            slot = self._free.pop()
            self._held.add(slot)
            return self._next_generation(slot)

    def renew(self, lease: Lease) -> Lease:
        """End a lease and lend the same slot to the same tenant.

        Raises:
            StaleLease: The lease had ended.
        """
        with self._lock:
            self._check(lease)
            return self._next_generation(lease.slot)

    def give_back(self, lease: Lease) -> None:
        """End a lease.

        Raises:
            StaleLease: The lease had ended.
        """
        with self._lock:
            self._check(lease)
            self._held.remove(lease.slot)
            self._free.append(lease.slot)

    def check(self, lease: Lease) -> None:
        """Confirm that a lease still holds.

        Raises:
            StaleLease: It does not.
        """
        with self._lock:
            self._check(lease)

    def _check(self, lease: Lease) -> None:
        current = self._generations[lease.slot]
        if lease.slot not in self._held or lease.generation != current:
            raise StaleLease(lease.slot, lease.generation)

    def _next_generation(self, slot: int) -> Lease:
        self._generations[slot] += 1
        return Lease(self._model, slot, self._generations[slot])
