"""A queue in which those that were served least go first: start-time fair queueing.

Who waits is served from where its own service stands, but no less than where those
stand whose turn it is: nobody saves up a claim while it asks for nothing, and nobody
who asks for little waits for those that ask for much. Who was served while nobody else
asked owes nothing for it to those that come later.

Plain values in, plain values out. The algorithm is that of Goyal, Vin and Cheng,
"Start-time fair queueing", SIGCOMM 1996.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

Member = TypeVar("Member", bound=Hashable)


class FairQueue(Generic[Member]):
    """Those that wait for their turn, each once.

    Service is counted in a unit of the caller's: ticks, bytes.
    """

    def __init__(self) -> None:
        self._line: list[tuple[int, int, Member]] = []  # a heap
        self._served: dict[Member, int] = {}
        self._now = 0
        self._entered = 0
        self._alone: Member | None = None

    def __len__(self) -> int:
        return len(self._line)

    def enter(self, member: Member, ahead: int = 0) -> None:
        """Let a member wait that does not.

        Args:
            member: Who waits.
            ahead: By so much less served it counts, this time.
        """
        self._entered += 1
        served = self._served[member] = self._standing(member)
        heappush(self._line, (served - ahead, self._entered, member))

    def take(self) -> Member:
        """Remove and return the one whose turn it is; `serve` follows.

        Raises:
            IndexError: None waits.
        """
        key, _, member = heappop(self._line)
        alone = None if self._line else member
        if alone is not None and alone == self._alone:
            key = self._standing(member)
        self._now, self._alone = max(self._now, key), alone
        return member

    def serve(self, member: Member, amount: int) -> None:
        """Count what a member is served, whether or not it waited."""
        self._served[member] = self._standing(member) + amount

    def owes_none(self, member: Member) -> bool:
        """Return whether a member has had no more than those whose turn it is."""
        return self._served.get(member, 0) <= self._now

    def forget(self, member: Member) -> None:
        """Forget what a member was served; one that waits is still returned."""
        self._served.pop(member, None)

    def _standing(self, member: Member) -> int:
        return max(self._served.get(member, 0), self._now)
