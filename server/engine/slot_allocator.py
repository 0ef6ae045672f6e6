"""Which streams of one model hold a slot, which wait for one, and who gives way.

Streams may outnumber slots. One that has nothing to score needs none: its row goes
ashore, into the host's memory, as soon as another has. Where all are busy they take
turns, so that none waits for another's end.
"""

from __future__ import annotations

from typing import Final, Generic, Protocol, TypeVar

QUANTUM_TICKS: Final = 256
"""What a busy stream may score before it gives way to one that waits."""


class SlotUser(Protocol):
    """A stream, as far as its berth is concerned."""

    @property
    def idle(self) -> bool:
        """Whether it has no whole tick to score."""

    @property
    def served(self) -> int:
        """Ticks scored since it came aboard."""

    @property
    def leaving(self) -> bool:
        """Whether it is on its way ashore already."""


G = TypeVar("G", bound=SlotUser)


class SlotAllocator(Generic[G]):
    """The guests of one model; plain values in, plain values out."""

    def __init__(self) -> None:
        self._aboard: dict[G, None] = {}  # the longest silent first
        self._waiting: dict[G, None] = {}  # the first to come first

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    def take(self, guest: G) -> None:
        """Note that a guest has a slot now."""
        self._waiting.pop(guest, None)
        self._aboard[guest] = None

    def stir(self, guest: G) -> None:
        """Note that a guest has moved: others give way before it."""
        if guest in self._aboard:
            del self._aboard[guest]
            self._aboard[guest] = None

    def leave(self, guest: G) -> None:
        """Note that a guest has no slot any more, and wants none."""
        self._aboard.pop(guest, None)
        self._waiting.pop(guest, None)

    def wait(self, guest: G) -> None:
        """Let a guest wait for a slot; it keeps its place if it does already."""
        self._waiting.setdefault(guest, None)

    def next(self) -> G | None:
        """Return who is to have the next slot."""
        return next(iter(self._waiting), None)

    def giving_way(self) -> list[G]:
        """Return who is to go ashore for those that wait.

        The longest silent first; then, where all are busy, who had its turn.
        """
        staying = [guest for guest in self._aboard if not guest.leaving]
        idle = [guest for guest in staying if guest.idle]
        tired = [
            guest
            for guest in staying
            if not guest.idle and guest.served >= QUANTUM_TICKS
        ]
        wanted = len(self._waiting) - (len(self._aboard) - len(staying))
        return (idle + tired)[: max(wanted, 0)]
