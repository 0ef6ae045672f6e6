"""What arrives from a live source, read by a thread and kept until it is taken."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Final

from saccade.model.events.types import Events

MOST_CHUNKS: Final = 64
"""Chunks that wait; beyond, the thread waits, and the source's own buffer fills."""
STOPPING_S: Final = 1.0
LOOK_EVERY_S: Final = 0.1


class Arrivals:
    """A thread that reads chunks of events, which may be taken with a time limit.

    A driver may block for as long as its camera is still, so only another thread can
    send what it has in time. The thread does not keep the program alive.
    """

    def __init__(self, chunks: Iterator[Events]) -> None:
        self._chunks = chunks
        self._queue: queue.Queue[Events | None] = queue.Queue(MOST_CHUNKS)
        self._failure: Exception | None = None
        self._ended = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._read, name="saccade-source", daemon=True
        )
        self._thread.start()

    def take(self, wait_s: float) -> list[Events] | None:
        """Return what has arrived, after waiting at most `wait_s` for the first chunk.

        Returns:
            Chunks that are not empty, in order; none if nothing came; None at the
            source's end, or at its failure (see `check`).
        """
        taken: list[Events] = []
        if not self._ended:
            with suppress(queue.Empty):
                chunk = self._queue.get(block=wait_s > 0, timeout=wait_s)
                while chunk is not None:
                    taken.append(chunk)
                    chunk = self._queue.get_nowait()
                self._ended = True
        return taken if taken or not self._ended else None

    def check(self) -> None:
        """Raise what ended the source early, if anything did."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the thread, and close the source if it returns soon."""
        self._stopped.set()
        self._thread.join(STOPPING_S)

    def _read(self) -> None:
        try:
            for chunk in self._chunks:
                if self._stopped.is_set():
                    return
                if chunk.size:
                    self._put(chunk)
        except Exception as error:
            self._failure = error
        finally:
            if isinstance(self._chunks, Generator):
                self._chunks.close()
            self._put(None)

    def _put(self, chunk: Events | None) -> None:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._queue.put(chunk, timeout=LOOK_EVERY_S)
                return
