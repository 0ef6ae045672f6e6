"""Pages of whole ticks, which the front end fills and the engine reads and scores.

A *page* holds one tick: its tokens, integration timesteps, last timestamp and, once the
engine has run it, the scores. The front end takes a page, fills it, submits its index,
and frees it when the scores have come. So events and scores are never copied through a
queue, and with shared memory nor from process to process.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

import numpy as np
import numpy.typing as npt

from saccade.model.tokens import (
    FollowingChunk,
    PrecedingChunk,
    TakenChunk,
    TokenChunk,
)
from saccade.server.engine import host_kernels

WORDS_A_LINE: Final = 16
"""Pages begin at a cache line of 64 bytes."""

LARGEST_BYTES: Final = 1 << 36
SMALLEST_PAGES: Final = 1024
KEPT_BYTES: Final = 1 << 25
"""Memory that an arena without pages in use keeps from the system."""


NO_CHUNK: Final = TokenChunk(
    np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.int64)
)
NO_GAPS: Final = np.empty(0, np.float32)


class OutOfPages(MemoryError):
    """Every page of an arena is in use."""


class TickArena:
    """One front end's pages for one model.

    Address space is reserved for all pages, memory only for those that were used.

    Args:
        tick_events: Events a page, T.
        classes: Scores a page, C.
        pages: How many pages there are at most.
        file: Descriptor of a memory file to hold them; None for private memory. One
            that is not empty holds another process's pages, as many as are named.

    Raises:
        OSError: There is no memory to map.
    """

    def __init__(
        self, tick_events: int, classes: int, pages: int, file: int | None = None
    ) -> None:
        self.tick_events = tick_events
        self.classes = classes
        words = 2 * tick_events + 2 + classes
        self._words = -(-words // WORDS_A_LINE) * WORDS_A_LINE
        most = LARGEST_BYTES // (4 * self._words)
        self._memory, self.pages = _reserve(4 * self._words, min(pages, most), file)
        self.words: npt.NDArray[np.int32] = np.frombuffer(
            self._memory, np.int32, self.pages * self._words
        ).reshape(self.pages, self._words)
        self.floats = self.words.view(np.float32)
        self.longs = self.words.view(np.int64)
        self._shared = file is not None
        self._unused = 0
        self._freed = np.empty(SMALLEST_PAGES, np.int32)
        self._freed_count = 0

    @property
    def used(self) -> int:
        """Pages in use."""
        return self._unused - self._freed_count

    def take(self, count: int) -> npt.NDArray[np.int32]:
        """Take pages, those freed last first.

        Raises:
            OutOfPages: There are not so many.
        """
        again = min(count, self._freed_count)
        new = count - again
        if self._unused + new > self.pages:
            raise OutOfPages(f"all {self.pages} pages are in use")
        self._freed_count -= again
        taken = self._freed[self._freed_count : self._freed_count + again]
        if not new:
            return taken.copy()
        begin, self._unused = self._unused, self._unused + new
        return np.concatenate([taken, np.arange(begin, begin + new, dtype=np.int32)])

    def free(self, pages: npt.NDArray[np.int32]) -> None:
        """Give pages back."""
        end = self._freed_count + len(pages)
        if end > len(self._freed):
            larger = np.empty(2 * end, np.int32)
            larger[: self._freed_count] = self._freed[: self._freed_count]
            self._freed = larger
        self._freed[self._freed_count : end] = pages
        self._freed_count = end
        if not self.used:
            self._forget()

    def fill(
        self,
        pages: npt.NDArray[np.int32],
        begin: int,
        chunk: TakenChunk,
    ) -> None:
        """Write events to pages, from place `begin` of the first page on."""
        dt_ms, edge_us, follows = NO_GAPS, 0, 0
        if isinstance(chunk, PrecedingChunk):
            tokens, t_us, edge_us = chunk
        elif isinstance(chunk, FollowingChunk):
            (tokens, t_us, edge_us), follows = chunk, 1
        else:
            tokens, dt_ms, t_us = chunk
            dt_ms = np.ascontiguousarray(dt_ms)
        host_kernels.fill_pages(
            self.words,
            self.floats,
            self.longs,
            pages,
            begin,
            self.tick_events,
            np.ascontiguousarray(tokens),
            dt_ms,
            np.ascontiguousarray(t_us),
            edge_us,
            follows,
        )

    def events(
        self,
        pages: npt.NDArray[np.int32],
        count: int,
        more: TokenChunk = NO_CHUNK,
    ) -> TokenChunk:
        """Return a copy of the events of pages, the last of which may hold fewer.

        A page's last timestamp is exact, those before it are as exact as the gaps.

        Args:
            pages: The pages.
            count: How many events they hold.
            more: Events to follow them in the copy.
        """
        total = count + len(more.tokens)
        tokens, dt_ms = np.empty(total, np.int32), np.empty(total, np.float32)
        t_us = np.empty(total, np.int64)
        host_kernels.read_events(
            *(self.words, self.floats, self.longs, pages, self.tick_events),
            *(tokens[:count], dt_ms[:count], t_us[:count]),
        )
        tokens[count:], dt_ms[count:], t_us[count:] = more
        return TokenChunk(tokens, dt_ms, t_us)

    def scores(
        self, pages: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], bool]:
        """Return pages' scores `(k, c)`, last timestamps `(k,)`, and if all finite."""
        logits = np.empty((len(pages), self.classes), np.float32)
        ends = np.empty(len(pages), np.int64)
        finite = host_kernels.read_scores(
            self.floats, self.longs, pages, self.tick_events, logits, ends
        )
        return logits, ends, bool(finite)

    def ends(self, pages: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Return pages' last timestamps `(k,)`."""
        ends: npt.NDArray[np.int64] = self.longs[pages, self.tick_events]
        return ends

    def _forget(self) -> None:
        """Give the memory of unused pages back to the system, beyond a little."""
        if 4 * self._words * self._unused > KEPT_BYTES:
            advice = "MADV_REMOVE" if self._shared else "MADV_DONTNEED"
            if hasattr(mmap, advice):
                self._memory.madvise(getattr(mmap, advice))
        self._unused = self._freed_count = 0


def _reserve(page_bytes: int, pages: int, file: int | None) -> tuple[mmap.mmap, int]:
    """Map memory for pages, fewer where the system does not give as much.

    Pages that another process has filled are mapped as they are.
    """
    if file is not None and os.fstat(file).st_size:
        return mmap.mmap(file, page_bytes * pages), pages
    while True:
        try:
            if file is None:
                flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
                flags |= getattr(mmap, "MAP_NORESERVE", 0)
                return mmap.mmap(-1, page_bytes * pages, flags=flags), pages
            os.ftruncate(file, page_bytes * pages)
            return mmap.mmap(file, page_bytes * pages), pages
        except (OSError, ValueError, OverflowError):
            if pages <= SMALLEST_PAGES:
                raise
            pages = max(pages // 2, SMALLEST_PAGES)
