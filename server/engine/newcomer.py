"""A model that joins a running engine: proven aside, taken in by the device thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from saccade.server.engine.errors import NotReady
from saccade.server.engine.pool import Pool

LOG: Final = logging.getLogger(__name__)
LIFE_SIGN_S: Final = 0.5
"""How often whoever waits for the device thread looks whether it lives."""


class Newcomer:
    """A pool that is not the device thread's yet."""

    def __init__(self, name: str, pool: Pool) -> None:
        self.name = name
        self.pool = pool
        self._settled = threading.Event()

    def prove(self) -> float:
        """Compile it and run its canary; return how many seconds that took.

        Raises:
            CanaryMismatch: A bucket computes wrong scores.
        """
        started_s = time.perf_counter()
        self.pool.prepare(lambda what: LOG.info("loading %r: %s", self.name, what))
        return time.perf_counter() - started_s

    def settle(self) -> None:
        """Say, on the device thread, that it was looked at."""
        self._settled.set()

    def wait(self, alive: Callable[[], bool]) -> None:
        """Wait until the device thread has looked at it.

        Raises:
            NotReady: That thread does not live, and never will.
        """
        while not self._settled.wait(LIFE_SIGN_S):
            if not alive():
                raise NotReady("the device thread does not run")
