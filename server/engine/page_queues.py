"""The pages that wait for the device: one first-in-first-out queue a slot."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from saccade.server.engine import host_kernels
from saccade.server.engine.host_kernels import FREE, NONE, UNUSED

FIRST_NODES: Final = 1024

Ints = npt.NDArray[np.int32]


class PageQueues:
    """Queues of page numbers, in linked nodes that all slots share.

    Args:
        slots: Slots are numbered below this.
    """

    def __init__(self, slots: int) -> None:
        ends = np.full((2, slots), NONE, np.int32)
        self._heads, self._tails = ends[0], ends[1]
        self._following = np.empty(FIRST_NODES, np.int32)
        self._pages = np.empty(FIRST_NODES, np.int32)
        self._marks = np.array([NONE, 0], np.int64)
        assert (FREE, UNUSED) == (0, 1)

    def push(self, slots: Ints, pages: Ints) -> None:
        """Append each page to its slot's queue."""
        needed = int(self._marks[UNUSED]) + len(pages)
        if needed > len(self._pages):
            self._following = _longer(self._following, 2 * needed)
            self._pages = _longer(self._pages, 2 * needed)
        host_kernels.push_pages(*self._lists, slots, pages)

    def pop(self, slots: Ints, counts: Ints) -> Ints:
        """Take the oldest `counts[i]` pages of each slot; they must be there."""
        pages = np.empty(int(counts.sum()), np.int32)
        host_kernels.pop_pages(*self._lists, slots, counts, pages)
        return pages

    @property
    def _lists(self) -> tuple[npt.NDArray[np.int64], Ints, Ints, Ints, Ints]:
        return self._marks, self._heads, self._tails, self._following, self._pages


def _longer(array: Ints, size: int) -> Ints:
    longer = np.empty(size, np.int32)
    longer[: len(array)] = array
    return longer
