"""What one connection takes of its key's allowance, and until when it is not read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from saccade.server.protocol.limit_errors import RateExceeded
from saccade.server.transport.allowance import Allowance

LONGEST_PAUSE_S: Final = 15.0
"""A client that is not read for longer would take the server for dead: a websocket
library waits 20 s for the answer to its ping."""


class Meter:
    """One connection's.

    Args:
        allowance: Its key holder's.
        clock: Seconds, never backwards.
    """

    def __init__(
        self, allowance: Allowance, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._allowance = allowance
        self._clock = clock
        self._free_s = clock()

    @property
    def pause_s(self) -> float:
        """For how long the connection is not to be read; 0 or less is not at all."""
        return self._free_s - self._clock()

    def charge(self, *, events: int = 0, size: int = 0) -> None:
        """Count what has come in; with nothing, what the key's others left behind.

        Raises:
            RateExceeded: So much that a pause would be too long.
        """
        pause_s = self._allowance.charge(events=events, size=size)
        if pause_s > LONGEST_PAUSE_S:
            raise RateExceeded(pause_s)
        self._free_s = max(self._free_s, self._clock() + pause_s)
