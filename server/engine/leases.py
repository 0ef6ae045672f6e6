"""Leases of the slots of one model's pool.

A slot is leased to one session after another, each time under a new generation. Every
output of the device thread names slot and generation, so that no session receives the
scores of the one that had its slot before.
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
    """The leases of some slots of one pool; safe to call from any thread.

    Args:
        model: The pool's model.
        slots: The slots to lease.
    """

    def __init__(self, model: str, slots: range) -> None:
        self._model = model
        self._slots = slots
        self._free = list(reversed(slots))
        self._generations = dict.fromkeys(slots, 0)
        self._held: set[int] = set()
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Slots that are leased."""
        return len(self._held)

    def acquire(self) -> Lease:
        """Lease a free slot.

        Raises:
            SlotsExhausted: No slot is free.
        """
        with self._lock:
            if not self._free:
                raise SlotsExhausted(self._model, len(self._slots))
            slot = self._free.pop()
            self._held.add(slot)
            return self._next_generation(slot)

    def renew(self, lease: Lease) -> Lease:
        """Return a new lease of the same slot; the old one ends.

        Raises:
            StaleLease: The lease had ended.
        """
        with self._lock:
            self._check(lease)
            return self._next_generation(lease.slot)

    def release(self, lease: Lease) -> None:
        """End a lease and free its slot.

        Raises:
            StaleLease: The lease had ended.
        """
        with self._lock:
            self._check(lease)
            self._held.remove(lease.slot)
            self._free.append(lease.slot)

    def _check(self, lease: Lease) -> None:
        current = self._generations.get(lease.slot)
        if lease.slot not in self._held or lease.generation != current:
            raise StaleLease(lease.slot, lease.generation)

    def _next_generation(self, slot: int) -> Lease:
        self._generations[slot] += 1
        return Lease(self._model, slot, self._generations[slot])
